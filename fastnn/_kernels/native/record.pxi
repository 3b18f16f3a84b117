# Recording and replaying: a `Record` is the list of kernel calls that a piece of Python made, and the memory they use.
#
# While it records, arrays that kernels allocate lie in its arena: blocks that the record owns and that a later call of
# the same recording takes over once Python has dropped the array, since a replay runs in the same order. Arrays from
# elsewhere (parameters, state, data) are kept alive; `slots` are those that a replay puts others in the place of.

cdef extern from "time.h" nogil:
    ctypedef long time_t
    cdef struct timespec:
        time_t tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec* t)
    int CLOCK_MONOTONIC

cdef struct operand_t:  # what one array of a call is
    Py_ssize_t bytes
    int slot            # of which slot it is a part, -1 for none
    Py_ssize_t offset   # from where that slot begins

cdef struct entry_t:
    call_t call
    operand_t operands[12]
    unsigned written    # bit i: array i is changed
    unsigned foreign    # bit i: array i is only read, comes from elsewhere, and may be written by others

cdef struct block_t:
    char* address
    size_t size
    bint free

cdef struct slot_t:
    char* address       # of the array that was recorded
    char* now           # of the array of this replay
    Py_ssize_t bytes

cdef struct patch_t:
    char** where
    int slot
    Py_ssize_t offset

cdef enum:
    MOST_SLOTS = 32


cdef unsigned long generation = 0  # see `changed`


def changed():
    """Note that something happened which a record may depend on: a layer, a parameter, an option or the threads."""
    global generation
    generation += 1


cdef Record recording = None  # the one that is in progress, in one thread
cdef int forks = 0            # how often this process is a fork of one that had loaded this


def _after_fork():
    """In the child no other thread lives: whatever they were recording or replaying is over."""
    global forks
    forks += 1
    if recording is not None and recording.thread != PyThread_get_thread_ident():
        recording.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


cdef inline bint records_here():
    return recording is not None and recording.thread == PyThread_get_thread_ident()


cdef uint64_t checksum(const char* p, Py_ssize_t bytes) noexcept nogil:
    """64 bits that tell two arrays apart."""
    cdef uint64_t h = <uint64_t>bytes, word
    cdef Py_ssize_t i
    for i in range(bytes // 8):
        memcpy(&word, p + 8 * i, 8)
        h = (h ^ word) * <uint64_t>0xBF58476D1CE4E5B9
        h ^= h >> 29
    word = 0
    memcpy(&word, p + bytes // 8 * 8, bytes % 8)
    h = (h ^ word) * <uint64_t>0xBF58476D1CE4E5B9
    return h ^ h >> 29


@cython.final
cdef class Record:
    """Kernel calls in the order in which they were made.

    It is filled between `start` and `stop`, in that thread and, at any time, by one record only. Afterwards `finish`
    names the slots. An array that a kernel allocated meanwhile holds the results of the last replay.
    Threads that replay the same record take turns.
    """

    cdef entry_t* entries
    cdef Py_ssize_t count, room
    cdef block_t* blocks
    cdef Py_ssize_t block_count, block_room
    cdef slot_t slots[MOST_SLOTS]
    cdef int slot_count
    cdef patch_t* patches
    cdef Py_ssize_t patch_count
    cdef unsigned long thread
    cdef list kept          # arrays from elsewhere
    cdef list before        # (address, bytes) of memory from elsewhere, as it was before the first call that changed it
    cdef list checksums     # of what each call wrote, None unless asked for
    cdef tuple like         # the arrays that were recorded in the slots
    cdef Py_ssize_t classes[MOST_SLOTS]  # labels in a slot have to be below it, 0 for no check
    cdef double* loss
    cdef int64_t* correct
    cdef PyThread_type_lock lock  # held while it is replayed
    cdef int forks                # in which process the lock was made
    cdef double losses
    cdef int64_t corrects
    cdef object where
    cdef readonly list names    #: (kernel, where it was called from) of each call
    cdef readonly str obstacle  #: why the calls cannot be replayed, None if they can
    cdef bint trusted
    cdef unsigned long since  # how many changes there had been when the record was last known to hold

    def __init__(self, where=None, bint verify=False):
        """where: called for each kernel, says from where. verify: take a checksum of everything that kernels write."""
        self.where = where
        self.kept, self.before, self.names, self.like = [], [], [], ()
        self.checksums = [] if verify else None
        self._make_lock()

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.lock != NULL:
            PyThread_free_lock(self.lock)
        for i in range(self.block_count):
            free(self.blocks[i].address)
        free(self.blocks)
        free(self.entries)
        free(self.patches)

    def __len__(self):
        return self.count

    cdef void _make_lock(self) except *:
        self.lock, self.forks = PyThread_allocate_lock(), forks
        if self.lock == NULL:
            raise MemoryError("no memory for a lock")

    cdef void _acquire(self) except *:
        """Wait until no other thread replays this record: no Python runs while one does, so that it cannot be long."""
        if self.forks != forks:  # the lock may have been held by a thread that is not here
            self._make_lock()
        if not PyThread_acquire_lock(self.lock, 0):
            with nogil:
                PyThread_acquire_lock(self.lock, 1)

    cdef void _release(self) noexcept:
        PyThread_release_lock(self.lock)

    # --- recording ----------------

    def start(self):
        """Begin; False, and nothing begins, while another record is in progress."""
        global recording
        if recording is not None or self.count:
            return False
        self.thread = PyThread_get_thread_ident()
        recording = self
        return True

    def stop(self):
        """End what `start` began."""
        global recording
        if recording is self:
            recording = None

    @staticmethod
    def is_recording():
        """Whether this thread is just recording."""
        return records_here()

    cdef char* take(self, size_t size) except NULL:
        """A block of at least `size` bytes, of the arena: a free one of just this size, else a new one."""
        cdef Py_ssize_t i
        cdef char* address = NULL
        for i in range(self.block_count):
            if self.blocks[i].free and self.blocks[i].size == size:
                self.blocks[i].free = False
                return self.blocks[i].address
        if self.block_count == self.block_room:
            self.blocks = <block_t*>grown(self.blocks, (2 * self.block_room + 32) * sizeof(block_t))
            self.block_room = 2 * self.block_room + 32
        if posix_memalign(<void**>&address, 64, size):
            raise MemoryError(f"no memory for {size} bytes")
        self.blocks[self.block_count].address, self.blocks[self.block_count].size = address, size
        self.blocks[self.block_count].free = False
        self.block_count += 1
        return address

    cdef void give(self, char* address) noexcept:
        """An array of the arena is gone: its block is free for the calls that follow, if any do."""
        cdef Py_ssize_t i
        for i in range(self.block_count):
            if self.blocks[i].address == address:
                self.blocks[i].free = True

    cdef bint owns(self, const char* address) noexcept:
        cdef Py_ssize_t i
        for i in range(self.block_count):
            if self.blocks[i].address <= address < self.blocks[i].address + self.blocks[i].size:
                return True
        return False

    cdef void perform(self, call_t* call, str name, list arrays, unsigned written) except *:
        """Run a call and append it. arrays: those that call.p points to, None where there is none."""
        cdef entry_t* entry
        cdef int i
        if self.count == self.room:
            self.entries = <entry_t*>grown(self.entries, (2 * self.room + 32) * sizeof(entry_t))
            self.room = 2 * self.room + 32
        entry = &self.entries[self.count]
        memset(entry, 0, sizeof(entry_t))
        entry.written = written
        for i in range(len(arrays)):
            entry.operands[i].slot = -1
            if arrays[i] is None:
                continue
            entry.operands[i].bytes = cnp.PyArray_NBYTES(arrays[i])
            if entry.operands[i].bytes and not self.owns(<char*>call.p[i]):
                self.kept.append(arrays[i])
                if written >> i & 1:
                    self._remember(<char*>call.p[i], entry.operands[i].bytes)
                elif cnp.PyArray_ISWRITEABLE(arrays[i]):
                    entry.foreign |= 1 << i
        execute(call)
        entry.call = call[0]
        self.count += 1
        if self.checksums is not None:
            self.checksums.append(written_by(entry))
        self.names.append((name, self.where() if self.where is not None else ""))

    cdef void _remember(self, char* address, Py_ssize_t bytes) except *:
        for start, old in self.before:
            if <size_t>address >= <size_t>start and <size_t>address + bytes <= <size_t>start + <size_t>len(old):
                return
        self.before.append((<size_t>address, address[:bytes]))

    def writes(self, cnp.ndarray a):
        """Whether one of the calls writes to where this array begins, which has to be where it wrote all of it."""
        cdef char* p = <char*>cnp.PyArray_DATA(a)
        cdef Py_ssize_t at
        cdef int i
        for at in range(self.count):
            for i in range(CALL_ARRAYS):
                if self.entries[at].written >> i & 1 and lies_in(p, self.entries[at].call.p[i], self.entries[at].operands[i].bytes):
                    return True
        return False

    def reads_beside(self, memory):
        """The number of the first call that reads an array which is in no slot, in none of the arrays of `memory`, not
        read-only, and not written by any of the calls; None if none does.
        """
        cdef Py_ssize_t at
        cdef int i
        cdef bint known
        cdef char* p
        for at in range(self.count):
            for i in range(CALL_ARRAYS):
                if not self.entries[at].foreign >> i & 1 or self.entries[at].operands[i].slot >= 0:
                    continue
                p = <char*>self.entries[at].call.p[i]
                known = False
                for a in memory:
                    known = known or lies_in(p, cnp.PyArray_DATA(a), cnp.PyArray_NBYTES(a))
                for address, old in self.before:
                    known = known or lies_in(p, <void*><size_t>address, len(old))
                if not known:
                    return at
        return None

    def trust(self):
        """The calls are known to be those that Python would make now, until something changes."""
        self.trusted, self.since = True, generation

    @property
    def memory(self):
        """How much memory it keeps."""
        cdef Py_ssize_t i, total = 0
        for i in range(self.block_count):
            total += self.blocks[i].size
        return total

    @property
    def holds(self):
        """Whether the calls are known to be those that Python would make now."""
        return self.trusted and self.since == generation

    def refuse(self, str obstacle):
        """Say why these calls cannot be replayed."""
        if self.obstacle is None:
            self.obstacle = obstacle

    def finish(self, tuple slots, tuple classes=(), loss=None, correct=None):
        """Name the arrays in whose place a replay puts others of the same shape, dtype and strides.

        classes: for each slot, the number that labels in it are checked to be below, 0 for no check; () for none at all.
        loss (1,) float64, correct (1,) int64: what a replay adds up.
        """
        cdef int s, i
        cdef Py_ssize_t at
        cdef cnp.ndarray a
        if len(slots) > MOST_SLOTS:
            raise ValueError(f"a record has {MOST_SLOTS} slots at most, got {len(slots)}")
        self.like, self.slot_count = slots, len(slots)
        for s in range(self.slot_count):
            a = slots[s]
            self.classes[s] = classes[s] if classes else 0
            self.slots[s].address = self.slots[s].now = <char*>cnp.PyArray_DATA(a)
            self.slots[s].bytes = cnp.PyArray_NBYTES(a)
        self.loss = NULL if loss is None else <double*>cnp.PyArray_DATA(loss)
        self.correct = NULL if correct is None else <int64_t*>cnp.PyArray_DATA(correct)
        self.patches = <patch_t*>grown(self.patches, (CALL_ARRAYS * self.count + 1) * sizeof(patch_t))
        self.patch_count = 0
        for at in range(self.count):
            for i in range(CALL_ARRAYS):
                if self.entries[at].operands[i].bytes:
                    self._find_slot(&self.entries[at].operands[i], <char**>&self.entries[at].call.p[i])

    cdef void _find_slot(self, operand_t* operand, char** where):
        cdef int s
        for s in range(self.slot_count):
            if self.slots[s].address <= where[0] < self.slots[s].address + self.slots[s].bytes:
                operand.slot, operand.offset = s, where[0] - self.slots[s].address
                self.patches[self.patch_count] = patch_t(where, s, operand.offset)
                self.patch_count += 1
                return

    # --- replaying ----------------

    def call(self, tuple arrays):
        """Replay once with these arrays in the slots; returns the loss (NaN without one).

        None, and nothing is done, where the arrays do not fit the slots, the record is no longer known to hold, or these
        calls are themselves being recorded.
        """
        cdef double loss = NAN
        self._acquire()
        try:
            if not self._begin(arrays):
                return None
            with nogil:
                self._replay(1, NULL, 0, NULL)
                if self.loss != NULL:
                    loss = self.loss[0]
            return loss
        finally:
            self._release()

    cdef bint _begin(self, tuple arrays) except -1:
        """Put the arrays into the slots; False where they do not fit, or it is no time to."""
        cdef int s
        if not self.trusted or self.since != generation or records_here() or len(arrays) != self.slot_count:
            return False
        for s in range(self.slot_count):
            if not alike(arrays[s], self.like[s]):
                return False
        for s in range(self.slot_count):
            if self.classes[s] and not all_below(arrays[s], self.classes[s]):
                return False
        for s in range(self.slot_count):
            self.slots[s].now = <char*>cnp.PyArray_DATA(arrays[s])
        return True

    def compute(self, tuple arrays, tuple results):
        """As `call`, but returns copies of `results`, arrays that the replay writes."""
        cdef list copies = []
        self._acquire()
        try:
            if not self._begin(arrays):
                return None
            with nogil:
                self._replay(1, NULL, 0, NULL)
            for result in results:
                copies.append(cnp.PyArray_NewCopy(result, cnp.NPY_KEEPORDER))
            return tuple(copies)
        finally:
            self._release()

    def run(self, tuple arrays, tuple strides, Py_ssize_t steps, double seconds, double losses=0, weights=None):
        """Replay up to so many steps, without the GIL, until the time is over, 0 for no end.

        arrays: those of the first step; strides: by how many bytes each moves from step to step.
        weights: contiguous float64, one for each step; None for ones.
        Returns the steps done, `losses` plus each loss times its weight, and the sum of what is correct.
        The caller has made sure that the arrays fit, and go on far enough, and that the record holds.
        """
        cdef Py_ssize_t stride[MOST_SLOTS]
        cdef Py_ssize_t done
        cdef double* weight = NULL if weights is None else <double*>cnp.PyArray_DATA(weights)
        cdef int s
        if weights is not None and cnp.PyArray_SIZE(weights) < steps:
            raise ValueError(f"expected {steps} weights, got {len(weights)}")
        if len(arrays) != self.slot_count or len(strides) != self.slot_count:
            raise ValueError(f"expected {self.slot_count} arrays and strides, got {len(arrays)} and {len(strides)}")
        self._acquire()
        try:
            for s in range(self.slot_count):
                stride[s] = strides[s]
                self.slots[s].now = <char*>cnp.PyArray_DATA(arrays[s])
            with nogil:
                self.losses = losses
                done = self._replay(steps, stride, seconds, weight)
            return done, self.losses, self.corrects
        finally:
            self._release()

    def times(self, tuple arrays):
        """Replay once, as `call`; returns the seconds that each call took, None where it is no time to replay."""
        cdef list found = []
        cdef Py_ssize_t i
        cdef double start
        self._acquire()
        try:
            if not self._begin(arrays):
                return None
            self._fill_slots()
            for i in range(self.count):
                start = now()
                execute(&self.entries[i].call)
                found.append(now() - start)
            return found
        finally:
            self._release()

    cdef inline void _fill_slots(self) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.patch_count):
            self.patches[i].where[0] = self.slots[self.patches[i].slot].now + self.patches[i].offset

    cdef Py_ssize_t _replay(self, Py_ssize_t steps, const Py_ssize_t* stride, double seconds, const double* weights) noexcept nogil:
        cdef Py_ssize_t step = 0, i
        cdef int s
        cdef double until = now() + seconds if seconds > 0 else 0
        cdef unsigned long saved = flush_denormals()
        self.corrects = 0
        while step < steps:
            self._fill_slots()
            for i in range(self.count):
                self.entries[i].call.fn(self.entries[i].call.p[0], &self.entries[i].call)
            if self.loss != NULL:
                if weights == NULL:
                    self.losses += self.loss[0]
                elif weights[step] != 0:  # the mean of what weighs nothing is NaN
                    self.losses += self.loss[0] * weights[step]
            if self.correct != NULL:
                self.corrects += self.correct[0]
            step += 1
            if step < steps:
                for s in range(self.slot_count):
                    self.slots[s].now += stride[s]
                if until and now() > until:
                    break
        restore_denormals(saved)
        return step

    # --- verifying ----------------

    @staticmethod
    def undo(list records):
        """Put back what all these records changed, the last one first, with no way for Ctrl-C to come in between."""
        cdef Record record
        for record in reversed(records):
            record.restore()

    def copy_changed(self):
        """What memory from elsewhere that the calls changed holds now, for `restore`."""
        return [(address, (<char*><size_t>address)[:len(old)]) for address, old in self.before]

    def restore(self, memory=None):
        """Make memory from elsewhere that the calls changed hold what it did at a `copy_changed`, or before the calls."""
        cdef bytes old
        for address, old in reversed(self.before if memory is None else memory):  # a part may have been kept before the whole
            memcpy(<char*><size_t>address, <char*>old, len(old))

    def rehearse(self, tuple arrays):
        """Replay once on `arrays` with everything in the arena forgotten; returns a checksum of what each call wrote."""
        cdef Py_ssize_t i
        cdef int s
        cdef list found = []
        if len(arrays) != self.slot_count:
            raise ValueError(f"expected {self.slot_count} arrays, got {len(arrays)}")
        self._acquire()
        try:
            for i in range(self.block_count):
                memset(self.blocks[i].address, 0xFF, self.blocks[i].size)  # NaN
            for s in range(self.slot_count):
                self.slots[s].now = <char*>cnp.PyArray_DATA(arrays[s])
            self._fill_slots()
            for i in range(self.count):
                execute(&self.entries[i].call)
                found.append(written_by(&self.entries[i]))
            return found
        finally:
            self._release()

    def difference(self, Record witness, list rehearsed):
        """The first call in which a `rehearse` differs from `witness`, the record of the same run from Python, made with
        `verify`; None if they agree to the bit.
        """
        cdef Py_ssize_t i
        for i in range(min(self.count, witness.count)):
            if not self._same_call(&self.entries[i], witness, &witness.entries[i]) or rehearsed[i] != witness.checksums[i]:
                return i
        return None if self.count == witness.count else min(self.count, witness.count)

    cdef bint _same_call(self, const entry_t* a, Record witness, const entry_t* b):
        """Whether two calls run the same kernel on arrays of the same kind: slots, the arena, or the same from elsewhere."""
        cdef int i
        if (a.call.fn != b.call.fn or a.call.add != b.call.add or a.written != b.written
                or memcmp(a.call.n, b.call.n, sizeof(a.call.n)) or memcmp(a.call.f, b.call.f, sizeof(a.call.f))):
            return False
        for i in range(CALL_ARRAYS):
            if (a.operands[i].bytes != b.operands[i].bytes or a.operands[i].slot != b.operands[i].slot
                    or a.operands[i].offset != b.operands[i].offset):
                return False
            if not a.operands[i].bytes or a.operands[i].slot >= 0:
                continue
            if self.owns(<char*>a.call.p[i]) != witness.owns(<char*>b.call.p[i]):
                return False
            if not self.owns(<char*>a.call.p[i]) and a.call.p[i] != b.call.p[i]:
                return False
        return True


cdef inline bint lies_in(const void* p, const void* start, Py_ssize_t bytes) noexcept nogil:
    return <const char*>start <= <const char*>p < <const char*>start + bytes


cdef void* grown(void* p, size_t bytes) except NULL:
    cdef void* larger = realloc(p, bytes)
    if larger == NULL:
        raise MemoryError(f"no memory for {bytes} bytes")
    return larger


cdef double now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec + 1e-9 * t.tv_nsec


cdef object written_by(const entry_t* entry):
    """A checksum of all that a call wrote."""
    cdef uint64_t total = 0
    cdef int i
    for i in range(CALL_ARRAYS):
        if entry.written >> i & 1 and entry.operands[i].bytes:
            total = total * 31 + checksum(<char*>entry.call.p[i], entry.operands[i].bytes)
    return total


cdef bint alike(object x, cnp.ndarray like):
    """Whether x is an array of the same shape, dtype and strides, and aligned."""
    cdef cnp.ndarray a
    cdef int i
    if not isinstance(x, cnp.ndarray):
        return False
    a = x
    if (not cnp.PyArray_EquivTypenums(cnp.PyArray_TYPE(a), cnp.PyArray_TYPE(like)) or cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(like)
            or not cnp.PyArray_ISALIGNED(a) or not cnp.PyArray_ISNOTSWAPPED(a)):
        return False
    for i in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIM(a, i) != cnp.PyArray_DIM(like, i):
            return False
        if cnp.PyArray_STRIDE(a, i) != cnp.PyArray_STRIDE(like, i) and cnp.PyArray_DIM(a, i) != 1:
            return False
    return True


cdef bint all_below(cnp.ndarray labels, Py_ssize_t classes):
    """Whether labels, contiguous int64, are all from 0 to classes-1."""
    cdef const int64_t* label = <const int64_t*>cnp.PyArray_DATA(labels)
    cdef Py_ssize_t i
    cdef bint fits = True
    for i in range(cnp.PyArray_SIZE(labels)):
        fits = fits and 0 <= label[i] < classes
    return fits

/* Recurrent layers, for one type T (see tiles.h): all steps of one direction.
 *
 * A task is a block of sequences, from their first step to their last: no task waits for another between steps. The
 * weights, which every step reads, are packed once, in panels that the first-level cache holds. Sequences are sorted by
 * length, so that at each step those that go on are the first rows of their block.
 */
#ifndef FASTNN_RECURRENCE_ONCE
#define FASTNN_RECURRENCE_ONCE
enum { CELL_TANH, CELL_RELU, CELL_IDENTITY, CELL_GRU, CELL_LSTM }; /* as CELLS in table/recurrence.py */
enum { PANEL_STEPS = 128 }; /* along a panel of weights, as wide as the widest tile: 32 KB, for the first-level cache */
static const ptrdiff_t cell_gates[] = {1, 1, 1, 3, 4}, cell_states[] = {1, 1, 1, 1, 2}, cell_kept[] = {1, 1, 1, 4, 6};

/* What a call is about. N sequences, in `blocks`; sequence `order[i]` is the i-th longest and has steps[i]. */
typedef struct {
    ptrdiff_t N, steps, H, G, S, K, cell, batch_first, reverse, blocks;
    int64_t *order, *length;
} recurrence_t;

INLINE recurrence_t recurrence_of(const call_t *c, ptrdiff_t size) {
    const ptrdiff_t H = c->n[2], cell = c->n[3], batch_first = c->n[4] != 0;
    recurrence_t r = {.N = c->n[batch_first ? 0 : 1], .steps = c->n[batch_first ? 1 : 0], .H = H, .cell = cell,
                      .G = cell_gates[cell] * H, .S = cell_states[cell] * H, .K = cell_kept[cell] * H,
                      .batch_first = batch_first, .reverse = c->n[5] != 0};
    r.blocks = r.N < 16 ? r.N > 0 : 2 * ((r.N + 63) / 64);
    r.order = (int64_t *)(c->shared + (r.G * H * size + 63) / 64 * 64);
    r.length = r.order + r.N;
    return r;
}

/* The sequences from the longest to the shortest, equal ones in their order; lengths may be anything. */
INLINE void sort_by_length(const recurrence_t *r, const int64_t *lengths) {
    int64_t *begin = r->length + r->N; /* by what a length lacks of all steps, where such sequences begin */
#define LACKS(n) (lengths[n] < 0 ? r->steps : lengths[n] > r->steps ? 0 : r->steps - lengths[n])
    if (!lengths) {
        for (ptrdiff_t n = 0; n < r->N; n++) r->order[n] = n, r->length[n] = r->steps;
        return;
    }
    memset(begin, 0, (r->steps + 2) * sizeof *begin);
    for (ptrdiff_t n = 0; n < r->N; n++) begin[LACKS(n) + 1]++;
    for (ptrdiff_t lack = 0; lack <= r->steps; lack++) begin[lack + 1] += begin[lack];
    for (ptrdiff_t n = 0; n < r->N; n++) {
        const ptrdiff_t lack = LACKS(n), i = begin[lack]++;
        r->order[i] = n, r->length[i] = r->steps - lack;
    }
#undef LACKS
}

/* Row i of a block is sequence sorted(r, block, i) in the order of lengths: blocks have as many long ones as each other. */
INLINE ptrdiff_t sorted(const recurrence_t *r, ptrdiff_t block, ptrdiff_t i) { return block + i * r->blocks; }
INLINE ptrdiff_t block_rows(const recurrence_t *r, ptrdiff_t block) { return (r->N - block + r->blocks - 1) / r->blocks; }
/* Where step t of sequence n lies. */
INLINE ptrdiff_t place(const recurrence_t *r, ptrdiff_t n, ptrdiff_t t) {
    return r->batch_first ? n * r->steps + t : t * r->N + n;
}
/* The same for step s of those that are taken, which may begin at the end. */
INLINE ptrdiff_t taken(const recurrence_t *r, ptrdiff_t i, ptrdiff_t s) {
    return place(r, r->order[i], r->reverse ? r->length[i] - 1 - s : s);
}
#endif

/* --- packed weights: a stretch of the depth after the other, each in panels, as `pack` has them */

#define WIDTH (OUTER_VECTORS * VL)

/* W (G, H), as (H, G) or as it is, one panel: a task. */
static void NAME(pack_task)(void *weight, const call_t *c, ptrdiff_t task, int turned) {
    const recurrence_t r = recurrence_of(c, sizeof(T));
    const ptrdiff_t depth = turned ? r.H : r.G, cols = turned ? r.G : r.H, j = task * WIDTH;
    const ptrdiff_t n = cols - j < WIDTH ? cols - j : WIDTH;
    const T *w = weight;
    for (ptrdiff_t k = 0; k < depth; k += PANEL_STEPS) {
        const ptrdiff_t count = depth - k < PANEL_STEPS ? depth - k : PANEL_STEPS;
        T *panel = (T *)c->shared + k * cols + j * count;
        if (turned) NAME(transpose)(panel, n, w + j * r.H + k, r.H, n, count, NULL);
        else NAME(pack)(panel, n, w + k * r.H + j, r.H, count, n);
    }
}

/* C (rows, cols), whose rows lie ldc apart, (+)= A (rows, depth) x packed weights + bias. */
INLINE void NAME(packed_product)(T *c, ptrdiff_t ldc, const T *a, ptrdiff_t lda, const T *packed, const T *bias,
                                 ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t depth, int add) {
    const ptrdiff_t zero = 0;
    for (ptrdiff_t k = 0; k < depth; k += PANEL_STEPS) {
        const ptrdiff_t count = depth - k < PANEL_STEPS ? depth - k : PANEL_STEPS;
        for (ptrdiff_t j = 0; j < cols; j += WIDTH) {
            const ptrdiff_t n = cols - j < WIDTH ? cols - j : WIDTH;
            const grid_t g = {.rows = rows, .run = rows, .runs = 1, .cols = n, .depth = count, .taps = 1, .ta = &zero,
                              .tb = &zero, .ai = lda, .ak = 1, .bk = n, .ci = ldc, .add = add || k};
            NAME(outer)(&g, c + j, a + k, packed + k * cols + j * count, bias ? bias + j : NULL);
        }
    }
}

/* --- one step of one sequence: h and c are its state, and become the next one ------------------------------------------ */

#define EACH(H) for (ptrdiff_t j = 0, n = (H); n > 0; j += VL, n -= VL)
#define AT(p, part) NAME(some)((p) + (part) * H + j, n)
#define PUT(p, part, v) NAME(put)((p) + (part) * H + j, v, n)

INLINE V NAME(elman)(int cell, V a) {
    return cell == CELL_TANH ? NAME(tanh)(a) : cell == CELL_RELU ? NAME(positive)(a) : a;
}

INLINE void NAME(elman_step)(const int cell, T *h, T *kept, const T *gates, const T *hidden, ptrdiff_t H) {
    EACH(H) {
        const V y = NAME(elman)(cell, AT(gates, 0) + AT(hidden, 0));
        PUT(h, 0, y);
        if (kept) PUT(kept, 0, y);
    }
}

INLINE void NAME(gru_step)(T *h, T *kept, const T *gates, const T *hidden, ptrdiff_t H) {
    EACH(H) {
        const V r = NAME(sigmoid)(AT(gates, 0) + AT(hidden, 0)), z = NAME(sigmoid)(AT(gates, 1) + AT(hidden, 1));
        const V q = AT(hidden, 2), new = NAME(tanh)(AT(gates, 2) + r * q);
        PUT(h, 0, new + z * (AT(h, 0) - new));
        if (!kept) continue;
        PUT(kept, 0, r);
        PUT(kept, 1, z);
        PUT(kept, 2, new);
        PUT(kept, 3, q);
    }
}

INLINE void NAME(lstm_step)(T *state, T *kept, const T *gates, const T *hidden, ptrdiff_t H) {
    EACH(H) {
        const V i = NAME(sigmoid)(AT(gates, 0) + AT(hidden, 0)), f = NAME(sigmoid)(AT(gates, 1) + AT(hidden, 1));
        const V g = NAME(tanh)(AT(gates, 2) + AT(hidden, 2)), o = NAME(sigmoid)(AT(gates, 3) + AT(hidden, 3));
        const V old = AT(state, 1), c = f * old + i * g, tanh_c = NAME(tanh)(c);
        PUT(state, 0, o * tanh_c);
        PUT(state, 1, c);
        if (!kept) continue;
        PUT(kept, 0, i);
        PUT(kept, 1, f);
        PUT(kept, 2, g);
        PUT(kept, 3, o);
        PUT(kept, 4, old);
        PUT(kept, 5, tanh_c);
    }
}

NOINLINE void NAME(step)(ptrdiff_t cell, T *state, T *kept, const T *gates, const T *hidden, ptrdiff_t H) {
    if (cell == CELL_GRU) NAME(gru_step)(state, kept, gates, hidden, H);
    else if (cell == CELL_LSTM) NAME(lstm_step)(state, kept, gates, hidden, H);
    else if (cell == CELL_TANH) NAME(elman_step)(CELL_TANH, state, kept, gates, hidden, H);
    else if (cell == CELL_RELU) NAME(elman_step)(CELL_RELU, state, kept, gates, hidden, H);
    else NAME(elman_step)(CELL_IDENTITY, state, kept, gates, hidden, H);
}

/* --- and back: d, the gradient by the new state, becomes that by the old one but for what comes through `hidden` ------- */

INLINE void NAME(elman_step_backward)(const int cell, T *d, T *dgates, T *dhidden, const T *kept, const T *dy, ptrdiff_t H) {
    EACH(H) {
        V da = AT(d, 0);
        if (dy) da += AT(dy, 0);
        if (cell == CELL_TANH) da *= 1 - AT(kept, 0) * AT(kept, 0);
        if (cell == CELL_RELU) da = NAME(where_positive)(AT(kept, 0), da);
        PUT(dgates, 0, da);
        PUT(dhidden, 0, da);
        PUT(d, 0, (V){0});
    }
}

INLINE void NAME(gru_step_backward)(T *d, T *dgates, T *dhidden, const T *kept, const T *before, const T *dy, ptrdiff_t H) {
    EACH(H) {
        V dh = AT(d, 0);
        if (dy) dh += AT(dy, 0);
        const V r = AT(kept, 0), z = AT(kept, 1), new = AT(kept, 2), q = AT(kept, 3);
        const V dnew = dh * (1 - z) * (1 - new * new);
        const V dr = dnew * q * (r * (1 - r)), dz = dh * (AT(before, 0) - new) * (z * (1 - z));
        PUT(dgates, 0, dr);
        PUT(dgates, 1, dz);
        PUT(dgates, 2, dnew);
        PUT(dhidden, 0, dr);
        PUT(dhidden, 1, dz);
        PUT(dhidden, 2, dnew * r);
        PUT(d, 0, dh * z);
    }
}

INLINE void NAME(lstm_step_backward)(T *d, T *dgates, T *dhidden, const T *kept, const T *dy, ptrdiff_t H) {
    EACH(H) {
        V dh = AT(d, 0);
        if (dy) dh += AT(dy, 0);
        const V i = AT(kept, 0), f = AT(kept, 1), g = AT(kept, 2), o = AT(kept, 3), tanh_c = AT(kept, 5);
        const V dc = AT(d, 1) + dh * o * (1 - tanh_c * tanh_c);
        const V da[4] = {dc * g * (i * (1 - i)), dc * AT(kept, 4) * (f * (1 - f)), dc * i * (1 - g * g),
                         dh * tanh_c * (o * (1 - o))};
        UNROLL for (int part = 0; part < 4; part++) {
            PUT(dgates, part, da[part]);
            PUT(dhidden, part, da[part]);
        }
        PUT(d, 0, (V){0});
        PUT(d, 1, dc * f);
    }
}

NOINLINE void NAME(step_backward)(ptrdiff_t cell, T *d, T *dgates, T *dhidden, const T *kept, const T *before, const T *dy,
                                  ptrdiff_t H) {
    if (cell == CELL_GRU) NAME(gru_step_backward)(d, dgates, dhidden, kept, before, dy, H);
    else if (cell == CELL_LSTM) NAME(lstm_step_backward)(d, dgates, dhidden, kept, dy, H);
    else if (cell == CELL_TANH) NAME(elman_step_backward)(CELL_TANH, d, dgates, dhidden, kept, dy, H);
    else if (cell == CELL_RELU) NAME(elman_step_backward)(CELL_RELU, d, dgates, dhidden, kept, dy, H);
    else NAME(elman_step_backward)(CELL_IDENTITY, d, dgates, dhidden, kept, dy, H);
}

/* --- all steps --------------------------------------------------------------------------------------------------------- */

INLINE void NAME(set_row)(T *to, const T *from, ptrdiff_t n) {
    if (from) memcpy(to, from, n * sizeof(T));
    else memset(to, 0, n * sizeof(T));
}

/* A state (S), h or h and c, from those of all sequences, NULL for zeros. */
INLINE void NAME(begin)(const recurrence_t *r, ptrdiff_t i, T *state, const T *h, const T *c) {
    NAME(set_row)(state, h ? h + r->order[i] * r->H : NULL, r->H);
    if (r->S > r->H) NAME(set_row)(state + r->H, c ? c + r->order[i] * r->H : NULL, r->H);
}

/* Zeros for the steps of a sequence that are padding. */
INLINE void NAME(clear_padding)(const recurrence_t *r, ptrdiff_t i, T *a, ptrdiff_t width) {
    if (a)
        for (ptrdiff_t t = r->length[i]; t < r->steps; t++) NAME(set_row)(a + place(r, r->order[i], t) * width, NULL, width);
}

/* y, last, kept, before; gates, h0, c0, weight, bias, lengths */
static void NAME(recurrence_task)(void *y_, const call_t *c, ptrdiff_t block, int thread) {
    const recurrence_t r = recurrence_of(c, sizeof(T));
    const ptrdiff_t rows = block_rows(&r, block), H = r.H;
    T *y = y_, *last = c->p[1], *kept = c->p[2], *before = c->p[3];
    const T *gates = c->p[4], *bias = c->p[8];
    T *state = (T *)(c->own + thread * c->own_size), *hidden = state + (rows * r.S * sizeof(T) + 63) / 64 * 64 / sizeof(T);
    for (ptrdiff_t i = 0; i < rows; i++)
        NAME(begin)(&r, sorted(&r, block, i), state + i * r.S, c->p[5], c->p[6]);
    for (ptrdiff_t s = 0, active = rows; s < r.steps; s++) {
        while (active && r.length[sorted(&r, block, active - 1)] <= s) active--;
        if (!active) break;
        NAME(packed_product)(hidden, r.G, state, r.S, (const T *)c->shared, bias, active, r.G, H, 0);
        for (ptrdiff_t i = 0; i < active; i++) {
            const ptrdiff_t at = taken(&r, sorted(&r, block, i), s);
            T *h = state + i * r.S;
            if (before) NAME(set_row)(before + at * H, h, H);
            NAME(step)(r.cell, h, kept ? kept + at * r.K : NULL, gates + at * r.G, hidden + i * r.G, H);
            NAME(set_row)(y + at * H, h, H);
        }
    }
    for (ptrdiff_t i = 0; i < rows; i++) {
        const ptrdiff_t which = sorted(&r, block, i);
        NAME(set_row)(last + r.order[which] * r.S, state + i * r.S, r.S);
        NAME(clear_padding)(&r, which, y, H);
        NAME(clear_padding)(&r, which, kept, r.K);
        NAME(clear_padding)(&r, which, before, H);
    }
}

/* dgates, dhidden, dfirst; dy, dh, dc, kept, before, weight, lengths */
static void NAME(recurrence_backward_task)(void *dgates_, const call_t *c, ptrdiff_t block, int thread) {
    const recurrence_t r = recurrence_of(c, sizeof(T));
    const ptrdiff_t rows = block_rows(&r, block), H = r.H;
    T *dgates = dgates_, *dhidden = c->p[1], *dfirst = c->p[2];
    const T *dy = c->p[3], *kept = c->p[6], *before = c->p[7];
    T *d = (T *)(c->own + thread * c->own_size), *dh = d + (rows * r.S * sizeof(T) + 63) / 64 * 64 / sizeof(T);
    for (ptrdiff_t i = 0; i < rows; i++)
        NAME(begin)(&r, sorted(&r, block, i), d + i * r.S, c->p[4], c->p[5]);
    for (ptrdiff_t s = r.steps - 1, active = 0; s >= 0; s--) {
        while (active < rows && r.length[sorted(&r, block, active)] > s) active++;
        if (!active) continue;
        for (ptrdiff_t i = 0; i < active; i++) {
            const ptrdiff_t at = taken(&r, sorted(&r, block, i), s);
            NAME(step_backward)(r.cell, d + i * r.S, dgates + at * r.G, dh + i * r.G, kept + at * r.K, before + at * H,
                                dy ? dy + at * H : NULL, H);
            if (dhidden) NAME(set_row)(dhidden + at * r.G, dh + i * r.G, r.G);
        }
        NAME(packed_product)(d, r.S, dh, r.G, (const T *)c->shared, NULL, active, H, r.G, 1);
    }
    for (ptrdiff_t i = 0; i < rows; i++) {
        const ptrdiff_t which = sorted(&r, block, i);
        if (dfirst) NAME(set_row)(dfirst + r.order[which] * r.S, d + i * r.S, r.S);
        NAME(clear_padding)(&r, which, dgates, r.G);
        NAME(clear_padding)(&r, which, dhidden, r.G);
    }
}

static void NAME(pack_turned_task)(void *y, const call_t *c, ptrdiff_t task, int thread) {
    NAME(pack_task)(c->p[7], c, task, 1);
}
static void NAME(pack_as_is_task)(void *dgates, const call_t *c, ptrdiff_t task, int thread) {
    NAME(pack_task)(c->p[8], c, task, 0);
}

static void NAME(recurrence_kernel)(void *first, const call_t *c) {
    const recurrence_t r = recurrence_of(c, sizeof(T));
    sort_by_length(&r, c->p[9]);
    parallel(NAME(pack_turned_task), c, (r.G + WIDTH - 1) / WIDTH, 0.5 * r.G * r.H);
    parallel(NAME(recurrence_task), c, r.blocks, 0.04 * r.steps * r.N * r.G * r.H);
}

static void NAME(recurrence_backward_kernel)(void *first, const call_t *c) {
    const recurrence_t r = recurrence_of(c, sizeof(T));
    sort_by_length(&r, c->p[9]);
    parallel(NAME(pack_as_is_task), c, (r.H + WIDTH - 1) / WIDTH, 0.2 * r.G * r.H);
    parallel(NAME(recurrence_backward_task), c, r.blocks, 0.04 * r.steps * r.N * r.G * r.H);
}

#undef WIDTH
#undef EACH
#undef AT
#undef PUT

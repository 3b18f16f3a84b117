# Attention by blocks of keys (Dao et al. 2022, "FlashAttention"): a task is a panel of queries of one head, which lie along the
# vectors of its register tiles. No matrix of all scores is ever there.

cdef extern from "tiles.h" nogil:
    void mask_scores_f32(float*, const unsigned char*, Py_ssize_t, Py_ssize_t, int, Py_ssize_t)
    void mask_scores_f64(double*, const unsigned char*, Py_ssize_t, Py_ssize_t, int, Py_ssize_t)
    void weigh_scores_f32(float*, float*, float*, float*, Py_ssize_t, Py_ssize_t)
    void weigh_scores_f64(double*, double*, double*, double*, Py_ssize_t, Py_ssize_t)
    void scale_columns_f32(float*, const float*, Py_ssize_t, Py_ssize_t)
    void scale_columns_f64(double*, const double*, Py_ssize_t, Py_ssize_t)
    void finish_scores_f32(float*, float*, const float*, Py_ssize_t)
    void finish_scores_f64(double*, double*, const double*, Py_ssize_t)
    void weigh_again_f32(float*, const float*, Py_ssize_t, Py_ssize_t)
    void weigh_again_f64(double*, const double*, Py_ssize_t, Py_ssize_t)
    void sum_products_f32(float*, const float*, const float*, Py_ssize_t, Py_ssize_t)
    void sum_products_f64(double*, const double*, const double*, Py_ssize_t, Py_ssize_t)
    void score_gradients_f32(float*, const float*, const float*, float, Py_ssize_t, Py_ssize_t)
    void score_gradients_f64(double*, const double*, const double*, double, Py_ssize_t, Py_ssize_t)
    void scale_row_f32(float*, float, Py_ssize_t)
    void scale_row_f64(double*, double, Py_ssize_t)

cdef enum:
    KEYS = 64         # of a block; as in table/attention.py
    MOST_QUERIES = 64  # of a panel


cdef struct attention_sizes:
    Py_ssize_t N, T, S, E
    Py_ssize_t heads, causal


cdef struct panel_t:  # of the queries of one head of one sample
    Py_ssize_t n, head, t, count, W  # W: count, in whole vectors
    Py_ssize_t keys                  # how many of the sample come before those that none of these queries attends to


cdef inline Py_ssize_t query_panels(real* of_type, const attention_sizes* g) noexcept nogil:
    return ceil_div(g.T, column_block(of_type))


cdef inline panel_t query_panel(real* of_type, const attention_sizes* g, const unsigned char* mask, Py_ssize_t head,
                                Py_ssize_t panel) noexcept nogil:
    cdef panel_t p
    cdef Py_ssize_t lanes = VBYTES // <Py_ssize_t>sizeof(real)
    p.n, p.head, p.t = head // g.heads, head % g.heads, panel_start(of_type, g.T, panel)
    p.count = panel_start(of_type, g.T, panel + 1) - p.t
    p.W = ceil_div(p.count, lanes) * lanes
    p.keys = least(g.S, p.t + p.count) if g.causal else g.S
    if mask != NULL:
        while p.keys > 0 and not mask[p.n * g.S + p.keys - 1]:
            p.keys -= 1
    return p


cdef inline void turned(real* y, const panel_t* p, const real* x, Py_ssize_t E, Py_ssize_t D) noexcept nogil:
    """y (D, W) = x (count, D), whose rows lie E apart, transposed, with zeros after its end."""
    if p.count < p.W:
        memset(y, 0, D * p.W * sizeof(real))
    transpose[real](y, p.W, x, E, p.count, D, NULL, False, False)


cdef inline void multiply(real* y, double factor, Py_ssize_t n) noexcept nogil:
    if real is float:
        scale_row_f32(y, <float>factor, n)
    else:
        scale_row_f64(y, factor, n)


cdef inline void mask_scores(real* scores, const attention_sizes* g, const panel_t* p, const unsigned char* mask, Py_ssize_t s,
                             Py_ssize_t keys) noexcept nogil:
    """Of keys s, s + 1, …"""
    cdef const unsigned char* own = mask + p.n * g.S + s if mask != NULL else NULL
    if mask == NULL and (not g.causal or s + keys <= p.t + 1):
        return
    if real is float:
        mask_scores_f32(scores, own, keys, p.W, g.causal != 0, s - p.t)
    else:
        mask_scores_f64(scores, own, keys, p.W, g.causal != 0, s - p.t)


cdef inline const uint32_t* words_of_block(uint32_t* words, const attention_sizes* g, const panel_t* p, Py_ssize_t s,
                                           Py_ssize_t keys, const uint64_t* key) noexcept nogil:
    """The random words of scores (keys, W): of a weight of a query those at its index in (N, heads, T, S)."""
    cdef uint32_t* rows = words + KEYS * MOST_QUERIES
    cdef uint32_t* some = rows + KEYS * MOST_QUERIES
    cdef Py_ssize_t first = ((p.n * g.heads + p.head) * g.T + p.t) * g.S + s, i
    for i in range(p.count):
        memcpy(rows + i * keys, random_words(some, first + i * g.S, keys, key), keys * sizeof(uint32_t))
    transpose_f32(<float*>words, p.W, <const float*>rows, keys, p.count, keys, NULL)
    return words


# --- y, logsumexp; q, key, value, mask, dropout_key -------------------------------------------------------------------------

cdef void attention_task(real* y, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const attention_sizes* g = <const attention_sizes*>c.n
    cdef Py_ssize_t D = g.E // g.heads, panels = query_panels(y, g), s = 0, keys, i
    cdef const unsigned char* mask = <const unsigned char*>c.p[5]
    cdef panel_t p = query_panel(y, g, mask, task // panels, task % panels)
    cdef Py_ssize_t first = p.n * g.T * g.E + p.t * g.E + p.head * D, at = p.n * g.S * g.E + p.head * D
    cdef const real* key = <const real*>c.p[3] + at
    cdef const real* value = <const real*>c.p[4] + at
    cdef real* q = <real*>(c.own + thread * c.own_size)
    cdef real* result = q + D * p.W
    cdef real* scores = result + D * p.W
    cdef real* top = scores + KEYS * p.W
    cdef real* total = top + p.W
    cdef real* factor = total + p.W
    cdef uint32_t* words = <uint32_t*>(factor + p.W)
    turned(q, &p, <const real*>c.p[2] + first, g.E, D)
    multiply(q, 1 / sqrt(<double>D), D * p.W)
    memset(result, 0, D * p.W * sizeof(real))
    for i in range(p.W):
        top[i] = -INFINITY
        total[i] = 0
    while s < p.keys:
        keys = least(KEYS, p.keys - s)
        outer[real](scores, p.W, key + s * g.E, g.E, 1, q, p.W, keys, p.W, D, False)
        mask_scores(scores, g, &p, mask, s, keys)
        if real is float:
            weigh_scores_f32(scores, top, total, factor, keys, p.W)
            scale_columns_f32(result, factor, D, p.W)
        else:
            weigh_scores_f64(scores, top, total, factor, keys, p.W)
            scale_columns_f64(result, factor, D, p.W)
        if c.p[6] != NULL:
            drop(scores, scores, words_of_block(words, g, &p, s, keys, <const uint64_t*>c.p[6]), c, keys * p.W)
        outer[real](result, p.W, value + s * g.E, 1, g.E, scores, p.W, D, p.W, keys, True)
        s += keys
    if real is float:
        finish_scores_f32(factor, top, total, p.W)
        scale_columns_f32(result, factor, D, p.W)
    else:
        finish_scores_f64(factor, top, total, p.W)
        scale_columns_f64(result, factor, D, p.W)
    transpose[real](y + first, g.E, result, p.W, D, p.count, NULL, False, False)
    if c.p[1] != NULL:
        memcpy(<real*>c.p[1] + (p.n * g.heads + p.head) * g.T + p.t, top, p.count * sizeof(real))


cdef void attention(real* y, const call_t* c) noexcept nogil:
    cdef const attention_sizes* g = <const attention_sizes*>c.n
    cdef Py_ssize_t tasks = g.N * g.heads * query_panels(y, g)
    parallel(<task_fn>attention_task[real], c, tasks, FLOP * 4 * g.N * g.T * g.S * (g.E + 8 * g.heads))


# --- dq, dkey, dvalue; dy, q, key, value, mask, y, logsumexp, dropout_key ---------------------------------------------------

cdef inline void clear_rows(real* x, Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t ld) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(rows):
        memset(x + i * ld, 0, cols * sizeof(real))


cdef void attention_backward_task(real* dq, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    """A head of a sample: its weights are computed once more, block by block."""
    cdef const attention_sizes* g = <const attention_sizes*>c.n
    cdef Py_ssize_t D = g.E // g.heads, panels = query_panels(dq, g), panel
    cdef Py_ssize_t at = task // g.heads * g.S * g.E + task % g.heads * D
    clear_rows(<real*>c.p[1] + at, g.S, D, g.E)
    clear_rows(<real*>c.p[2] + at, g.S, D, g.E)
    for panel in range(panels):
        attention_backward_panel(dq, c, task, panel, at, c.own + thread * c.own_size)


cdef void attention_backward_panel(real* dq, const call_t* c, Py_ssize_t head, Py_ssize_t panel, Py_ssize_t at,
                                   char* scratch) noexcept nogil:
    cdef const attention_sizes* g = <const attention_sizes*>c.n
    cdef Py_ssize_t D = g.E // g.heads, s = 0, keys, i
    cdef const unsigned char* mask = <const unsigned char*>c.p[7]
    cdef panel_t p = query_panel(dq, g, mask, head, panel)
    cdef Py_ssize_t first = p.n * g.T * g.E + p.t * g.E + p.head * D
    cdef real* dkey = <real*>c.p[1] + at
    cdef real* dvalue = <real*>c.p[2] + at
    cdef const real* dy = <const real*>c.p[3] + first
    cdef const real* q = <const real*>c.p[4] + first
    cdef const real* key = <const real*>c.p[5] + at
    cdef const real* value = <const real*>c.p[6] + at
    cdef const real* logsumexp = <const real*>c.p[9] + (p.n * g.heads + p.head) * g.T + p.t
    cdef real* turned_q = <real*>scratch
    cdef real* turned_dy = turned_q + D * p.W
    cdef real* result = turned_dy + D * p.W
    cdef real* weights = result + D * p.W
    cdef real* dropped = weights
    cdef real* dweights = weights + KEYS * p.W
    cdef real* shift = dweights + 2 * KEYS * p.W
    cdef real* mean = shift + p.W
    cdef uint32_t* words = <uint32_t*>(mean + p.W)
    cdef double scale = 1 / sqrt(<double>D)
    turned(turned_q, &p, q, g.E, D)
    multiply(turned_q, scale, D * p.W)
    turned(turned_dy, &p, dy, g.E, D)
    turned(result, &p, <const real*>c.p[8] + first, g.E, D)
    if real is float:
        sum_products_f32(mean, turned_dy, result, D, p.W)
    else:
        sum_products_f64(mean, turned_dy, result, D, p.W)
    memset(result, 0, D * p.W * sizeof(real))
    for i in range(p.W):  # queries without keys have no weights
        shift[i] = logsumexp[i] if i < p.count and logsumexp[i] != -INFINITY else INFINITY
    while s < p.keys:
        keys = least(KEYS, p.keys - s)
        outer[real](weights, p.W, key + s * g.E, g.E, 1, turned_q, p.W, keys, p.W, D, False)
        mask_scores(weights, g, &p, mask, s, keys)
        outer[real](dweights, p.W, value + s * g.E, g.E, 1, turned_dy, p.W, keys, p.W, D, False)
        if real is float:
            weigh_again_f32(weights, shift, keys, p.W)
        else:
            weigh_again_f64(weights, shift, keys, p.W)
        if c.p[10] != NULL:
            dropped = dweights + KEYS * p.W
            words_of_block(words, g, &p, s, keys, <const uint64_t*>c.p[10])
            drop(dropped, weights, words, c, keys * p.W)
            drop(dweights, dweights, words, c, keys * p.W)
        if real is float:
            score_gradients_f32(dweights, weights, mean, <float>scale, keys, p.W)
        else:
            score_gradients_f64(dweights, weights, mean, scale, keys, p.W)
        outer[real](dvalue + s * g.E, g.E, dropped, p.W, 1, dy, g.E, keys, D, p.count, True)
        outer[real](dkey + s * g.E, g.E, dweights, p.W, 1, q, g.E, keys, D, p.count, True)
        outer[real](result, p.W, key + s * g.E, 1, g.E, dweights, p.W, D, p.W, keys, True)
        s += keys
    transpose[real](dq + first, g.E, result, p.W, D, p.count, NULL, False, False)


cdef void attention_backward(real* dq, const call_t* c) noexcept nogil:
    cdef const attention_sizes* g = <const attention_sizes*>c.n
    parallel(<task_fn>attention_backward_task[real], c, g.N * g.heads, FLOP * 10 * g.N * g.T * g.S * (g.E + 4 * g.heads))


# --- masks ------------------------------------------------------------------------------------------------------------------

cdef struct mask_sizes:
    Py_ssize_t N, S


cdef void key_mask_task(unsigned char* mask, const call_t* c, Py_ssize_t task, int thread) noexcept nogil:
    cdef const mask_sizes* g = <const mask_sizes*>c.n
    cdef const int64_t* lengths = <const int64_t*>c.p[1]
    cdef const unsigned char* padding = <const unsigned char*>c.p[2]
    cdef Py_ssize_t n, s
    for n in range(g.N):
        for s in range(g.S):
            mask[n * g.S + s] = s < lengths[n] and (padding == NULL or not padding[n * g.S + s])


cdef void key_mask(unsigned char* mask, const call_t* c) noexcept nogil:
    parallel(<task_fn>key_mask_task, c, 1, 0)


cdef struct padding_sizes:
    Py_ssize_t N, T, E


cdef void zero_padding_task(real* y, const call_t* c, Py_ssize_t n, int thread) noexcept nogil:
    cdef const padding_sizes* g = <const padding_sizes*>c.n
    cdef const real* x = <const real*>c.p[1] + n * g.T * g.E
    cdef Py_ssize_t kept = most(0, least(g.T, (<const int64_t*>c.p[2])[n]))
    y += n * g.T * g.E
    if x != y:
        memcpy(y, x, kept * g.E * sizeof(real))
    memset(y + kept * g.E, 0, (g.T - kept) * g.E * sizeof(real))


cdef void zero_padding(real* y, const call_t* c) noexcept nogil:
    cdef const padding_sizes* g = <const padding_sizes*>c.n
    parallel(<task_fn>zero_padding_task[real], c, g.N, BYTE * sizeof(real) * g.N * g.T * g.E)


def attention_kernels():
    return {
        "attention": (<size_t>attention[float], <size_t>attention[double]),
        "attention_backward": (<size_t>attention_backward[float], <size_t>attention_backward[double]),
        "attention_dropout": (<size_t>attention[float], <size_t>attention[double]),
        "attention_dropout_backward": (<size_t>attention_backward[float], <size_t>attention_backward[double]),
        "zero_padding": (<size_t>zero_padding[float], <size_t>zero_padding[double]),
        "key_mask": (<size_t>key_mask, <size_t>key_mask),
    }

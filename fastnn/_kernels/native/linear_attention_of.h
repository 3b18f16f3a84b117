/* Attention in time that grows with the length of the sequence only, for one type T (see tiles.h).
 *
 * Linear attention (Katharopoulos et al. 2020, "Transformers are RNNs"): what all keys say stands in a matrix,
 * state (D, D) = Σ φ(k) vᵀ, and in z (D) = Σ φ(k); y = φ(q) state / norm, norm = φ(q) z. A head of a sample is a task, which
 * goes through the sequence in chunks; a causal one has the keys of earlier chunks in the state, and its own chunk's apart. */

/* C (rows, cols) (+)= A (rows, depth) B (depth, cols). */
INLINE void NAME(multiply)(T *c, ptrdiff_t ci, const T *a, ptrdiff_t ai, ptrdiff_t ak, const T *b, ptrdiff_t bk, ptrdiff_t rows,
                           ptrdiff_t cols, ptrdiff_t depth, int add) {
    const ptrdiff_t zero = 0;
    const grid_t g = {.rows = rows, .run = rows, .runs = 1, .cols = cols, .depth = depth, .taps = 1, .ta = &zero, .tb = &zero,
                      .ai = ai, .ak = ak, .bk = bk, .ci = ci, .add = add};
    NAME(outer)(&g, c, a, b, NULL);
}

/* y (rows, D) = φ(x) = elu(x) + 1 of rows that lie ld apart; 0 where the mask (NULL: all 1) of a row is. */
NOINLINE void NAME(features)(T *y, const T *x, ptrdiff_t ld, const uint8_t *mask, ptrdiff_t rows, ptrdiff_t D) {
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < D; j += VL) {
            const V v = NAME(some)(x + i * ld + j, D - j);
            const V f = mask && !mask[i] ? (V){0} : NAME(choose)(v > 0, v + 1, NAME(exp)(v));
            NAME(put)(y + i * D + j, f, D - j);
        }
}

/* dx = dy (rows, D) times the slope of φ at x; rows of dx and x lie ld apart. */
NOINLINE void NAME(feature_gradients)(T *dx, const T *dy, const T *x, ptrdiff_t ld, const uint8_t *mask, ptrdiff_t rows,
                                      ptrdiff_t D) {
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < D; j += VL) {
            const V v = NAME(some)(x + i * ld + j, D - j), d = NAME(some)(dy + i * D + j, D - j);
            NAME(put)(dx + i * ld + j, mask && !mask[i] ? (V){0} : d * NAME(choose)(v > 0, NAME(all)(1), NAME(exp)(v)), D - j);
        }
}

/* sums (rows) (+)= products of the rows of a and b, which lie lda and ldb apart. */
NOINLINE void NAME(row_products)(T *sums, const T *a, ptrdiff_t lda, const T *b, ptrdiff_t ldb, ptrdiff_t rows, ptrdiff_t D,
                                 int add) {
    for (ptrdiff_t i = 0; i < rows; i++) {
        V sum = {0};
        for (ptrdiff_t j = 0; j < D; j += VL) sum += NAME(some)(a + i * lda + j, D - j) * NAME(some)(b + i * ldb + j, D - j);
        sums[i] = NAME(total)(sum) + (add ? sums[i] : 0);
    }
}

/* y (rows, D), rows ld apart, plus factor times x, whose rows lie ldx apart. */
NOINLINE void NAME(add_scaled_rows)(T *y, ptrdiff_t ld, const T *x, ptrdiff_t ldx, const T *factor, ptrdiff_t rows, ptrdiff_t D) {
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < D; j += VL) {
            const V v = NAME(some)(y + i * ld + j, D - j) + factor[i] * NAME(some)(x + i * ldx + j, D - j);
            NAME(put)(y + i * ld + j, v, D - j);
        }
}

#define CHUNK 64 /* as in table/linear_attention.py */

/* A head of a sample: its part of the call's arrays, rows of which lie E apart; and working memory. */
typedef struct {
    ptrdiff_t T_, S, E, D;
    int causal;
    T *y, *norm, *dq, *dkey, *dvalue;
    const T *dy, *q, *key, *value;
    const uint8_t *mask;
    T *state, *z, *dstate, *dz, *turned;     /* (D, D), (D), twice; (D, D) or (D, CHUNK) */
    T *phi_q, *phi_k, *g, *d, *scores, *sums; /* (CHUNK, D), four; (CHUNK, CHUNK); (CHUNK) */
} NAME(linear_t);

INLINE NAME(linear_t) NAME(linear_head)(const call_t *c, ptrdiff_t task, char *scratch) {
    NAME(linear_t) h = {.T_ = c->n[1], .S = c->n[2], .E = c->n[3], .D = c->n[3] / c->n[4], .causal = c->n[5] != 0};
    const ptrdiff_t D = h.D;
    h.state = (T *)scratch, h.z = h.state + D * D, h.dstate = h.z + D, h.dz = h.dstate + D * D, h.turned = h.dz + D;
    h.phi_q = h.turned + D * (D > CHUNK ? D : CHUNK), h.phi_k = h.phi_q + CHUNK * D, h.g = h.phi_k + CHUNK * D;
    h.d = h.g + CHUNK * D, h.scores = h.d + CHUNK * D, h.sums = h.scores + CHUNK * CHUNK;
    memset(h.state, 0, (size_t)(h.turned - h.state) * sizeof(T));
    return h;
}

#define ROWS_FROM(i, count) ((count) - (i) < CHUNK ? (count) - (i) : CHUNK)
#define MASK_FROM(h, s) ((h)->mask ? (h)->mask + (s) : NULL)

/* scores (rows, CHUNK) = a (rows, D) times b (rows, D), whose rows lie E apart, as far as b's row is not the later one; else 0. */
NOINLINE void NAME(earlier)(const NAME(linear_t) *h, const T *a, const T *b, ptrdiff_t ldb, ptrdiff_t rows) {
    NAME(transpose)(h->turned, CHUNK, b, ldb, rows, h->D, NULL);
    NAME(multiply)(h->scores, CHUNK, a, h->D, 1, h->turned, CHUNK, rows, rows, h->D, 0);
    for (ptrdiff_t i = 0; i < rows; i++) memset(h->scores + i * CHUNK + i + 1, 0, (size_t)(rows - i - 1) * sizeof(T));
}

/* The keys of a chunk go into the state. */
NOINLINE void NAME(remember)(const NAME(linear_t) *h, ptrdiff_t s, ptrdiff_t rows) {
    NAME(features)(h->phi_k, h->key + s * h->E, h->E, MASK_FROM(h, s), rows, h->D);
    NAME(multiply)(h->state, h->D, h->phi_k, 1, h->D, h->value + s * h->E, h->E, h->D, h->D, rows, 1);
    NAME(sum_rows)(h->z, h->phi_k, rows, h->D, h->D, 1);
}

/* y and norm of the queries of a chunk. */
NOINLINE void NAME(recall)(const NAME(linear_t) *h, ptrdiff_t t, ptrdiff_t rows) {
    const ptrdiff_t E = h->E, D = h->D;
    T *y = h->y + t * E, *norm = h->norm ? h->norm + t : h->sums;
    NAME(features)(h->phi_q, h->q + t * E, E, NULL, rows, D);
    NAME(multiply)(y, E, h->phi_q, D, 1, h->state, D, rows, D, D, 0);
    NAME(row_products)(norm, h->phi_q, D, h->z, 0, rows, D, 0);
    if (h->causal) {
        NAME(features)(h->phi_k, h->key + t * E, E, MASK_FROM(h, t), rows, D);
        NAME(earlier)(h, h->phi_q, h->phi_k, D, rows);
        NAME(multiply)(y, E, h->scores, CHUNK, 1, h->value + t * E, E, rows, D, rows, 1);
        for (ptrdiff_t i = 0; i < rows; i++)
            for (ptrdiff_t j = 0; j <= i; j++) norm[i] += h->scores[i * CHUNK + j];
    }
    for (ptrdiff_t i = 0; i < rows; i++) NAME(scale_row)(y + i * E, norm[i] == 0 ? 0 : 1 / norm[i], D);
}

static void NAME(linear_attention_task)(void *first, const call_t *c, ptrdiff_t task, int thread) {
    NAME(linear_t) h = NAME(linear_head)(c, task, c->own + thread * c->own_size);
    const ptrdiff_t n = task / c->n[4], at = task % c->n[4] * h.D, q = n * h.T_ * h.E + at, s = n * h.S * h.E + at;
    h.y = (T *)first + q, h.norm = c->p[1] ? (T *)c->p[1] + task * h.T_ : NULL;
    h.q = (const T *)c->p[2] + q, h.key = (const T *)c->p[3] + s, h.value = (const T *)c->p[4] + s;
    h.mask = c->p[5] ? (const uint8_t *)c->p[5] + n * h.S : NULL;
    for (ptrdiff_t i = 0; i < h.S; i += CHUNK) {
        if (h.causal) NAME(recall)(&h, i, ROWS_FROM(i, h.S));
        NAME(remember)(&h, i, ROWS_FROM(i, h.S));
    }
    if (!h.causal)
        for (ptrdiff_t i = 0; i < h.T_; i += CHUNK) NAME(recall)(&h, i, ROWS_FROM(i, h.T_));
}

/* Of a chunk of queries: φ(q); g = dy / norm, the gradient by φ(q) state; sums = -(y dy) / norm, that by norm. */
NOINLINE void NAME(query_gradients)(const NAME(linear_t) *h, ptrdiff_t t, ptrdiff_t rows) {
    const ptrdiff_t E = h->E, D = h->D;
    NAME(features)(h->phi_q, h->q + t * E, E, NULL, rows, D);
    NAME(row_products)(h->sums, h->y + t * E, E, h->dy + t * E, E, rows, D, 0);
    for (ptrdiff_t i = 0; i < rows; i++) {
        const T norm = h->norm[t + i], factor = norm == 0 ? 0 : 1 / norm;
        h->sums[i] *= -factor;
        memcpy(h->g + i * D, h->dy + (t + i) * E, (size_t)D * sizeof(T));
        NAME(scale_row)(h->g + i * D, factor, D);
    }
}

/* The gradients of φ(q) state and of φ(q) z go into those of state and z. */
NOINLINE void NAME(remember_gradients)(const NAME(linear_t) *h, ptrdiff_t rows) {
    NAME(multiply)(h->dstate, h->D, h->phi_q, 1, h->D, h->g, h->D, h->D, h->D, rows, 1);
    for (ptrdiff_t i = 0; i < rows; i++) NAME(add_scaled_rows)(h->dz, 0, h->phi_q + i * h->D, 0, h->sums + i, 1, h->D);
}

/* dq of a chunk: dφ(q) = g stateᵀ + sums zᵀ; and of the keys of its own chunk. */
NOINLINE void NAME(linear_dq)(const NAME(linear_t) *h, ptrdiff_t t, ptrdiff_t rows) {
    const ptrdiff_t E = h->E, D = h->D;
    NAME(transpose)(h->turned, D, h->state, D, D, D, NULL);
    NAME(multiply)(h->d, D, h->g, D, 1, h->turned, D, rows, D, D, 0);
    NAME(add_scaled_rows)(h->d, D, h->z, 0, h->sums, rows, D);
    if (h->causal) {
        NAME(features)(h->phi_k, h->key + t * E, E, MASK_FROM(h, t), rows, D);
        NAME(earlier)(h, h->g, h->value + t * E, E, rows);
        for (ptrdiff_t i = 0; i < rows; i++)
            for (ptrdiff_t j = 0; j <= i; j++) h->scores[i * CHUNK + j] += h->sums[i];
        NAME(multiply)(h->d, D, h->scores, CHUNK, 1, h->phi_k, D, rows, D, rows, 1);
    }
    NAME(feature_gradients)(h->dq + t * E, h->d, h->q + t * E, E, NULL, rows, D);
}

/* dkey and dvalue of a chunk: dφ(k) = v dstateᵀ + dz, dv = φ(k) dstate; and of the queries of its own chunk. */
NOINLINE void NAME(linear_dkey)(const NAME(linear_t) *h, ptrdiff_t s, ptrdiff_t rows) {
    const ptrdiff_t E = h->E, D = h->D;
    const T *value = h->value + s * E;
    T *dvalue = h->dvalue + s * E;
    NAME(features)(h->phi_k, h->key + s * E, E, MASK_FROM(h, s), rows, D);
    NAME(multiply)(dvalue, E, h->phi_k, D, 1, h->dstate, D, rows, D, D, 0);
    for (ptrdiff_t i = 0; i < rows; i++) memcpy(h->d + i * D, h->dz, (size_t)D * sizeof(T));
    NAME(transpose)(h->turned, D, h->dstate, D, D, D, NULL);
    NAME(multiply)(h->d, D, value, E, 1, h->turned, D, rows, D, D, 1);
    if (h->causal) {
        NAME(earlier)(h, h->phi_q, h->phi_k, D, rows);
        NAME(multiply)(dvalue, E, h->scores, 1, CHUNK, h->g, D, rows, D, rows, 1);
        NAME(earlier)(h, h->g, value, E, rows);
        for (ptrdiff_t i = 0; i < rows; i++)
            for (ptrdiff_t j = 0; j <= i; j++) h->scores[i * CHUNK + j] += h->sums[i];
        NAME(multiply)(h->d, D, h->scores, 1, CHUNK, h->phi_q, D, rows, D, rows, 1);
    }
    NAME(feature_gradients)(h->dkey + s * E, h->d, h->key + s * E, E, MASK_FROM(h, s), rows, D);
}

static void NAME(linear_attention_backward_task)(void *first, const call_t *c, ptrdiff_t task, int thread) {
    NAME(linear_t) h = NAME(linear_head)(c, task, c->own + thread * c->own_size);
    const ptrdiff_t n = task / c->n[4], at = task % c->n[4] * h.D, q = n * h.T_ * h.E + at, s = n * h.S * h.E + at;
    h.dq = (T *)first + q, h.dkey = (T *)c->p[1] + s, h.dvalue = (T *)c->p[2] + s;
    h.dy = (const T *)c->p[3] + q, h.q = (const T *)c->p[4] + q, h.key = (const T *)c->p[5] + s;
    h.value = (const T *)c->p[6] + s, h.mask = c->p[7] ? (const uint8_t *)c->p[7] + n * h.S : NULL;
    h.y = (T *)c->p[8] + q, h.norm = (T *)c->p[9] + task * h.T_; /* which are only read */
    const ptrdiff_t last = (h.S - 1) / CHUNK * CHUNK;
    if (h.causal) {
        for (ptrdiff_t i = 0; i < h.S; i += CHUNK) {
            NAME(query_gradients)(&h, i, ROWS_FROM(i, h.S));
            NAME(linear_dq)(&h, i, ROWS_FROM(i, h.S));
            NAME(remember)(&h, i, ROWS_FROM(i, h.S));
        }
        for (ptrdiff_t i = last; i >= 0 && h.S; i -= CHUNK) {
            NAME(query_gradients)(&h, i, ROWS_FROM(i, h.S));
            NAME(linear_dkey)(&h, i, ROWS_FROM(i, h.S));
            NAME(remember_gradients)(&h, ROWS_FROM(i, h.S));
        }
        return;
    }
    for (ptrdiff_t i = 0; i < h.S; i += CHUNK) NAME(remember)(&h, i, ROWS_FROM(i, h.S));
    for (ptrdiff_t i = 0; i < h.T_; i += CHUNK) {
        NAME(query_gradients)(&h, i, ROWS_FROM(i, h.T_));
        NAME(linear_dq)(&h, i, ROWS_FROM(i, h.T_));
        NAME(remember_gradients)(&h, ROWS_FROM(i, h.T_));
    }
    for (ptrdiff_t i = 0; i < h.S; i += CHUNK) NAME(linear_dkey)(&h, i, ROWS_FROM(i, h.S));
}

static void NAME(linear_attention)(void *first, const call_t *c) {
    parallel(NAME(linear_attention_task), c, c->n[0] * c->n[4], 0.1 * c->n[0] * (c->n[1] + c->n[2]) * c->n[3] * (c->n[3] / c->n[4]));
}

static void NAME(linear_attention_backward)(void *first, const call_t *c) {
    parallel(NAME(linear_attention_backward_task), c, c->n[0] * c->n[4],
             0.2 * c->n[0] * (c->n[1] + c->n[2]) * c->n[3] * (c->n[3] / c->n[4]));
}

/* A sequence mixed into a shorter one: y (R, E) = weight (R, M) x (S, E), of which only steps count whose mask is 1. Those
 * come in runs. */
#define EACH_RUN(mask, S)                                                                           \
    for (ptrdiff_t s = 0, end; s < (S); s = end)                                                    \
        if ((end = s + 1) && (!(mask) || (mask)[s])) {                                              \
            while (end < (S) && (!(mask) || (mask)[end])) end++;
#define END_RUN }

#define MIX_COLUMNS 64 /* of a task */

static void NAME(mix_steps_task)(void *first, const call_t *c, ptrdiff_t task, int thread) {
    const ptrdiff_t S = c->n[1], E = c->n[2], R = c->n[3], Mx = c->n[4], blocks = (E + MIX_COLUMNS - 1) / MIX_COLUMNS;
    const ptrdiff_t n = task / blocks, e = task % blocks * MIX_COLUMNS, cols = E - e < MIX_COLUMNS ? E - e : MIX_COLUMNS;
    T *y = (T *)first + n * R * E + e;
    const T *x = (const T *)c->p[1] + n * S * E + e, *weight = (const T *)c->p[2];
    const uint8_t *mask = c->p[3] ? (const uint8_t *)c->p[3] + n * S : NULL;
    for (ptrdiff_t r = 0; r < R; r++) memset(y + r * E, 0, (size_t)cols * sizeof(T));
    EACH_RUN(mask, S)
        NAME(multiply)(y, E, weight + s, Mx, 1, x + s * E, E, R, cols, end - s, 1);
    END_RUN
}

static void NAME(mix_steps)(void *first, const call_t *c) {
    const ptrdiff_t blocks = (c->n[2] + MIX_COLUMNS - 1) / MIX_COLUMNS;
    parallel(NAME(mix_steps_task), c, c->n[0] * blocks, 0.04 * c->n[0] * c->n[1] * c->n[2] * c->n[3]);
}

/* dx (S, E) = weightᵀ dy, and 0 where the mask is. */
static void NAME(mix_steps_data_task)(void *first, const call_t *c, ptrdiff_t task, int thread) {
    const ptrdiff_t S = c->n[1], E = c->n[2], R = c->n[3], Mx = c->n[4], blocks = (E + MIX_COLUMNS - 1) / MIX_COLUMNS;
    const ptrdiff_t n = task / blocks, e = task % blocks * MIX_COLUMNS, cols = E - e < MIX_COLUMNS ? E - e : MIX_COLUMNS;
    T *dx = (T *)first + n * S * E + e;
    const T *dy = (const T *)c->p[1] + n * R * E + e, *weight = (const T *)c->p[2];
    const uint8_t *mask = c->p[3] ? (const uint8_t *)c->p[3] + n * S : NULL;
    for (ptrdiff_t s = 0; s < S; s++)
        if (mask && !mask[s]) memset(dx + s * E, 0, (size_t)cols * sizeof(T));
    EACH_RUN(mask, S)
        NAME(multiply)(dx + s * E, E, weight + s, 1, Mx, dy, E, end - s, cols, R, 0);
    END_RUN
}

static void NAME(mix_steps_backward_data)(void *first, const call_t *c) {
    const ptrdiff_t blocks = (c->n[2] + MIX_COLUMNS - 1) / MIX_COLUMNS;
    parallel(NAME(mix_steps_data_task), c, c->n[0] * blocks, 0.04 * c->n[0] * c->n[1] * c->n[2] * c->n[3]);
}

/* dweight (R, M) = Σ dy xᵀ over the samples, in their order: some columns, that is steps, of which x is transposed. */
static void NAME(mix_steps_weights_task)(void *first, const call_t *c, ptrdiff_t task, int thread) {
    const ptrdiff_t N = c->n[0], S = c->n[1], E = c->n[2], R = c->n[3], Mx = c->n[4], s0 = task * CHUNK;
    const ptrdiff_t count = ROWS_FROM(s0, Mx), used = S - s0 < count ? S - s0 : count;
    T *dweight = (T *)first + s0, *turned = (T *)(c->own + thread * c->own_size);
    if (!(c->add & 1))
        for (ptrdiff_t r = 0; r < R; r++) memset(dweight + r * Mx, 0, (size_t)count * sizeof(T));
    for (ptrdiff_t n = 0; n < N && used > 0; n++) {
        const T *dy = (const T *)c->p[1] + n * R * E, *x = (const T *)c->p[2] + (n * S + s0) * E;
        const uint8_t *mask = c->p[3] ? (const uint8_t *)c->p[3] + n * S + s0 : NULL;
        NAME(transpose)(turned, CHUNK, x, E, used, E, NULL);
        EACH_RUN(mask, used)
            NAME(multiply)(dweight + s, Mx, dy, E, 1, turned + s, CHUNK, R, end - s, E, 1);
        END_RUN
    }
}

static void NAME(mix_steps_backward_weights)(void *first, const call_t *c) {
    parallel(NAME(mix_steps_weights_task), c, (c->n[4] + CHUNK - 1) / CHUNK, 0.04 * c->n[0] * c->n[1] * c->n[2] * c->n[3]);
}

#undef CHUNK
#undef ROWS_FROM
#undef MASK_FROM
#undef MIX_COLUMNS
#undef EACH_RUN
#undef END_RUN

/* The register tiles, for one type T (see tiles.h).
 *
 * outer: C[i][j] (+)= sum over taps t and k of A[ta[t] + row i + k*ak] * B[tb[t] + k*bk + j], the rows of A and C lying as
 * a `grid_t` says. Every product of the library whose result has its vector axis in B is this one: a convolution (taps are
 * kernel positions, k input channels, rows the pixels of an image), its two backwards, and both backwards of a linear
 * layer (one tap).
 * dot: C[i][j] = sum over k of A[i*lda + k] * B[j*ldb + k] + bias[j], vectors along k: the forward of a linear layer of few
 * rows or outputs; others run on `outer`, with the batch transposed.
 */
/* What one tile of a grid works on: where each of its rows begins or, above LOW_ROWS rows, each four of them. */
typedef struct {
    const grid_t *grid;
    const T *a[LOW_ROWS], *b, *bias;
    T *c[LOW_ROWS];
    M last;
} NAME(place_t);

INLINE void NAME(outer_tile)(const int R, const int NV, const int masked, const NAME(place_t) *p) {
    V acc[14][4];
    const int each = R <= LOW_ROWS ? 1 : 4, starts = (R + each - 1) / each;
    const grid_t *o = p->grid;
    const M last = p->last;
#define COLUMN(p, j) (masked && (j) == NV - 1 ? NAME(load_first)((p) + (j) * VL, last) : NAME(load)((p) + (j) * VL))
#define ROW_OF_C(i) (p->c[(i) / each] + (i) % each * o->ci)
    UNROLL for (int i = 0; i < R; i++) {
        UNROLL for (int j = 0; j < NV; j++) {
            if (o->add) acc[i][j] = COLUMN(ROW_OF_C(i), j);
            else if (p->bias) acc[i][j] = COLUMN(p->bias, j);
            else acc[i][j] = (V){0};
        }
    }
#define ADD_PRODUCTS(a)                                                              \
    V w[4];                                                                          \
    UNROLL for (int j = 0; j < NV; j++) w[j] = COLUMN(b, j);                         \
    UNROLL for (int i = 0; i < R; i++) {                                             \
        V x = NAME(all)((a)[i / each][i % each == 3 ? ai3 : i % each * ai]);         \
        UNROLL for (int j = 0; j < NV; j++) acc[i][j] += x * w[j];                   \
    }
    const ptrdiff_t ai = o->ai, ai3 = 3 * ai, bk = o->bk;
    const T *b = p->b;
    /* Row addresses come from memory for each tap: the compiler would keep them in vector registers, from where they reach
     * the address units only when all products before them are done. */
    if (!o->tb) /* a single loop for short sums */
        for (const ptrdiff_t *ta = o->ta, *end = ta + o->taps; ta < end; ta++, b += bk) {
            __asm__ volatile("" ::: "memory");
            const T *a[LOW_ROWS];
            UNROLL for (int q = 0; q < starts; q++) a[q] = p->a[q] + *ta;
            ADD_PRODUCTS(a)
        }
    else
        for (ptrdiff_t t = 0; t < o->taps; t++) {
            __asm__ volatile("" ::: "memory");
            const ptrdiff_t at = o->ta[t], ak = o->ak;
            const T *a[LOW_ROWS];
            UNROLL for (int q = 0; q < starts; q++) a[q] = p->a[q] + at;
            b = p->b + o->tb[t];
            for (ptrdiff_t k = o->depth; k > 0; k--, b += bk) {
                ADD_PRODUCTS(a)
                UNROLL for (int q = 0; q < starts; q++) a[q] += ak;
            }
        }
#undef ADD_PRODUCTS
    if (o->relu)
        UNROLL for (int i = 0; i < R; i++) UNROLL for (int j = 0; j < NV; j++) acc[i][j] = NAME(positive)(acc[i][j]);
    UNROLL for (int i = 0; i < R; i++) {
        UNROLL for (int j = 0; j < NV; j++) {
            if (masked && j == NV - 1) NAME(store_first)(ROW_OF_C(i) + j * VL, acc[i][j], last);
            else NAME(store)(ROW_OF_C(i) + j * VL, acc[i][j]);
        }
    }
#undef COLUMN
#undef ROW_OF_C
}

typedef void (*NAME(outer_fn))(const NAME(place_t) *);

#define OUTER(R, NV)                                                                                                   \
    NOINLINE void NAME(outer_##R##x##NV)(const NAME(place_t) * p) { NAME(outer_tile)(R, NV, 0, p); }                   \
    NOINLINE void NAME(outer_##R##x##NV##_masked)(const NAME(place_t) * p) { NAME(outer_tile)(R, NV, 1, p); }
#define ROW(R, NV) {NAME(outer_##R##x##NV), NAME(outer_##R##x##NV##_masked)}
#define UP_TO_6(F, NV) F(1, NV) F(2, NV) F(3, NV) F(4, NV) F(5, NV) F(6, NV)
#define UP_TO_12(F, NV) UP_TO_6(F, NV) F(7, NV) F(8, NV) F(9, NV) F(10, NV) F(11, NV) F(12, NV)
#define UP_TO_14(F, NV) UP_TO_12(F, NV) F(13, NV) F(14, NV)
#define ROWS_6(NV) ROW(1, NV), ROW(2, NV), ROW(3, NV), ROW(4, NV), ROW(5, NV), ROW(6, NV)
#define ROWS_12(NV) ROWS_6(NV), ROW(7, NV), ROW(8, NV), ROW(9, NV), ROW(10, NV), ROW(11, NV), ROW(12, NV)
#define ROWS_14(NV) ROWS_12(NV), ROW(13, NV), ROW(14, NV)

#if REGISTERS == 32
UP_TO_14(OUTER, 1)
UP_TO_14(OUTER, 2)
UP_TO_6(OUTER, 3)
OUTER(7, 3)
OUTER(8, 3)
OUTER(9, 3)
UP_TO_6(OUTER, 4)
static const NAME(outer_fn) NAME(outer_fns)[4][14][2] = {
    {ROWS_14(1)}, {ROWS_14(2)}, {ROWS_6(3), ROW(7, 3), ROW(8, 3), ROW(9, 3)}, {ROWS_6(4)}};
#else
UP_TO_12(OUTER, 1)
UP_TO_6(OUTER, 2)
static const NAME(outer_fn) NAME(outer_fns)[2][12][2] = {{ROWS_12(1)}, {ROWS_6(2)}};
#endif

/* Ask for the rows of A that the next tile takes. Where they are long and read by one tile only, as in a 1 x 1 convolution,
 * no processor foresees them: a tile goes through several of a page at once. */
INLINE void NAME(fetch_rows)(const grid_t *o, const T *a, ptrdiff_t rows) {
    for (ptrdiff_t i = 0; i < rows; i++, a += o->ai)
        for (ptrdiff_t k = 0; k < o->depth; k += 64 / (ptrdiff_t)sizeof(T)) __builtin_prefetch(a + k, 0, 2);
}

/* Tiles as even as can be: 26 rows by at most 14 are 13 and 13. Low tiles cross from one run of rows into the next. */
NOINLINE void NAME(outer)(const grid_t *o, T *c, const T *a, const T *b, const T *bias) {
    const ptrdiff_t vectors = (o->cols + VL - 1) / VL, blocks = (vectors + OUTER_VECTORS - 1) / OUTER_VECTORS;
    if (o->rows < 1 || o->cols < 1) return;
    const int streams = o->tb && o->taps == 1 && o->ak == 1 && o->depth * (ptrdiff_t)sizeof(T) >= 512;
    NAME(place_t) p = {.grid = o, .last = NAME(first)(o->cols - (vectors - 1) * VL)};
    for (ptrdiff_t block = 0, v = 0; block < blocks; block++) {
        const ptrdiff_t nv = (vectors - v + blocks - block - 1) / (blocks - block), j = v * VL;
        const int masked = v + nv == vectors && o->cols % VL;
        const ptrdiff_t most = o->run <= LOW_ROWS ? LOW_ROWS : outer_rows[nv - 1];
        const ptrdiff_t stretch = most == LOW_ROWS ? o->rows : o->run, tiles = (stretch + most - 1) / most;
        p.b = b + j, p.bias = bias ? bias + j : bias;
        ptrdiff_t image = 0, run = 0, place = 0; /* of the next row */
        ptrdiff_t left = 0; /* tiles of this stretch */
        for (ptrdiff_t done = 0, higher = 0, rows; done < o->rows; done += rows, left--, higher--) {
            if (!left) left = tiles, higher = stretch % tiles;
            rows = stretch / tiles + (higher > 0);
            const ptrdiff_t each = rows <= LOW_ROWS ? 1 : 4;
            for (ptrdiff_t r = 0; r < rows; r += each) {
                p.a[r / each] = a + image * o->an + run * o->aj + place * o->ai;
                p.c[r / each] = c + j + image * o->cn + run * o->cj + place * o->ci;
                place += rows - r < each ? rows - r : each;
                if (place == o->run) place = 0, run++;
                if (run == o->runs) run = 0, image++;
            }
            if (streams && block == 0) NAME(fetch_rows)(o, p.a[0] + *o->ta + rows * o->ai, rows);
            NAME(outer_fns)[nv - 1][rows - 1][masked](&p);
        }
        v += nv;
    }
}

/* sums[i] = the sum of the lanes of acc[i], for n vectors: as often as two vectors are interleaved, and what comes of it
 * added, one vector has the sums of both. */
INLINE void NAME(sums)(T *sums, const V *acc, const int n) {
    UNROLL for (int first = 0; first < n; first += LANES) {
        V r[LANES];
        UNROLL for (int i = 0; i < LANES; i++) r[i] = first + i < n ? acc[first + i] : (V){0};
        UNROLL for (int half = LANES / 2; half; half /= 2) {
            UNROLL for (int i = 0; i < half; i++) {
                V low, high;
                NAME(zip)(&low, &high, r[i], r[i + half]);
                r[i] = low + high;
            }
        }
        NAME(store)(sums + first, r[0]);
    }
}

typedef struct {
    ptrdiff_t rows, cols, depth;
    const T *a;
    ptrdiff_t lda;
    const T *b;
    ptrdiff_t ldb;
    T *c;
    ptrdiff_t ldc;
    const T *bias;
    int relu;
} NAME(dot_t);

INLINE void NAME(dot_tile)(const int R, const int S, const NAME(dot_t) *o, ptrdiff_t i0, ptrdiff_t j0) {
    V acc[4 * DOT_COLS];
    T sums[4 * DOT_COLS + LANES];
    const ptrdiff_t lda = o->lda, ldb = o->ldb, whole = o->depth / VL * VL;
    const T *a = o->a + i0 * lda, *b = o->b + j0 * ldb;
    UNROLL for (int i = 0; i < R; i++) UNROLL for (int j = 0; j < S; j++) acc[i * S + j] = (V){0};
#define STEP(LOAD)                                                      \
    V x[4];                                                             \
    UNROLL for (int i = 0; i < R; i++) x[i] = LOAD(a + i * lda + k);    \
    UNROLL for (int j = 0; j < S; j++) {                                \
        V w = LOAD(b + j * ldb + k);                                    \
        UNROLL for (int i = 0; i < R; i++) acc[i * S + j] += x[i] * w;  \
    }
#define LOAD_LAST(p) NAME(load_first)(p, last)
    ptrdiff_t k = 0;
    for (; k < whole; k += VL) {
        STEP(NAME(load))
    }
    if (k < o->depth) {
        const M last = NAME(first)(o->depth - k);
        STEP(LOAD_LAST)
    }
#undef STEP
#undef LOAD_LAST
    NAME(sums)(sums, acc, R * S);
    UNROLL for (int j = 0; j < S; j += LANES) {
        const M last = NAME(first)(S - j < LANES ? S - j : LANES);
        const V bias = o->bias ? NAME(load_first)(o->bias + j0 + j, last) : (V){0};
        UNROLL for (int i = 0; i < R; i++) {
            const V sum = NAME(load)(sums + i * S + j) + bias;
            NAME(store_first)(o->c + (i0 + i) * o->ldc + j0 + j, o->relu ? NAME(positive)(sum) : sum, last);
        }
    }
}

#define DOT(R, S) \
    NOINLINE void NAME(dot_##R##x##S)(const NAME(dot_t) * o, ptrdiff_t i, ptrdiff_t j) { NAME(dot_tile)(R, S, o, i, j); }
#define DOTS(S) DOT(1, S) DOT(2, S) DOT(3, S) DOT(4, S)
#define DOT_ROW(S) {NAME(dot_1x##S), NAME(dot_2x##S), NAME(dot_3x##S), NAME(dot_4x##S)}
typedef void (*NAME(dot_fn))(const NAME(dot_t) *, ptrdiff_t, ptrdiff_t);
DOTS(1)
DOTS(2)
#if REGISTERS == 32
DOTS(3)
DOTS(4)
DOTS(5)
static const NAME(dot_fn) NAME(dot_fns)[5][4] = {DOT_ROW(1), DOT_ROW(2), DOT_ROW(3), DOT_ROW(4), DOT_ROW(5)};
#else
static const NAME(dot_fn) NAME(dot_fns)[2][4] = {DOT_ROW(1), DOT_ROW(2)};
#endif

/* Tiles as even as can be; those of the same rows of A one after the other, since B has fewer rows. */
NOINLINE void NAME(dot)(const NAME(dot_t) * o) {
    const ptrdiff_t down = (o->rows + 3) / 4, across = (o->cols + DOT_COLS - 1) / DOT_COLS;
    for (ptrdiff_t I = 0, i = 0; I < down; I++) {
        ptrdiff_t rows = (o->rows - i + down - I - 1) / (down - I);
        for (ptrdiff_t J = 0, j = 0; J < across; J++) {
            ptrdiff_t cols = (o->cols - j + across - J - 1) / (across - J);
            NAME(dot_fns)[cols - 1][rows - 1](o, i, j);
            j += cols;
        }
        i += rows;
    }
}

#undef OUTER
#undef ROW
#undef UP_TO_6
#undef UP_TO_12
#undef UP_TO_14
#undef ROWS_6
#undef ROWS_12
#undef ROWS_14
#undef DOT
#undef DOTS
#undef DOT_ROW

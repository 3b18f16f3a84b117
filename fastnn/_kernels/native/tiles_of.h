/* The register tiles, for one type T (see tiles.h).
 *
 * outer: C[i][j] (+)= sum over taps t and k of A[ta[t] + row i + k*ak] * B[tb[t] + k*bk + j], the rows of A and C lying as
 * a `grid_t` says. Every product of the library whose result has its vector axis in B is this one: a convolution (taps are
 * kernel positions, k input channels, rows the pixels of an image), its two backwards, and both backwards of a linear
 * layer (one tap).
 * dot: C[i][j] = sum over k of A[i*lda + k] * B[j*ldb + k] + bias[j], vectors along k: the forward of a linear layer.
 */
#include "vec.h"

typedef IT NAME(ints) __attribute__((vector_size(VBYTES)));
INLINE V NAME(relu)(V v) { return (V)((NAME(ints))v & ~(v <= 0)); } /* NaN passes */

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
        UNROLL for (int i = 0; i < R; i++) UNROLL for (int j = 0; j < NV; j++) acc[i][j] = NAME(relu)(acc[i][j]);
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

/* Tiles as even as can be: 26 rows by at most 14 are 13 and 13. Low tiles cross from one run of rows into the next. */
NOINLINE void NAME(outer)(const grid_t *o, T *c, const T *a, const T *b, const T *bias) {
    const ptrdiff_t vectors = (o->cols + VL - 1) / VL, blocks = (vectors + OUTER_VECTORS - 1) / OUTER_VECTORS;
    if (o->rows < 1 || o->cols < 1) return;
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
            NAME(outer_fns)[nv - 1][rows - 1][masked](&p);
        }
        v += nv;
    }
}

/* sums[j] = the sum of the lanes of acc[j], for n <= 4 vectors at once: folded to four lanes each, then transposed. */
typedef T NAME(four) __attribute__((vector_size(4 * sizeof(T))));
typedef IT NAME(four_ints) __attribute__((vector_size(4 * sizeof(T))));
#ifdef __clang__
#define MIX(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define MIX(a, b, i, j, k, l) __builtin_shuffle(a, b, (NAME(four_ints)){i, j, k, l})
#endif

INLINE void NAME(fold)(NAME(four) * sum, V v) {
    NAME(four) part;
    T lanes[VBYTES / sizeof(T)];
    NAME(store)(lanes, v);
    __asm__ volatile("" : "+m"(lanes)); /* else GCC keeps v itself in memory, throughout the loop that made it */
    memcpy(sum, lanes, VL < 4 ? sizeof lanes : sizeof *sum);
    UNROLL for (size_t i = 4; i < VBYTES / sizeof(T); i += 4) {
        memcpy(&part, lanes + i, sizeof part);
        *sum += part;
    }
}

INLINE void NAME(sums)(NAME(four) * sums, const V *acc, const int n) {
    NAME(four) f[4] = {{0}, {0}, {0}, {0}};
    UNROLL for (int j = 0; j < n; j++) NAME(fold)(&f[j], acc[j]);
    NAME(four) low = MIX(f[0], f[1], 0, 4, 1, 5) + MIX(f[0], f[1], 2, 6, 3, 7);
    NAME(four) high = MIX(f[2], f[3], 0, 4, 1, 5) + MIX(f[2], f[3], 2, 6, 3, 7);
    *sums = MIX(low, high, 0, 1, 4, 5) + MIX(low, high, 2, 3, 6, 7);
}
#undef MIX

typedef struct {
    ptrdiff_t rows, cols, depth;
    const T *a;
    ptrdiff_t lda;
    const T *b;
    ptrdiff_t ldb;
    T *c;
    ptrdiff_t ldc;
    const T *bias;
} NAME(dot_t);

INLINE void NAME(dot_tile)(const int R, const int S, const NAME(dot_t) *o, ptrdiff_t i0, ptrdiff_t j0) {
    V acc[4][4];
    const ptrdiff_t lda = o->lda, ldb = o->ldb, whole = o->depth / VL * VL;
    const T *a = o->a + i0 * lda, *b = o->b + j0 * ldb;
    UNROLL for (int i = 0; i < R; i++) UNROLL for (int j = 0; j < S; j++) acc[i][j] = (V){0};
    for (ptrdiff_t k = 0; k < whole; k += VL) {
        V x[4];
        UNROLL for (int i = 0; i < R; i++) x[i] = NAME(load)(a + i * lda + k);
        UNROLL for (int j = 0; j < S; j++) {
            V w = NAME(load)(b + j * ldb + k);
            UNROLL for (int i = 0; i < R; i++) acc[i][j] += x[i] * w;
        }
    }
    if (whole < o->depth) {
        M m = NAME(first)(o->depth - whole);
        V x[4];
        UNROLL for (int i = 0; i < R; i++) x[i] = NAME(load_first)(a + i * lda + whole, m);
        UNROLL for (int j = 0; j < S; j++) {
            V w = NAME(load_first)(b + j * ldb + whole, m);
            UNROLL for (int i = 0; i < R; i++) acc[i][j] += x[i] * w;
        }
    }
    UNROLL for (int i = 0; i < R; i++) {
        NAME(four) sums;
        NAME(sums)(&sums, acc[i], S);
        T *c = o->c + (i0 + i) * o->ldc + j0;
        UNROLL for (int j = 0; j < S; j++) c[j] = sums[j] + (o->bias ? o->bias[j0 + j] : 0);
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
static const NAME(dot_fn) NAME(dot_fns)[4][4] = {DOT_ROW(1), DOT_ROW(2), DOT_ROW(3), DOT_ROW(4)};
#else
static const NAME(dot_fn) NAME(dot_fns)[2][4] = {DOT_ROW(1), DOT_ROW(2)};
#endif

NOINLINE void NAME(dot)(const NAME(dot_t) * o) {
    for (ptrdiff_t j = 0; j < o->cols; j += DOT_COLS) {
        ptrdiff_t cols = o->cols - j < DOT_COLS ? o->cols - j : DOT_COLS;
        for (ptrdiff_t i = 0; i < o->rows; i += 4) {
            ptrdiff_t rows = o->rows - i < 4 ? o->rows - i : 4;
            NAME(dot_fns)[cols - 1][rows - 1](o, i, j);
        }
    }
}

#include "conv_of.h"

/* Rows of a loop, written so that every compiler makes vector code of them. */

NOINLINE void NAME(relu_row)(T *restrict y, const T *restrict x, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) y[i] = x[i] <= 0 ? 0 : x[i]; /* NaN passes */
}

NOINLINE void NAME(relu_backward_row)(T *restrict dx, const T *restrict dy, const T *restrict y, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) dx[i] = y[i] <= 0 ? 0 : dy[i];
}

NOINLINE void NAME(add_row)(T *restrict y, const T *restrict x, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) y[i] += x[i];
}

/* total (cols) = x (rows, cols) summed over rows: four partial sums of every fourth row, added in their order. */
NOINLINE void NAME(sum_rows)(T *total, const T *x, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t ld, int add) {
    for (ptrdiff_t j = 0; j < cols; j += VL) {
        const ptrdiff_t n = cols - j < VL ? cols - j : VL;
        const M m = NAME(first)(n);
        V sums[4] = {{0}, {0}, {0}, {0}};
        ptrdiff_t i = 0;
        for (; i + 4 <= rows; i += 4)
            UNROLL for (int r = 0; r < 4; r++) {
                const T *row = x + (i + r) * ld + j;
                sums[r] += n == VL ? NAME(load)(row) : NAME(load_first)(row, m);
            }
        for (; i < rows; i++) sums[0] += NAME(load_first)(x + i * ld + j, m);
        V all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        if (add) all += NAME(load_first)(total + j, m);
        NAME(store_first)(total + j, all, m);
    }
}

typedef uint16_t NAME(halves) __attribute__((vector_size(VBYTES / sizeof(T) * 2)));

/* A row of output pixels of max pooling, all channels: y and the index of the tap that each came from. The first maximum
 * wins a tie, NaN beats all (PyTorch's rule). `taps` lists, for each tap inside the image, its offset in x and its number;
 * the windows lie `step` apart in x. */
NOINLINE void NAME(max_pool_pixels)(T *y, uint16_t *index, const T *x, const ptrdiff_t *taps, ptrdiff_t count,
                                    ptrdiff_t channels, ptrdiff_t pixels, ptrdiff_t step) {
    for (; pixels > 0; pixels--, x += step, y += channels, index += index ? channels : 0)
        for (ptrdiff_t c = 0; c < channels; c += VL) {
            const ptrdiff_t n = channels - c < VL ? channels - c : VL;
            const M m = NAME(first)(n);
            V best = n == VL ? NAME(load)(x + taps[0] + c) : NAME(load_first)(x + taps[0] + c, m);
            NAME(ints) from = (NAME(ints)){0} + (IT)taps[1];
            for (ptrdiff_t t = 1; t < count; t++) {
                V v = n == VL ? NAME(load)(x + taps[2 * t] + c) : NAME(load_first)(x + taps[2 * t] + c, m);
                NAME(ints) takes = (v > best) | (v != v);
                best = (V)(((NAME(ints))v & takes) | ((NAME(ints))best & ~takes));
                from = (((NAME(ints)){0} + (IT)taps[2 * t + 1]) & takes) | (from & ~takes);
            }
            if (n == VL) NAME(store)(y + c, best);
            else NAME(store_first)(y + c, best, m);
            if (index) {
                NAME(halves) narrow = __builtin_convertvector(from, NAME(halves));
                if (n == VL) memcpy(index + c, &narrow, sizeof narrow);
                else memcpy(index + c, &narrow, n * sizeof *index);
            }
        }
}

/* The gradient of such a row: each dy goes to the tap that its maximum came from, the other taps get 0 (or, with `add`,
 * keep what they have). */
NOINLINE void NAME(unpool_pixels)(T *dx, const T *dy, const uint16_t *index, const ptrdiff_t *taps, ptrdiff_t count,
                                  ptrdiff_t channels, ptrdiff_t pixels, ptrdiff_t step, int add) {
    for (; pixels > 0; pixels--, dx += step, dy += channels, index += channels)
        for (ptrdiff_t c = 0; c < channels; c += VL) {
            const ptrdiff_t n = channels - c < VL ? channels - c : VL;
            const M m = NAME(first)(n);
            NAME(halves) narrow = {0};
            if (n == VL) memcpy(&narrow, index + c, sizeof narrow);
            else memcpy(&narrow, index + c, n * sizeof *index);
            const NAME(ints) from = __builtin_convertvector(narrow, NAME(ints));
            const V g = n == VL ? NAME(load)(dy + c) : NAME(load_first)(dy + c, m);
            for (ptrdiff_t t = 0; t < count; t++) {
                T *to = dx + taps[2 * t] + c;
                V part = (V)((NAME(ints))g & (from == (IT)taps[2 * t + 1]));
                if (add) part += n == VL ? NAME(load)(to) : NAME(load_first)(to, m);
                if (n == VL) NAME(store)(to, part);
                else NAME(store_first)(to, part, m);
            }
        }
}

typedef struct {
    T lr, momentum, undamped, decay, sign;
    int nesterov, started;
} NAME(sgd_t);

NOINLINE void NAME(sgd_row)(T *restrict w, const T *restrict grad, T *restrict buffer, NAME(sgd_t) h, ptrdiff_t n) {
    if (buffer && !h.started) { /* the first step takes the gradient whole, whatever the buffer held */
        memset(buffer, 0, n * sizeof(T));
        h.undamped = 1;
    }
    if (!buffer)
        for (ptrdiff_t i = 0; i < n; i++) w[i] -= h.lr * (h.sign * grad[i] + h.decay * w[i]);
    else if (h.nesterov)
        for (ptrdiff_t i = 0; i < n; i++) {
            T g = h.sign * grad[i] + h.decay * w[i];
            buffer[i] = h.momentum * buffer[i] + h.undamped * g;
            w[i] -= h.lr * (g + h.momentum * buffer[i]);
        }
    else
        for (ptrdiff_t i = 0; i < n; i++) {
            T g = h.sign * grad[i] + h.decay * w[i];
            buffer[i] = h.momentum * buffer[i] + h.undamped * g;
            w[i] -= h.lr * buffer[i];
        }
}

#undef V
#undef M
#undef VL
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

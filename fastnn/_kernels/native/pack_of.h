/* Transposes in registers, for one type T (see tiles.h).
 *
 * The first and the second half of VL vectors are interleaved, log2(VL) times: each time the highest bit of a number's row
 * and that of its lane change places, which in the end has exchanged row and lane.
 */
#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (NAME(ints)){__VA_ARGS__})
#endif

INLINE void NAME(zip)(V *low, V *high, V a, V b) {
#if LANES == 16
    *low = SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    *high = SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif LANES == 8
    *low = SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    *high = SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#elif LANES == 4
    *low = SHUFFLE(a, b, 0, 4, 1, 5);
    *high = SHUFFLE(a, b, 2, 6, 3, 7);
#else
    *low = SHUFFLE(a, b, 0, 2);
    *high = SHUFFLE(a, b, 1, 3);
#endif
}

/* Row i becomes lane i. */
INLINE void NAME(turn)(V r[LANES]) {
    UNROLL for (int bit = 1; bit < LANES; bit *= 2) {
        V t[LANES];
        UNROLL for (int i = 0; i < LANES / 2; i++) NAME(zip)(&t[2 * i], &t[2 * i + 1], r[i], r[i + LANES / 2]);
        UNROLL for (int i = 0; i < LANES; i++) r[i] = t[i];
    }
}

/* What is done to a row of the result before it is stored: in a linear layer's forward all of these. */
typedef struct {
    const T *bias; /* a number for each place in the row, or NULL */
    int add, relu; /* to what is there; then, what is not positive becomes 0 */
} NAME(finish_t);

INLINE V NAME(finish)(V r, const NAME(finish_t) *f, V bias, V before) {
    if (f->bias) r += bias;
    if (f->add) r += before;
    return f->relu ? NAME(positive)(r) : r;
}

/* y[j * ldy + i] = x[i * ldx + j], finished, for VL rows and columns. Not inline: in a loop, compilers keep its addresses,
 * for which there are no registers. */
NOINLINE void NAME(transpose_whole)(T *y, ptrdiff_t ldy, const T *x, ptrdiff_t ldx, const NAME(finish_t) * f) {
    V r[LANES];
    UNROLL for (int i = 0; i < LANES; i++, x += ldx) r[i] = NAME(load)(x);
    NAME(turn)(r);
    if (!f) {
        UNROLL for (int j = 0; j < LANES; j++, y += ldy) NAME(store)(y, r[j]);
        return;
    }
    const V bias = f->bias ? NAME(load)(f->bias) : (V){0};
    UNROLL for (int j = 0; j < LANES; j++, y += ldy)
        NAME(store)(y, NAME(finish)(r[j], f, bias, f->add ? NAME(load)(y) : (V){0}));
}

/* The same for n rows and m columns, at most VL of each. */
NOINLINE void NAME(transpose_part)(T *y, ptrdiff_t ldy, const T *x, ptrdiff_t ldx, const NAME(finish_t) * f, ptrdiff_t n,
                                   ptrdiff_t m) {
    const M rows = NAME(first)(n), cols = NAME(first)(m);
    V r[LANES];
    UNROLL for (int i = 0; i < LANES; i++, x += ldx) r[i] = i < n ? NAME(load_first)(x, cols) : (V){0};
    NAME(turn)(r);
    const V bias = f && f->bias ? NAME(load_first)(f->bias, rows) : (V){0};
    for (int j = 0; j < m; j++, y += ldy)
        NAME(store_first)(y, f ? NAME(finish)(r[j], f, bias, f->add ? NAME(load_first)(y, rows) : (V){0}) : r[j], rows);
}

/* y (cols, rows) = x (rows, cols) transposed, and finished (NULL: as it is): in blocks of four tiles by four, of which a
 * row of y is written whole before the next. */
NOINLINE void NAME(transpose)(T *y, ptrdiff_t ldy, const T *x, ptrdiff_t ldx, ptrdiff_t rows, ptrdiff_t cols,
                              const NAME(finish_t) * finish) {
    NAME(finish_t) here = finish ? *finish : (NAME(finish_t)){0}, *f = finish ? &here : NULL;
    for (ptrdiff_t block = 0; block < rows; block += 4 * VL) {
        const ptrdiff_t end = rows - block < 4 * VL ? rows : block + 4 * VL;
        for (ptrdiff_t j = 0; j < cols; j += VL) {
            const ptrdiff_t m = cols - j < VL ? cols - j : VL;
            for (ptrdiff_t i = block; i < end; i += VL) {
                const ptrdiff_t n = end - i < VL ? end - i : VL;
                if (f && f->bias) here.bias = finish->bias + i;
                if (n == VL && m == VL) NAME(transpose_whole)(y + j * ldy + i, ldy, x + i * ldx + j, ldx, f);
                else NAME(transpose_part)(y + j * ldy + i, ldy, x + i * ldx + j, ldx, f, n, m);
            }
        }
    }
}

/* x (rows, cols), whose rows lie ldx apart, as panels of `width` columns, the last one of what is left, one after the
 * other. The rows are too far apart for a processor to foresee the next one. */
NOINLINE void NAME(pack)(T *panels, ptrdiff_t width, const T *x, ptrdiff_t ldx, ptrdiff_t rows, ptrdiff_t cols) {
    for (ptrdiff_t i = 0; i < rows; i++, x += ldx) {
        if (i + 2 < rows)
            for (ptrdiff_t j = 0; j < cols; j += 64 / (ptrdiff_t)sizeof(T)) __builtin_prefetch(x + 2 * ldx + j);
        for (ptrdiff_t j = 0; j < cols; j += width) {
            const ptrdiff_t n = cols - j < width ? cols - j : width;
            T *to = panels + j * rows + i * n;
            ptrdiff_t k = 0;
            for (; k + VL <= n; k += VL) NAME(store)(to + k, NAME(load)(x + j + k));
            if (k < n) NAME(store_first)(to + k, NAME(load_first)(x + j + k, NAME(first)(n - k)), NAME(first)(n - k));
        }
    }
}

#undef SHUFFLE

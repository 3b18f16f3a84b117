/* Sums of rows of numbers, and copies of matrices that are parts of others, for one type T. */

/* y = a + b, then ReLU if so wanted. y may lie where a or b does. */
NOINLINE void NAME(sum_row)(T *y, const T *a, const T *b, ptrdiff_t n, int relu) {
#define SUM(v) (relu ? NAME(positive)(v) : (v))
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL) {
        const V sum = NAME(load)(a + i) + NAME(load)(b + i);
        NAME(store)(y + i, SUM(sum));
    }
    if (i < n) {
        const M m = NAME(first)(n - i);
        const V sum = NAME(load_first)(a + i, m) + NAME(load_first)(b + i, m);
        NAME(store_first)(y + i, SUM(sum), m);
    }
#undef SUM
}

/* y (rows, cols) = x (rows, cols), whose rows lie ldy and ldx apart. */
NOINLINE void NAME(copy_rows)(T *y, ptrdiff_t ldy, const T *x, ptrdiff_t ldx, ptrdiff_t rows, ptrdiff_t cols) {
    const ptrdiff_t whole = cols / VL * VL;
    const M m = NAME(first)(cols - whole ? cols - whole : VL);
    for (ptrdiff_t i = 0; i < rows; i++, y += ldy, x += ldx) {
        for (ptrdiff_t j = 0; j < whole; j += VL) NAME(store)(y + j, NAME(load)(x + j));
        if (whole < cols) NAME(store_first)(y + whole, NAME(load_first)(x + whole, m), m);
    }
}

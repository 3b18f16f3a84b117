/* Average pooling of images, channels last, for one type T. */

#ifndef FASTNN_AVERAGES
#define FASTNN_AVERAGES
/* A row of blocks of pixels: see average_pixels. In y the blocks follow each other, each of `copies` equal pixels; x is what
 * they are averages of, whose windows of (rows, cols) pixels lie `step` apart, and the rows of these `line` apart. With
 * `add`, it is added to what is there; `stream`: y leaves the cache. With `divide` the scale is a divisor: slower, but to the
 * bit what the reference has, which matters where many are added one by one. */
typedef struct {
    ptrdiff_t rows, cols, line, channels, step, blocks, copies;
    double scale;
    int add, stream, divide;
} averages_t;
#endif

/* W vectors of channels, of which n numbers count: their sum over a column of pixels, and over a window, in the order of the reference. */
INLINE V NAME(column_sum)(const T *x, const ptrdiff_t rows, ptrdiff_t line, ptrdiff_t n) {
    V sum = NAME(some)(x, n);
    for (ptrdiff_t u = 1; u < rows; u++) sum += NAME(some)(x + u * line, n);
    return sum;
}

INLINE void NAME(window_sums)(V *sums, const T *x, const ptrdiff_t rows, const ptrdiff_t cols, const averages_t *a,
                              const int W, ptrdiff_t n) {
    UNROLL for (int w = 0; w < W; w++) sums[w] = (V){0};
    for (ptrdiff_t u = 0; u < rows; u++, x += a->line) {
        const T *p = x;
        for (ptrdiff_t v = 0; v < cols; v++, p += a->channels)
            UNROLL for (int w = 0; w < W; w++) sums[w] += NAME(some)(p + w * VL, n);
    }
}

INLINE void NAME(average)(T *y, const T *x, const averages_t *a, const ptrdiff_t rows, const ptrdiff_t cols,
                          const ptrdiff_t copies, const int add, const int stream, const int divide, const int W,
                          ptrdiff_t n) {
    V sums[4];
    const T scale = a->scale;
    NAME(window_sums)(sums, x, rows, cols, a, W, n);
    UNROLL for (int w = 0; w < W; w++) sums[w] = divide ? sums[w] / scale : sums[w] * scale;
    for (ptrdiff_t k = 0; k < copies; k++, y += a->channels)
        UNROLL for (int w = 0; w < W; w++) {
            if (stream) NAME(stream)(y + w * VL, sums[w]);
            else NAME(put)(y + w * VL, add ? NAME(some)(y + w * VL, n) + sums[w] : sums[w], n);
        }
}

/* Pixels of less than a vector are written as whole ones, from the first to the last, while that stays within the row: what is
 * too much in one is what the next is written over, and is read from the next ones' windows. */
INLINE void NAME(average_narrow)(T *y, const T *x, const averages_t *a, const ptrdiff_t rows, const ptrdiff_t cols,
                                 const ptrdiff_t copies, const int add, const int divide) {
    const ptrdiff_t n = a->channels, whole = add || a->step < n ? 0 : a->blocks - (VL - 1) / n;
    ptrdiff_t i = 0;
    for (; i < whole; i++, x += a->step, y += copies * n) NAME(average)(y, x, a, rows, cols, copies, 0, 0, divide, 1, VL);
    for (; i < a->blocks; i++, x += a->step, y += copies * n) NAME(average)(y, x, a, rows, cols, copies, add, 0, divide, 1, n);
}

INLINE void NAME(average_row)(T *y, const T *x, const averages_t *a, const ptrdiff_t rows, const ptrdiff_t cols,
                              const ptrdiff_t copies, const int add, const int stream, const int divide) {
    if (a->channels < VL) {
        NAME(average_narrow)(y, x, a, rows, cols, copies, add, divide);
        return;
    }
    const int again = rows == 1 && cols == 1; /* to write pixel by pixel, an average that costs nothing is made for each */
    const ptrdiff_t times = again ? copies : 1, at_once = again ? 1 : copies;
    for (ptrdiff_t i = 0; i < a->blocks; i++, x += a->step)
        for (ptrdiff_t k = 0; k < times; k++, y += at_once * a->channels) {
            ptrdiff_t c = 0;
            for (; c + 4 * VL <= a->channels; c += 4 * VL)
                NAME(average)(y + c, x + c, a, rows, cols, at_once, add, stream, divide, 4, VL);
            for (; c + VL <= a->channels; c += VL)
                NAME(average)(y + c, x + c, a, rows, cols, at_once, add, stream, divide, 1, VL);
            if (c < a->channels)
                NAME(average)(y + c, x + c, a, rows, cols, at_once, add, 0, divide, 1, a->channels - c);
        }
}

/* Windows of three columns, each a pixel after the last: a column is summed once for the three that have it. */
INLINE void NAME(average_threes)(T *y, const T *x, const averages_t *a, const ptrdiff_t rows, const int W, ptrdiff_t n) {
    V left[4], middle[4], right[4];
    const T scale = a->scale;
    UNROLL for (int w = 0; w < W; w++) {
        left[w] = NAME(column_sum)(x + w * VL, rows, a->line, n);
        middle[w] = NAME(column_sum)(x + a->channels + w * VL, rows, a->line, n);
    }
    x += 2 * a->channels;
    for (ptrdiff_t i = 0; i < a->blocks; i++, x += a->channels, y += a->channels)
        UNROLL for (int w = 0; w < W; w++) {
            right[w] = NAME(column_sum)(x + w * VL, rows, a->line, n);
            NAME(put)(y + w * VL, (left[w] + middle[w] + right[w]) * scale, n);
            left[w] = middle[w];
            middle[w] = right[w];
        }
}

INLINE void NAME(average_row_of_threes)(T *y, const T *x, const averages_t *a, const ptrdiff_t rows) {
    ptrdiff_t c = 0;
    for (; c + 4 * VL <= a->channels; c += 4 * VL) NAME(average_threes)(y + c, x + c, a, rows, 4, VL);
    for (; c + VL <= a->channels; c += VL) NAME(average_threes)(y + c, x + c, a, rows, 1, VL);
    if (c < a->channels) NAME(average_threes)(y + c, x + c, a, rows, 1, a->channels - c);
}

/* y = scale times the sum of each window of x, or the sum by it. */
NOINLINE void NAME(average_pixels)(T *y, const T *x, const averages_t *given) {
    const averages_t own = *given, *a = &own; /* which no store into y can change */
    const ptrdiff_t rows = a->rows, cols = a->cols, copies = a->copies;
    if (a->divide) NAME(average_row)(y, x, a, rows, cols, copies, a->add, 0, 1);
    else if (a->add) NAME(average_row)(y, x, a, rows, cols, copies, 1, 0, 0);
    else if (rows == 1 && cols == 1 && a->stream) NAME(average_row)(y, x, a, 1, 1, copies, 0, 1, 0);
    else if (rows == 1 && cols == 1 && copies == 2) NAME(average_row)(y, x, a, 1, 1, 2, 0, 0, 0);
    else if (rows == 1 && cols == 1) NAME(average_row)(y, x, a, 1, 1, copies, 0, 0, 0);
    else if (rows == 2 && cols == 2 && copies == 1) NAME(average_row)(y, x, a, 2, 2, 1, 0, 0, 0); /* the usual window */
    else if (rows == 3 && cols == 3 && copies == 1 && a->step == a->channels) NAME(average_row_of_threes)(y, x, a, 3);
    else NAME(average_row)(y, x, a, rows, cols, copies, 0, 0, 0);
}

/* Rows of pixels that convolutions fused with ReLU and max pooling need beside the tiles, for one type T. */

typedef uint16_t NAME(places) __attribute__((vector_size(VBYTES / sizeof(T) * 2)));
#define NOWHERE 65535 /* the index of a maximum that ReLU makes 0: no tap has it, so no gradient passes */

/* A row of output pixels: the maximum of each window, then ReLU, and the place in its window that it came from. The first
 * maximum wins a tie, NaN beats all. Windows of (height, width) pixels lie side by side; rows of x lie `line` apart. */
NOINLINE void NAME(pool_relu)(T *y, uint16_t *index, const T *x, ptrdiff_t height, ptrdiff_t width, ptrdiff_t line,
                              ptrdiff_t channels, ptrdiff_t pixels) {
    for (; pixels > 0; pixels--, x += width * channels, y += channels, index += index ? channels : 0)
        for (ptrdiff_t c = 0; c < channels; c += VL) {
            const ptrdiff_t n = channels - c < VL ? channels - c : VL;
            const M m = NAME(first)(n);
            V best = {0};
            NAME(ints) from = (NAME(ints)){0} + NOWHERE;
            IT tap = 0;
            for (ptrdiff_t u = 0; u < height; u++)
                for (ptrdiff_t v = 0; v < width; v++, tap++) {
                    const T *p = x + u * line + v * channels + c;
                    V value = n == VL ? NAME(load)(p) : NAME(load_first)(p, m);
                    NAME(ints) takes = (value > best) | (value != value);
                    best = (V)(((NAME(ints))value & takes) | ((NAME(ints))best & ~takes));
                    from = (((NAME(ints)){0} + tap) & takes) | (from & ~takes);
                }
            if (n == VL) NAME(store)(y + c, best);
            else NAME(store_first)(y + c, best, m);
            if (index) {
                NAME(places) narrow = __builtin_convertvector(from, NAME(places));
                memcpy(index + c, &narrow, n == VL ? sizeof narrow : n * sizeof *index);
            }
        }
}

/* Its gradient: each window's dy goes to the pixel that the maximum came from, 0 to the others. */
NOINLINE void NAME(unpool_relu)(T *dx, const T *dy, const uint16_t *index, ptrdiff_t height, ptrdiff_t width,
                                ptrdiff_t line, ptrdiff_t channels, ptrdiff_t pixels) {
    for (; pixels > 0; pixels--, dx += width * channels, dy += channels, index += channels)
        for (ptrdiff_t c = 0; c < channels; c += VL) {
            const ptrdiff_t n = channels - c < VL ? channels - c : VL;
            const M m = NAME(first)(n);
            NAME(places) narrow = {0};
            memcpy(&narrow, index + c, n == VL ? sizeof narrow : n * sizeof *index);
            const NAME(ints) from = __builtin_convertvector(narrow, NAME(ints));
            const V g = n == VL ? NAME(load)(dy + c) : NAME(load_first)(dy + c, m);
            IT tap = 0;
            for (ptrdiff_t u = 0; u < height; u++)
                for (ptrdiff_t v = 0; v < width; v++, tap++) {
                    T *p = dx + u * line + v * channels + c;
                    V part = (V)((NAME(ints))g & (from == tap));
                    if (n == VL) NAME(store)(p, part);
                    else NAME(store_first)(p, part, m);
                }
        }
}

/* Register tiles and vector rows in float (…_f32) and double (…_f64), compiled once for each instruction set. */
#ifndef FASTNN_TILES_H
#define FASTNN_TILES_H
#include <stddef.h>

#if defined(__AVX512F__) || defined(__aarch64__)
#define OUTER_VECTORS 4 /* widest tile, in vectors */
#define DOT_COLS 4
static const int outer_rows[] = {14, 14, 9, 6}; /* tallest tile of each width: accumulators and operands fill the registers */
#else
#define OUTER_VECTORS 2
#define DOT_COLS 2
static const int outer_rows[] = {12, 6};
#endif

#define LOW_ROWS 6 /* tiles up to here have an address for each row, so that their rows may lie anywhere */

/* An outer product: see tiles_of.h. The rows of A and C come in runs, in which they lie ai and ci apart, and the runs in images: runs
 * lie aj and cj apart, images an and cn.
 * Results begin with the bias (NULL: 0) or, if `add` says so, with what is there. Without tb the depth is 1 and the rows of
 * B follow each other from tap to tap. */
typedef struct {
    ptrdiff_t rows, run, runs, cols, depth, taps; /* run: rows of one; runs: of one image */
    const ptrdiff_t *ta, *tb;
    ptrdiff_t ai, aj, an, ak, bk, ci, cj, cn;
    int add, relu;
} grid_t;

#define T float
#define IT int32_t
#define NAME(x) x##_f32
#include "tiles_of.h"
#undef T
#undef IT
#undef NAME

#define FLOAT64
#define T double
#define IT int64_t
#define NAME(x) x##_f64
#include "tiles_of.h"
#undef T
#undef IT
#undef NAME
#undef FLOAT64

/* Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): 16 counters at a time, for blocks
 * first … first+15 of a stream; words[4 * b + j] is word j of block b. */
#define PHILOX_BLOCKS 16
NOINLINE void philox(uint32_t *words, uint64_t first, const uint64_t *key) {
    uint32_t c0[PHILOX_BLOCKS], c1[PHILOX_BLOCKS], c2[PHILOX_BLOCKS], c3[PHILOX_BLOCKS];
    uint32_t k0 = (uint32_t)key[0], k1 = (uint32_t)(key[0] >> 32);
    for (int b = 0; b < PHILOX_BLOCKS; b++) {
        c0[b] = (uint32_t)(first + b);
        c1[b] = (uint32_t)((first + b) >> 32);
        c2[b] = (uint32_t)key[1];
        c3[b] = (uint32_t)key[2];
    }
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
        for (int b = 0; b < PHILOX_BLOCKS; b++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0[b], p1 = (uint64_t)0xCD9E8D57u * c2[b];
            uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1[b] ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3[b] ^ k1;
            c0[b] = n0, c1[b] = (uint32_t)p1, c2[b] = n2, c3[b] = (uint32_t)p0;
        }
    for (int b = 0; b < PHILOX_BLOCKS; b++) {
        words[4 * b] = c0[b];
        words[4 * b + 1] = c1[b];
        words[4 * b + 2] = c2[b];
        words[4 * b + 3] = c3[b];
    }
}

#endif

/* Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), a few vectors of counters at a time.
 *
 * A word of the generator is the low half of a 64-bit lane; whatever the high half holds is never looked at.
 */
#ifndef FASTNN_PHILOX_H
#define FASTNN_PHILOX_H

#define PHILOX_LANES (VBYTES / 8)
#define PHILOX_VECTORS (REGISTERS / 8)
#define PHILOX_BLOCKS (PHILOX_VECTORS * PHILOX_LANES) /* of four words, made by one call */

typedef uint64_t lanes_t __attribute__((vector_size(VBYTES)));

/* The products of the low halves. */
INLINE lanes_t low_products(lanes_t a, lanes_t b) {
#if defined(__AVX512F__)
    return (lanes_t)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (lanes_t)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
    return (lanes_t)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
    return (a & 0xffffffff) * (b & 0xffffffff);
#endif
}

static const uint64_t philox_numbers[] = {0, 1, 2, 3, 4, 5, 6, 7};

/* words[4 * b + j] is word j of block first + b. */
NOINLINE void philox(uint32_t *words, uint64_t first, const uint64_t *key) {
    lanes_t c0[PHILOX_VECTORS], c1[PHILOX_VECTORS], c2[PHILOX_VECTORS], c3[PHILOX_VECTORS], numbers;
    lanes_t k0 = (lanes_t){0} + key[0], k1 = (lanes_t){0} + (key[0] >> 32);
    memcpy(&numbers, philox_numbers, sizeof numbers);
    UNROLL for (int v = 0; v < PHILOX_VECTORS; v++) {
        c0[v] = numbers + (first + PHILOX_LANES * v);
        c1[v] = c0[v] >> 32;
        c2[v] = (lanes_t){0} + key[1];
        c3[v] = (lanes_t){0} + key[2];
    }
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
        UNROLL for (int v = 0; v < PHILOX_VECTORS; v++) {
            const lanes_t p0 = low_products(c0[v], (lanes_t){0} + 0xD2511F53u);
            const lanes_t p1 = low_products(c2[v], (lanes_t){0} + 0xCD9E8D57u);
            c0[v] = (p1 >> 32) ^ c1[v] ^ k0, c1[v] = p1;
            c2[v] = (p0 >> 32) ^ c3[v] ^ k1, c3[v] = p0;
        }
    UNROLL for (int v = 0; v < PHILOX_VECTORS; v++, words += 4 * PHILOX_LANES) {
        const lanes_t half0 = (c0[v] & 0xffffffff) | c1[v] << 32, half1 = (c2[v] & 0xffffffff) | c3[v] << 32;
        vec_f64 blocks[2];
        zip_f64(&blocks[0], &blocks[1], (vec_f64)half0, (vec_f64)half1);
        memcpy(words, blocks, sizeof blocks);
    }
}

#endif

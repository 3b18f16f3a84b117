/* Vectors of one instruction set: NAME(x) is x_f32 or x_f64, V a vector of VL numbers of type T, M a mask of its lanes.
 * Included once for each type, with T, IT (a signed integer as wide) and NAME defined, and FLOAT64 for double. */

#ifndef FASTNN_VEC_ONCE
#define FASTNN_VEC_ONCE
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define VBYTES 64
#define REGISTERS 32
#elif defined(__AVX2__)
#define VBYTES 32
#define REGISTERS 16
#else
#define VBYTES 16
#if defined(__aarch64__)
#define REGISTERS 32
#else
#define REGISTERS 16
#endif
#endif

#define INLINE static inline __attribute__((always_inline, unused))
#define NOINLINE static __attribute__((noinline, unused))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* Whether an array is written past the cache: it is too large to be there when it is read, and its rows are whole vectors. */
#define STREAMED (16 << 20)
INLINE int streams(const void *p, size_t bytes, size_t row) {
    return bytes >= STREAMED && row % VBYTES == 0 && (uintptr_t)p % VBYTES == 0;
}
INLINE void streamed(void) { /* at the end of a task that did */
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

static const int8_t lane_numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#endif

#define V NAME(vec)
#define M NAME(mask)
#ifdef FLOAT64
#define LANES (VBYTES / 8)
#else
#define LANES (VBYTES / 4)
#endif
#define VL ((ptrdiff_t)LANES)

typedef T V __attribute__((vector_size(VBYTES)));
typedef T NAME(vec_u) __attribute__((vector_size(VBYTES), aligned(sizeof(T)), may_alias));
typedef IT NAME(ints) __attribute__((vector_size(VBYTES)));
#ifdef FLOAT64
typedef uint64_t NAME(bits) __attribute__((vector_size(VBYTES))); /* which may overflow */
#else
typedef uint32_t NAME(bits) __attribute__((vector_size(VBYTES)));
#endif
typedef double NAME(doubles) __attribute__((vector_size(VBYTES)));

INLINE V NAME(load)(const T *p) { return *(const NAME(vec_u) *)p; }
INLINE void NAME(store)(T *p, V v) { *(NAME(vec_u) *)p = v; }
/* A store past the cache, to a whole vector's boundary; `streamed` below makes them seen by other threads. */
INLINE void NAME(stream)(T *p, V v) {
#if defined(__AVX512F__)
    _mm512_stream_si512((__m512i *)p, (__m512i)v);
#elif defined(__AVX2__)
    _mm256_stream_si256((__m256i *)p, (__m256i)v);
#elif defined(__SSE2__)
    _mm_stream_si128((__m128i *)p, (__m128i)v);
#else
    NAME(store)(p, v);
#endif
}
INLINE V NAME(where_positive)(V y, V dy) { return (V)((NAME(ints))dy & ~(y <= 0)); } /* ReLU's gradient */
INLINE V NAME(all)(T x) { return x - (V){0}; } /* x - 0 is x, for -0 too */

/* Positive: ReLU; NaN passes and -0 becomes 0. x86's maximum is its second operand if one is NaN, or both are 0; it has two
 * ports of the processor where AVX-512's comparison has one.
 * The first n lanes, 1 <= n <= VL; loads give 0 in the others and touch no memory there. */
#if defined(__AVX512F__)
#ifdef FLOAT64
typedef __mmask8 M;
INLINE M NAME(first)(ptrdiff_t n) { return (M)((1u << n) - 1); }
INLINE V NAME(load_first)(const T *p, M m) { return (V)_mm512_maskz_loadu_pd(m, p); }
INLINE V NAME(positive)(V x) { return (V)_mm512_max_pd((__m512d){0}, (__m512d)x) + 0; }
INLINE void NAME(store_first)(T *p, V v, M m) { _mm512_mask_storeu_pd(p, m, (__m512d)v); }
#else
typedef __mmask16 M;
INLINE M NAME(first)(ptrdiff_t n) { return (M)((1u << n) - 1); }
INLINE V NAME(load_first)(const T *p, M m) { return (V)_mm512_maskz_loadu_ps(m, p); }
INLINE V NAME(positive)(V x) { return (V)_mm512_max_ps((__m512){0}, (__m512)x) + 0; }
INLINE void NAME(store_first)(T *p, V v, M m) { _mm512_mask_storeu_ps(p, m, (__m512)v); }
#endif
#elif defined(__AVX2__)
typedef __m256i M;
#ifdef FLOAT64
static const int64_t NAME(lanes)[8] = {-1, -1, -1, -1, 0, 0, 0, 0};
INLINE V NAME(load_first)(const T *p, M m) { return (V)_mm256_maskload_pd(p, m); }
INLINE V NAME(positive)(V x) { return (V)_mm256_max_pd((__m256d){0}, (__m256d)x) + 0; }
INLINE void NAME(store_first)(T *p, V v, M m) { _mm256_maskstore_pd(p, m, (__m256d)v); }
#else
static const int32_t NAME(lanes)[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
INLINE V NAME(load_first)(const T *p, M m) { return (V)_mm256_maskload_ps(p, m); }
INLINE V NAME(positive)(V x) { return (V)_mm256_max_ps((__m256){0}, (__m256)x) + 0; }
INLINE void NAME(store_first)(T *p, V v, M m) { _mm256_maskstore_ps(p, m, (__m256)v); }
#endif
INLINE M NAME(first)(ptrdiff_t n) { return _mm256_loadu_si256((const __m256i *)(NAME(lanes) + VL - n)); }
#else
typedef ptrdiff_t M;
INLINE V NAME(positive)(V x) { return (V)((NAME(ints))x & ~(x <= 0)); }
INLINE M NAME(first)(ptrdiff_t n) { return n; }
INLINE V NAME(load_first)(const T *p, M n) {
    V v = {0};
    for (ptrdiff_t i = 0; i < n; i++) v[i] = p[i];
    return v;
}
INLINE void NAME(store_first)(T *p, V v, M n) {
    for (ptrdiff_t i = 0; i < n; i++) p[i] = v[i];
}
#endif

/* 16 bits for each number of a V: places in a window of max pooling. */
typedef uint16_t NAME(places) __attribute__((vector_size(VBYTES / sizeof(T) * 2)));

/* The first n of them; any in the others. */
INLINE NAME(places) NAME(load_places)(const uint16_t *p, ptrdiff_t n) {
    NAME(places) r = {0};
    if (n == VL) memcpy(&r, p, sizeof r);
#if defined(__AVX512F__) && defined(FLOAT64)
    else r = (NAME(places))_mm_maskz_loadu_epi16(NAME(first)(n), p);
#elif defined(__AVX512F__)
    else r = (NAME(places))_mm256_maskz_loadu_epi16(NAME(first)(n), p);
#else
    else for (ptrdiff_t i = 0; i < n; i++) r[i] = p[i];
#endif
    return r;
}
INLINE void NAME(store_places)(uint16_t *p, NAME(places) r, ptrdiff_t n) {
    if (n == VL) memcpy(p, &r, sizeof r);
#if defined(__AVX512F__) && defined(FLOAT64)
    else _mm_mask_storeu_epi16(p, NAME(first)(n), (__m128i)r);
#elif defined(__AVX512F__)
    else _mm256_mask_storeu_epi16(p, NAME(first)(n), (__m256i)r);
#else
    else for (ptrdiff_t i = 0; i < n; i++) p[i] = r[i];
#endif
}
/* The numbers of v whose place is this one, and 0. Compilers widen 16 bits to 64 or 32 in several steps. */
INLINE V NAME(at_place)(V v, NAME(places) r, uint16_t place) {
#if defined(__AVX512F__) && defined(FLOAT64)
    return (V)_mm512_maskz_mov_pd(_mm_cmpeq_epi16_mask((__m128i)r, _mm_set1_epi16((short)place)), (__m512d)v);
#elif defined(__AVX512F__)
    return (V)_mm512_maskz_mov_ps(_mm256_cmpeq_epi16_mask((__m256i)r, _mm256_set1_epi16((short)place)), (__m512)v);
#elif defined(__AVX2__) && defined(FLOAT64)
    __m128i four = _mm_setzero_si128();
    memcpy(&four, &r, sizeof r);
    return (V)((NAME(ints))v & (NAME(ints))_mm256_cvtepi16_epi64(_mm_cmpeq_epi16(four, _mm_set1_epi16((short)place))));
#elif defined(__AVX2__)
    return (V)((NAME(ints))v & (NAME(ints))_mm256_cvtepi16_epi32(_mm_cmpeq_epi16((__m128i)r, _mm_set1_epi16((short)place))));
#else
    return (V)((NAME(ints))v & __builtin_convertvector(r == place, NAME(ints)));
#endif
}

/* The next of n numbers, a whole vector or fewer, with 0 after their end. */
INLINE V NAME(some)(const T *p, ptrdiff_t n) { return n >= VL ? NAME(load)(p) : NAME(load_first)(p, NAME(first)(n)); }
INLINE void NAME(put)(T *p, V v, ptrdiff_t n) {
    if (n >= VL) NAME(store)(p, v);
    else NAME(store_first)(p, v, NAME(first)(n));
}

/* Functions of vectors, for one type T (see tiles.h), right to a few units in the last place for every argument. */

#ifdef FLOAT64
#define MANTISSA 52
#define BIAS 1023
#define LEAST -708.39 /* exp of less is less than the smallest normal number */
#define MOST 709.782712893383973 /* exp of more is infinite */
#define LN2_HIGH 6.93145751953125e-1 /* few enough bits for n times this to be exact */
#define LN2_LOW 1.42860682030941723212e-6
#else
#define MANTISSA 23
#define BIAS 127
#define LEAST -87.33f
#define MOST 88.7228317f
#define LN2_HIGH 0.693359375f
#define LN2_LOW -2.12194440e-4f
#endif

/* Polynomials; what they leave out is less than a fifth of a unit in the last place.
 * exp: (exp(r) - 1 - r) / r² by r from -ln(2) / 2 to ln(2) / 2, the Taylor series.
 * log: 2 artanh(s) / s by s² from 0 to 1/9, by Chebyshev interpolation, as the next.
 * tail: (a + 4) exp(a²/2) Φ(-a), Φ being the normal distribution, by (a - 4) / (a + 4), for a from 0 to infinity. */
#define FACTORIALS_TO_8 1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040
#ifdef FLOAT64
static const T NAME(exp_terms)[] = {FACTORIALS_TO_8, 1. / 40320,    1. / 362880,    1. / 3628800,
                                    1. / 39916800.,  1. / 479001600., 1. / 6227020800.};
static const T NAME(log_terms)[] = {
    2, 0.66666666666682574, 0.399999999952876, 0.2857142911165716, 0.22222190861346284, 0.18182859800473911,
    0.15363676248891634, 0.13591305485579894, 0.098807890487647862, 0.17780763826113303};
static const T NAME(tail_terms)[] = {
    0.75528513041575149, -0.60789664197189312, 0.38713740074221652, -0.1865218579595672, 0.0603965748907624,
    -0.007540188969137313, -0.0034796923628903558, 0.0016308184878823644, 0.00013334425890372839,
    -0.00023109515078768742, -1.9079074883936754e-6, 3.5145644585823846e-5, 7.1527375093088153e-7,
    -5.9229798276747607e-6, -6.2620687669595991e-7, 1.0270948807114341e-6, 2.6623278988835624e-7,
    -1.6231917680473565e-7, -7.9898507525622599e-8, 1.9608339140939515e-8, 1.6536044775506404e-8,
    -1.2845818869925268e-9, -1.7737405043949109e-9};
#else
static const T NAME(exp_terms)[] = {FACTORIALS_TO_8};
static const T NAME(log_terms)[] = {2, 0.666663216f, 0.400245952f, 0.279651577f, 0.281577784f};
static const T NAME(tail_terms)[] = {0.755285131f,    -0.60789664f,   0.387137394f,    -0.186521985f,
                                     0.060396644f,    -0.00753868878f, -0.00347994303f, 0.00162424764f,
                                     0.000133640426f, -0.000217771066f, -1.72599229e-6f, 2.19790434e-5f};
#endif
#define POLYNOMIAL(terms, x) NAME(polynomial)(terms, sizeof(terms) / sizeof(T), x)

/* The even and the odd terms apart, so that each waits for half as many products. */
INLINE V NAME(polynomial)(const T *terms, int count, V x) {
    const V square = x * x;
    V sum = NAME(all)(terms[count - 1]), other = NAME(all)(terms[count - 2]);
    UNROLL for (int i = count - 3; i > 0; i -= 2) {
        sum = sum * square + terms[i];
        other = other * square + terms[i - 1];
    }
    if (count % 2) return sum * square + (other * x + terms[0]);
    return sum * x + other;
}

INLINE V NAME(choose)(NAME(ints) which, V yes, V no) { return (V)(((NAME(ints))yes & which) | ((NAME(ints))no & ~which)); }

INLINE V NAME(magnitude)(V x) { return (V)((NAME(ints))x & ~(NAME(ints))NAME(all)(-(T)0)); }

INLINE V NAME(with_sign)(V x, V of) {
    const NAME(ints) sign = (NAME(ints))NAME(all)(-(T)0);
    return (V)(((NAME(ints))x & ~sign) | ((NAME(ints))of & sign));
}

/* x = n ln(2) + r; n stands in the last bits of what is returned. */
INLINE NAME(bits) NAME(split)(V x, V *r) {
    const T round = (T)1.5 * (T)((int64_t)1 << MANTISSA); /* added, leaves a whole number in the last bits */
    const V shifted = x * (T)1.44269504088896340736 + round, n = shifted - round;
    *r = x - n * (T)LN2_HIGH - n * (T)LN2_LOW;
    return (NAME(bits))shifted;
}

/* exp(r) - 1 for |r| <= ln(2) / 2. */
INLINE V NAME(series)(V r) { return POLYNOMIAL(NAME(exp_terms), r) * (r * r) + r; }

/* exp(x) = 2^n exp(r): n is added to the exponent. NaN for NaN, 0 where the result is less than any normal number. */
INLINE V NAME(exp)(V x) {
    V r;
    const NAME(bits) n = NAME(split)(x, &r) << MANTISSA;
    const V y = (V)((NAME(bits))(NAME(series)(r) + (T)1) + n);
    return (V)((NAME(ints))NAME(choose)(x <= (T)MOST, y, x * (T)INFINITY) & ~(x < (T)LEAST));
}

/* exp(x) - 1 for x <= 0. */
INLINE V NAME(expm1)(V x) {
    V r;
    const V scale = (V)((NAME(split)(x, &r) + BIAS) << MANTISSA); /* 2^n */
    return NAME(choose)(x < (T)LEAST, NAME(all)(-1), scale * NAME(series)(r) + (scale - 1));
}

/* log(1 + x) for 0 <= x <= 1: 2 artanh(x / (x + 2)). */
INLINE V NAME(log1p)(V x) {
    const V s = x / (x + 2);
    return s * POLYNOMIAL(NAME(log_terms), s * s);
}

/* log(x) for normal x >= 1, and NaN: x = 2^n m with m from 1 to 2, halved from sqrt(2) on; log(m) = 2 artanh((m - 1) / (m + 1)). */
INLINE V NAME(log)(V x) {
    const NAME(bits) one = (NAME(bits))NAME(all)(1);
    const NAME(ints) n = (NAME(ints))((NAME(bits))x >> MANTISSA) - BIAS;
    const V m = (V)(((NAME(bits))x & ((((NAME(bits)){0} + 1) << MANTISSA) - 1)) | one);
    const NAME(ints) half = m > (T)1.41421356237309505;
    const V y = NAME(choose)(half, m * (T)0.5, m), s = (y - 1) / (y + 1);
    const V power = __builtin_convertvector(n - half, V); /* a lane that holds is -1 */
    return NAME(choose)(x == x, power * (T)LN2_HIGH + (power * (T)LN2_LOW + s * POLYNOMIAL(NAME(log_terms), s * s)), x);
}

INLINE V NAME(sigmoid)(V x) { return 1 / (1 + NAME(exp)(-x)); }

/* tanh|x| = -e / (e + 2) with e = exp(-2|x|) - 1. */
INLINE V NAME(tanh)(V x) {
    const V e = NAME(expm1)(-2 * NAME(magnitude)(x));
    return NAME(with_sign)(e / (e + 2), x);
}

/* log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)). */
INLINE V NAME(softplus)(V x) { return NAME(positive)(x) + NAME(log1p)(NAME(exp)(-NAME(magnitude)(x))); }

/* The normal distribution Φ(x), and *e = exp(-x²/2). Far below 0 it is as exact, relatively, as x² is. */
INLINE V NAME(normal)(V x, V *e) {
    const V a = NAME(magnitude)(x), w = 1 / (a + 4);
    *e = NAME(exp)(a * a * (T)-0.5);
    const V tail = *e * w * POLYNOMIAL(NAME(tail_terms), 1 - 8 * w);
    return NAME(choose)(x < 0, tail, 1 - tail);
}

#undef POLYNOMIAL
#undef FACTORIALS_TO_8
#undef MANTISSA
#undef BIAS
#undef LEAST
#undef MOST
#undef LN2_HIGH
#undef LN2_LOW

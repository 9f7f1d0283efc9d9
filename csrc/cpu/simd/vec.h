// Numbers and vectors of an instruction set.
#pragma once

#include "kernels.h"

#if defined(__SSE2__)
#include <immintrin.h>  // its functions are always inlined
#endif

namespace contrastkit::simd::CONTRASTKIT_ISA {
namespace {

inline float load(float x) { return x; }

inline float load(bf16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

inline void store(float& y, float x) { y = x; }

inline void store(bf16& y, float x) {  // to nearest, ties to even
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  y.bits = static_cast<uint16_t>(x != x ? 0x7fc0u : rounded);
}

#if defined(__AVX512F__)
constexpr int V = 16;
#elif defined(__AVX2__)
constexpr int V = 8;
#else
constexpr int V = 4;
#endif

typedef float vec __attribute__((vector_size(4 * V)));
typedef int32_t ivec __attribute__((vector_size(4 * V)));

inline vec loadv(const float* x) {
  vec v;
  __builtin_memcpy(&v, x, sizeof v);
  return v;
}

inline void storev(float* y, vec v) { __builtin_memcpy(y, &v, sizeof v); }

typedef uint32_t uvec __attribute__((vector_size(4 * V)));
typedef uint16_t half __attribute__((vector_size(2 * V)));

inline void storev(bf16* y, vec x) {
  const uvec bits = (uvec)x, rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const half low = __builtin_convertvector(x != x ? uvec{} + 0x7fc0u : rounded, half);
  __builtin_memcpy(y, &low, sizeof low);
}

inline vec loadv(const bf16* x) {
  half bits;
  __builtin_memcpy(&bits, x, sizeof bits);
  return (vec)(__builtin_convertvector(bits, ivec) << 16);
}

// Of bytes; compilers do not find these instructions by themselves.
inline vec loadv(const uint8_t* x) {
#if defined(__AVX512F__)
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
  return __builtin_convertvector((ivec)_mm512_maskz_cvtepu8_epi32(0xffff, bytes), vec);
#elif defined(__AVX2__)
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(x));
  return __builtin_convertvector((ivec)_mm256_cvtepu8_epi32(bytes), vec);
#else
  typedef uint8_t bytes __attribute__((vector_size(16)));
  bytes b{};
  __builtin_memcpy(&b, x, V);
  b = __builtin_shuffle(b, bytes{}, bytes{0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23});
  b = __builtin_shuffle(b, bytes{}, bytes{0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23});
  return __builtin_convertvector((ivec)b, vec);
#endif
}

// x > y ? x : y, which ignores a NaN in x, and x < y ? x : y. (The masks avoid a false warning of gcc 12.)
#if defined(__AVX512F__)
inline vec max(vec x, vec y) { return (vec)_mm512_maskz_max_ps(0xffff, (__m512)x, (__m512)y); }
inline vec min(vec x, vec y) { return (vec)_mm512_maskz_min_ps(0xffff, (__m512)x, (__m512)y); }
#elif defined(__AVX2__)
inline vec max(vec x, vec y) { return (vec)_mm256_max_ps((__m256)x, (__m256)y); }
inline vec min(vec x, vec y) { return (vec)_mm256_min_ps((__m256)x, (__m256)y); }
#elif defined(__SSE2__)
inline vec max(vec x, vec y) { return (vec)_mm_max_ps((__m128)x, (__m128)y); }
inline vec min(vec x, vec y) { return (vec)_mm_min_ps((__m128)x, (__m128)y); }
#else
inline vec max(vec x, vec y) { return x > y ? x : y; }
inline vec min(vec x, vec y) { return x < y ? x : y; }
#endif

inline vec all(float x) { return x - vec{}; }  // x + 0 would add: -0 + 0 is 0

// a b + c. Left to itself, the compiler chooses which product of a sum it fuses, from one inlined copy to the next.
inline vec fused(vec a, vec b, vec c) {
#if defined(__AVX512F__)
  return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

inline vec absolute(vec x) { return (vec)((ivec)x & 0x7fffffff); }

// exp of x <= 0, to two units in the last place; 0 below -87, where it would be less than the smallest normal number.
inline vec exp_(vec x) {
  const vec magic = vec{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  const vec r = x * 1.44269504f + magic, n = r - magic;
  const vec f = x - n * 0.693359375f + n * 2.12194440e-4f;  // ln 2 in two parts
  vec p = f * (1.0f / 720) + 1.0f / 120;
  p = p * f + 1.0f / 24;
  p = p * f + 1.0f / 6;
  p = p * f + 0.5f;
  p = p * f + 1.0f;
  p = p * f + 1.0f;
  const ivec exponent = ((ivec)r - (ivec)magic + 127) << 23;
  return x < -87.0f ? vec{} : p * (vec)exponent;
}

// log(1 + x) of x in [0, 1], to two units in the last place: 2 artanh(x / (2 + x)).
inline vec log1p_(vec x) {
  const vec t = x / (x + 2.0f), u = t * t;
  vec p = u * (1.0f / 17) + 1.0f / 15;
  p = p * u + 1.0f / 13;
  p = p * u + 1.0f / 11;
  p = p * u + 1.0f / 9;
  p = p * u + 1.0f / 7;
  p = p * u + 1.0f / 5;
  p = p * u + 1.0f / 3;
  return 2.0f * t + 2.0f * t * u * p;
}

inline ivec lanes() {
  ivec l;
  for (int i = 0; i < V; ++i) l[i] = i;
  return l;
}

inline float largest(vec v) {
#pragma GCC unroll 4
  for (int l = V / 2; l > 0; l /= 2) {
    v = max(__builtin_shuffle(v, lanes() ^ l), v);
  }
  return v[0];
}

inline float total(vec v) {
#pragma GCC unroll 4
  for (int l = V / 2; l > 0; l /= 2) v += __builtin_shuffle(v, lanes() ^ l);
  return v[0];
}

// Row l of x becomes column l: first within blocks of 4 by 4, then block by block.
inline void transpose(vec (&x)[V]) {
  const ivec first = lanes() & ~3, one = lanes() & 1, two = (lanes() & 2) / 2;
  const ivec in_pairs = first + two + one * V, pairs = first + one + two * V;
#pragma GCC unroll 4
  for (int i = 0; i < V; i += 4) {
    const vec a = __builtin_shuffle(x[i], x[i + 1], in_pairs), b = __builtin_shuffle(x[i + 2], x[i + 3], in_pairs);
    const vec c = __builtin_shuffle(x[i], x[i + 1], in_pairs + 2), d = __builtin_shuffle(x[i + 2], x[i + 3], in_pairs + 2);
    x[i] = __builtin_shuffle(a, b, pairs), x[i + 1] = __builtin_shuffle(a, b, pairs + 2);
    x[i + 2] = __builtin_shuffle(c, d, pairs), x[i + 3] = __builtin_shuffle(c, d, pairs + 2);
  }
#pragma GCC unroll 2
  for (int d = 4; d < V; d *= 2) {
    const ivec high = (lanes() & d) != 0, low_half = lanes() + (high & (V - d)), high_half = low_half + d;
#pragma GCC unroll 16
    for (int j = 0; j < V / 2; ++j) {
      const int i = j + (j & -d);
      const vec a = x[i], b = x[i + d];
      x[i] = __builtin_shuffle(a, b, low_half), x[i + d] = __builtin_shuffle(a, b, high_half);
    }
  }
}

}  // namespace
}  // namespace contrastkit::simd::CONTRASTKIT_ISA

// setup.py compiles this file once per instruction set; CONTRASTKIT_ISA names the namespace.
#include "kernels.h"

#define STRING_(x) #x
#define STRING(x) STRING_(x)

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

template <typename A, typename P>
void ema(A* __restrict a, const P* __restrict p, int64_t n, double m_) {
  const float m = m_, w = 1.0 - m_;  // the small one of the two must not be a difference of floats
  if (m > 0.5f) {
    for (int64_t i = 0; i < n; ++i) store(a[i], load(a[i]) + w * (load(p[i]) - load(a[i])));
  } else {  // exact at m = 0
    for (int64_t i = 0; i < n; ++i) store(a[i], load(p[i]) - m * (load(p[i]) - load(a[i])));
  }
}

template <typename X>
float sum_of_squares(const X* x, int64_t C) {
  constexpr int L = 32;  // partial sums in a fixed order: vectors of any width add alike
  float partial[L] = {};
  int64_t c = 0;
  for (; c + L <= C; c += L)
    for (int l = 0; l < L; ++l) partial[l] += load(x[c + l]) * load(x[c + l]);
  for (; c < C; ++c) partial[c % L] += load(x[c]) * load(x[c]);
  for (int l = L / 2; l > 0; l /= 2)
    for (int i = 0; i < l; ++i) partial[i] += partial[i + l];
  return partial[0];
}

template <typename X, typename K>
void enqueue(const X* __restrict x, K* __restrict key, int64_t C, bool normalize) {
  float norm = 1.0f;
  if (normalize) {
    norm = __builtin_sqrtf(sum_of_squares(x, C));
    norm = norm < 1e-12f ? 1e-12f : norm;  // NaN stays NaN
  }
  for (int64_t c = 0; c < C; ++c) store(key[c], load(x[c]) / norm);
}

// InfoNCE. Two products of matrices for each tile of keys, S = Q K^T and O += P K, in registers of MR x NR.

#if defined(__AVX512F__)
constexpr int V = 16, MR = 12;
#elif defined(__AVX2__)
constexpr int V = 8, MR = 6;
#else
constexpr int V = 4, MR = 6;
#endif
constexpr int NR = 2 * V;

typedef float vec __attribute__((vector_size(4 * V)));
typedef int32_t ivec __attribute__((vector_size(4 * V)));

inline vec loadv(const float* x) {
  vec v;
  __builtin_memcpy(&v, x, sizeof v);
  return v;
}

inline void storev(float* y, vec v) { __builtin_memcpy(y, &v, sizeof v); }

// c [M, NR] = a [M, depth] b [depth, NR], or += it.
template <int M>
inline void block(const float* a, int64_t lda, const float* b, int64_t depth, float* c, int64_t ldc, bool add) {
  vec acc[M][2];
#pragma GCC unroll 12
  for (int i = 0; i < M; ++i)
    for (int v = 0; v < 2; ++v) acc[i][v] = add ? loadv(c + i * ldc + v * V) : vec{};
  for (int64_t k = 0; k < depth; ++k) {
    const vec b0 = loadv(b + k * NR), b1 = loadv(b + k * NR + V);
#pragma GCC unroll 12
    for (int i = 0; i < M; ++i) {
      const float x = a[i * lda + k];
      acc[i][0] += x * b0;
      acc[i][1] += x * b1;
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < M; ++i)
    for (int v = 0; v < 2; ++v) storev(c + i * ldc + v * V, acc[i][v]);
}

template <int M>
inline void last_rows(
    int64_t n, const float* a, int64_t lda, const float* b, int64_t depth, float* c, int64_t ldc, bool add) {
  if constexpr (M > 0) {
    if (n == M) return block<M>(a, lda, b, depth, c, ldc, add);
    last_rows<M - 1>(n, a, lda, b, depth, c, ldc, add);
  }
}

// c [n, columns] = a [n, depth] b, or += it; b lies in panels [columns / NR][depth][NR].
void product(
    int64_t n, int64_t columns, int64_t depth, const float* a, int64_t lda, const float* b, float* c, int64_t ldc,
    bool add) {
  for (int64_t j = 0; j < columns; j += NR, b += depth * NR) {  // a panel of b stays in the innermost cache
    int64_t i = 0;
    for (; i + MR <= n; i += MR) block<MR>(a + i * lda, lda, b, depth, c + i * ldc + j, ldc, add);
    last_rows<MR - 1>(n - i, a + i * lda, lda, b, depth, c + i * ldc + j, ldc, add);
  }
}

// exp of x <= 0, to two units in the last place; 0 below -87, where it would be less than the smallest normal number.
inline vec exp_(vec x) {
  const vec magic = vec{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, found in the low bits
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

inline ivec lanes() {
  ivec l;
  for (int i = 0; i < V; ++i) l[i] = i;
  return l;
}

inline float largest(vec v) {
#pragma GCC unroll 4
  for (int l = V / 2; l > 0; l /= 2) {
    const vec w = __builtin_shuffle(v, lanes() ^ l);
    v = w > v ? w : v;
  }
  return v[0];
}

inline float total(vec v) {
#pragma GCC unroll 4
  for (int l = V / 2; l > 0; l /= 2) v += __builtin_shuffle(v, lanes() ^ l);
  return v[0];
}

// Row l of x becomes column l: log2(V) perfect shuffles.
inline void transpose(vec (&x)[V]) {
  const ivec half = lanes() / 2, low = half + (lanes() & 1) * V, high = low + V / 2;
#pragma GCC unroll 4
  for (int stage = V; stage > 1; stage /= 2) {
    vec y[V];
#pragma GCC unroll 8
    for (int i = 0; i < V / 2; ++i) {
      y[2 * i] = __builtin_shuffle(x[i], x[i + V / 2], low);
      y[2 * i + 1] = __builtin_shuffle(x[i], x[i + V / 2], high);
    }
#pragma GCC unroll 16
    for (int i = 0; i < V; ++i) x[i] = y[i];
  }
}

// A tile of t keys for both products: along [padded(C) / NR][kTile][NR] and across [kTile / NR][C][NR], zeros beyond.
template <typename X>
void pack(const X* keys, int64_t t, int64_t C, float* along, float* across) {
  for (int64_t c = 0; c < padded(C); c += NR) {
    const int64_t n = C - c < NR ? (C > c ? C - c : 0) : NR;
    for (int64_t j = 0; j < kTile; ++j, along += NR) {
      const int64_t filled = j < t ? n : 0;
      for (int64_t l = 0; l < filled; ++l) along[l] = load(keys[j * C + c + l]);
      for (int64_t l = filled; l < NR; ++l) along[l] = 0;
    }
    const float* panel = along - kTile * NR;
    for (int64_t j = 0; j < kTile; j += V) {
      for (int64_t v = 0; v < NR; v += V) {
        vec x[V];
        for (int l = 0; l < V; ++l) x[l] = loadv(panel + (j + l) * NR + v);
        transpose(x);
        for (int l = 0; l < V && c + v + l < C; ++l) storev(across + (j / NR * C + c + v + l) * NR + j % NR, x[l]);
      }
    }
  }
}

template <typename X>
void infonce(
    const float* q, const X* keys, int64_t n, int64_t first, int64_t last, int64_t C, const Masks& masks,
    float* scratch, float* top, float* m, float* z, float* O) {
  const int64_t Cp = padded(C);
  float *S = scratch, *across = S + n * kTile, *along = across + Cp * kTile;
  const float infinity = __builtin_inff();
  for (int64_t i = 0; i < n; ++i) top[i] = -infinity, m[i] = -__FLT_MAX__, z[i] = 0;
  if (O)
    for (int64_t i = 0; i < n * Cp; ++i) O[i] = 0;

  for (int64_t from = first; from < last; from += kTile) {
    const int64_t t = last - from < kTile ? last - from : kTile;
    pack(keys + from * C, t, C, along, across);
    product(n, kTile, C, q, C, across, S, kTile, false);

    for (int64_t i = 0; i < n; ++i) {
      float* s = S + i * kTile;
      if (masks.key_ids)
        for (int64_t j = 0; j < t; ++j)
          if (masks.key_ids[from + j] == masks.query_ids[i]) s[j] = -infinity;
      for (int64_t e = 0; e < masks.E; ++e) {
        const int64_t j = masks.exclude[i * masks.E + e] - from;
        if (masks.exclude[i * masks.E + e] >= 0 && j >= 0 && j < t) s[j] = -infinity;
      }
      for (int64_t j = t; j < kTile; ++j) s[j] = -infinity;

      vec high = loadv(s);
      for (int64_t j = V; j < kTile; j += V) {
        const vec x = loadv(s + j);
        high = x > high ? x : high;
      }
      const float best = largest(high);
      if (best > top[i]) top[i] = best;
      if (best > m[i]) {
        const float rescale = exp_(vec{} + (m[i] - best))[0];
        z[i] *= rescale;
        if (O)
          for (int64_t c = 0; c < Cp; ++c) O[i * Cp + c] *= rescale;
        m[i] = best;
      }
      vec sum{};
      for (int64_t j = 0; j < kTile; j += V) {
        const vec e = exp_(loadv(s + j) - m[i]);
        sum += e;
        storev(s + j, e);
      }
      z[i] += total(sum);
    }
    if (O) product(n, Cp, kTile, S, kTile, along, O, Cp, true);
  }
}

}  // namespace

const Kernels kernels = {
    STRING(CONTRASTKIT_ISA),
    ema<float, float>,
    ema<float, bf16>,
    ema<bf16, bf16>,
    enqueue<float, float>,
    enqueue<float, bf16>,
    enqueue<bf16, float>,
    enqueue<bf16, bf16>,
    infonce<float>,
    infonce<bf16>,
};

}  // namespace contrastkit::simd::CONTRASTKIT_ISA

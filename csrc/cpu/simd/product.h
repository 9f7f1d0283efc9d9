// Products of small matrices, in registers of MR x NR. The right one is in panels of NR columns, zero-padded.
#pragma once

#include "vec.h"

namespace contrastkit::simd::CONTRASTKIT_ISA {
namespace {

constexpr int MR = V == 16 ? 12 : 6, NR = 2 * V;

// c [M, NR] = a [M, depth] b [depth, NR], or += it; transposed: a is stored as [depth, M].
template <int M, bool transposed>
inline void block(const float* a, int64_t lda, const float* b, int64_t depth, float* c, int64_t ldc, bool add) {
  vec acc[M][2];
#pragma GCC unroll 12
  for (int i = 0; i < M; ++i)
    for (int v = 0; v < 2; ++v) acc[i][v] = add ? loadv(c + i * ldc + v * V) : vec{};
  for (int64_t k = 0; k < depth; ++k) {
    const vec b0 = loadv(b + k * NR), b1 = loadv(b + k * NR + V);
#pragma GCC unroll 12
    for (int i = 0; i < M; ++i) {
      const float x = transposed ? a[k * lda + i] : a[i * lda + k];
      acc[i][0] += x * b0;
      acc[i][1] += x * b1;
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < M; ++i)
    for (int v = 0; v < 2; ++v) storev(c + i * ldc + v * V, acc[i][v]);
}

template <int M, bool transposed>
inline void last_rows(
    int64_t n, const float* a, int64_t lda, const float* b, int64_t depth, float* c, int64_t ldc, bool add) {
  if constexpr (M > 0) {
    if (n == M) return block<M, transposed>(a, lda, b, depth, c, ldc, add);
    last_rows<M - 1, transposed>(n, a, lda, b, depth, c, ldc, add);
  }
}

// c [n, columns] = a [n, depth] b, or += it; b is stored in panels [columns / NR][panel >= depth][NR], a
// transposed a as [depth, n].
template <bool transposed = false>
void product(
    int64_t n, int64_t columns, int64_t depth, const float* a, int64_t lda, const float* b, int64_t panel, float* c,
    int64_t ldc, bool add) {
  const int64_t step = transposed ? 1 : lda;
  for (int64_t j = 0; j < columns; j += NR, b += panel * NR) {  // a panel of b stays in the innermost cache
    int64_t i = 0;
    for (; i + MR <= n; i += MR) block<MR, transposed>(a + i * step, lda, b, depth, c + i * ldc + j, ldc, add);
    last_rows<MR - 1, transposed>(n - i, a + i * step, lda, b, depth, c + i * ldc + j, ldc, add);
  }
}

// One element of the product, bitwise equal: summed in its order, and rounded once per step like `block`.
inline float logit(const float* q, const float* k, int64_t C) {
  float sum = 0;
  for (int64_t c = 0; c < C; ++c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    sum = __builtin_fmaf(q[c], k[c], sum);
#else
    sum += q[c] * k[c];
#endif
  }
  return sum;
}

// A tile of t rows as the right matrix of both products: packed_values [padded(C) / NR][kTile][NR] for P x, and
// packed_keys [kTile / NR][C][NR] for q x^T, unless null; padded with zeros.
template <typename X>
void pack(const X* x, int64_t t, int64_t C, float* packed_values, float* packed_keys) {
  for (int64_t c = 0; c < padded(C); c += NR) {
    const int64_t n = C - c < NR ? (C > c ? C - c : 0) : NR;
    for (int64_t j = 0; j < kTile; ++j, packed_values += NR) {
      const int64_t filled = j < t ? n : 0;
      for (int64_t l = 0; l < filled; ++l) packed_values[l] = load(x[j * C + c + l]);
      for (int64_t l = filled; l < NR; ++l) packed_values[l] = 0;
    }
    const float* panel = packed_values - kTile * NR;
    for (int64_t j = 0; packed_keys && j < kTile; j += V) {
      for (int64_t v = 0; v < NR; v += V) {
        vec y[V];
        for (int l = 0; l < V; ++l) y[l] = loadv(panel + (j + l) * NR + v);
        transpose(y);
        for (int l = 0; l < V && c + v + l < C; ++l) storev(packed_keys + (j / NR * C + c + v + l) * NR + j % NR, y[l]);
      }
    }
  }
}

}  // namespace
}  // namespace contrastkit::simd::CONTRASTKIT_ISA

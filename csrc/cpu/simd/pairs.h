// What the losses do with S [I.n, kTile], the logits of the rows of I and of J; minus infinity where they are no negatives.
#pragma once

#include "product.h"

namespace contrastkit::simd::CONTRASTKIT_ISA {
namespace {

// Of pairs: see CLIP in kernels.h.
inline void negatives(const Tile& I, const Tile& J, int64_t C, const int64_t* ids, float* S) {
  product(I.n, kTile, C, I.rows, C, J.packed_keys, C, S, kTile, false);
  for (int64_t i = 0; i < I.n; ++i) {
    float* s = S + i * kTile;
    const int64_t row = I.first + i, own = row - J.first;
    if (ids)
      for (int64_t j = 0; j < J.n; ++j) s[j] = ids[J.first + j] == ids[row] ? -__builtin_inff() : s[j];
    if (own >= 0 && own < J.n) s[own] = -__builtin_inff();
    for (int64_t j = J.n; j < kTile; ++j) s[j] = -__builtin_inff();
  }
}

inline void add_sums(int64_t n, const float* S, Sums of_I, Sums of_J) {
  for (int64_t i = 0; i < n; ++i) {
    const float* s = S + i * kTile;
    vec high = loadv(s), sum{};
    for (int64_t j = V; j < kTile; j += V) high = max(loadv(s + j), high);
    const float best = largest(high), before = of_I.m[i], m = best > before ? best : before;
    for (int64_t j = 0; j < kTile; j += V) sum += exp_(loadv(s + j) - m);
    of_I.z[i] = of_I.z[i] * exp_(vec{} + (before - m))[0] + total(sum);
    of_I.m[i] = m;
  }
  for (int64_t j = 0; of_J.m && j < kTile; j += V) {
    const vec before = loadv(of_J.m + j);
    vec m = before, sum{};
    for (int64_t i = 0; i < n; ++i) m = max(loadv(S + i * kTile + j), m);
    for (int64_t i = 0; i < n; ++i) sum += exp_(loadv(S + i * kTile + j) - m);
    storev(of_J.z + j, loadv(of_J.z + j) * exp_(before - m) + sum);
    storev(of_J.m + j, m);
  }
}

// d_I += W J and, unless d_J is null, d_J += W^T I.
inline void add_products(const Tile& I, const Tile& J, int64_t C, const float* W, float* d_I, float* d_J) {
  product(I.n, padded(C), kTile, W, kTile, J.packed_values, kTile, d_I, padded(C), true);
  if (d_J) product<true>(J.n, padded(C), I.n, W, kTile, I.packed_values, kTile, d_J, padded(C), true);
}

// The logits S become the weights W = g_i exp(s - lse_i) + g_j exp(s - lse_j) of these products.
inline void add_gradients(
    const Tile& I, const Tile& J, int64_t C, float* W, const Softmax& of_I, const Softmax& of_J, float* d_I,
    float* d_J) {
  const float *g_J = of_J.g + J.first, *lse_J = of_J.lse + J.first;
  for (int64_t i = 0; i < I.n; ++i) {
    const float g_i = of_I.g[I.first + i], lse_i = of_I.lse[I.first + i];
    for (int64_t j = 0; j < kTile; j += V) {
      float* w = W + i * kTile + j;
      const vec s = loadv(w);
      storev(w, g_i * exp_(s - lse_i) + loadv(g_J + j) * exp_(s - loadv(lse_J + j)));
    }
  }
  add_products(I, J, C, W, d_I, d_J);
}

}  // namespace
}  // namespace contrastkit::simd::CONTRASTKIT_ISA

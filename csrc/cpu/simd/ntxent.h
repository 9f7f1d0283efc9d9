#pragma once

#include "product.h"

namespace contrastkit::simd::CONTRASTKIT_ISA {
namespace {

// S [I.n, kTile], the logits of I's rows and J's; minus infinity between a row and itself or its other view.
inline void negatives(const Tile& I, const Tile& J, int64_t C, int64_t half, float* S) {
  product(I.n, kTile, C, I.rows, C, J.packed_keys, C, S, kTile, false);
  for (int64_t i = 0; i < I.n; ++i) {
    float* s = S + i * kTile;
    const int64_t row = I.first + i, other = row % (2 * half) < half ? row + half : row - half;
    const int64_t columns[] = {row - J.first, other - J.first};
    for (const int64_t j : columns)
      if (j >= 0 && j < J.n) s[j] = -__builtin_inff();
    for (int64_t j = J.n; j < kTile; ++j) s[j] = -__builtin_inff();
  }
}

void ntxent(const Tile& I, const Tile& J, int64_t C, int64_t half, float* S, Sums of_I, Sums of_J) {
  negatives(I, J, C, half, S);
  for (int64_t i = 0; i < I.n; ++i) {
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
    for (int64_t i = 0; i < I.n; ++i) m = max(loadv(S + i * kTile + j), m);
    for (int64_t i = 0; i < I.n; ++i) sum += exp_(loadv(S + i * kTile + j) - m);
    storev(of_J.z + j, loadv(of_J.z + j) * exp_(before - m) + sum);
    storev(of_J.m + j, m);
  }
}

void ntxent_dz(
    const Tile& I, const Tile& J, int64_t C, int64_t half, float* W, const float* g, const float* lse, float* dz_I,
    float* dz_J) {
  negatives(I, J, C, half, W);
  const float *g_J = g + J.first, *lse_J = lse + J.first;
  for (int64_t i = 0; i < I.n; ++i) {
    const float g_i = g[I.first + i], lse_i = lse[I.first + i];
    for (int64_t j = 0; j < kTile; j += V) {
      float* w = W + i * kTile + j;
      const vec s = loadv(w);
      storev(w, g_i * exp_(s - lse_i) + loadv(g_J + j) * exp_(s - loadv(lse_J + j)));
    }
  }
  product(I.n, padded(C), kTile, W, kTile, J.packed_values, kTile, dz_I, padded(C), true);
  if (dz_J) product<true>(J.n, padded(C), I.n, W, kTile, I.packed_values, kTile, dz_J, padded(C), true);
}

}  // namespace
}  // namespace contrastkit::simd::CONTRASTKIT_ISA

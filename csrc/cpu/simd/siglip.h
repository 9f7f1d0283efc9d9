#pragma once

#include "pairs.h"

namespace contrastkit::simd::CONTRASTKIT_ISA {
namespace {

// sigmoid(u), with e = exp(-|u|)
inline vec sigmoid(vec u, vec e) { return (u >= 0.0f ? all(1) : e) / (1.0f + e); }

void siglip(const Tile& I, const Tile& J, int64_t C, const int64_t* ids, float b, float* S, Logistic of_I) {
  negatives(I, J, C, ids, S);
  for (int64_t i = 0; i < I.n; ++i) {
    vec high = all(of_I.top[i]), loss{}, slope{};
    for (int64_t j = 0; j < kTile; j += V) {
      const vec s = loadv(S + i * kTile + j), u = s + b, e = exp_(-absolute(u));
      high = max(s, high);
      loss += max(u, vec{}) + log1p_(e);
      slope += sigmoid(u, e);
    }
    of_I.top[i] = largest(high);
    of_I.loss[i] += total(loss);
    of_I.slope[i] += total(slope);
  }
}

void siglip_dxy(
    const Tile& I, const Tile& J, int64_t C, const int64_t* ids, float b, float* W, const float* g_x, const float* g_y,
    float* d_I, float* d_J) {
  negatives(I, J, C, ids, W);
  for (int64_t i = 0; i < I.n; ++i) {
    const float g_i = g_x[I.first + i];
    for (int64_t j = 0; j < kTile; j += V) {
      float* w = W + i * kTile + j;
      const vec u = loadv(w) + b;
      storev(w, (g_i + loadv(g_y + J.first + j)) * sigmoid(u, exp_(-absolute(u))));
    }
  }
  add_products(I, J, C, W, d_I, d_J);
}

}  // namespace
}  // namespace contrastkit::simd::CONTRASTKIT_ISA

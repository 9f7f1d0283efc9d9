#pragma once

#include "vec.h"

namespace contrastkit::simd::CONTRASTKIT_ISA {
namespace {

template <typename X>
float sum_of_squares(const X* x, int64_t C) {
  constexpr int L = 32;  // partial sums in a fixed order, the same for every vector width
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
    norm = norm < 1e-12f ? 1e-12f : norm;  // keeps NaN
  }
  int64_t c = 0;
  for (; c + V <= C; c += V) storev(key + c, loadv(x + c) / norm);
  for (; c < C; ++c) store(key[c], load(x[c]) / norm);
}

}  // namespace
}  // namespace contrastkit::simd::CONTRASTKIT_ISA

#pragma once

#include "pairs.h"

namespace contrastkit::simd::CONTRASTKIT_ISA {
namespace {

// A row's negatives are all but itself and its other view.
inline void views_of_others(const Tile& I, const Tile& J, int64_t C, int64_t half, float* S) {
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
  views_of_others(I, J, C, half, S);
  add_sums(I.n, S, of_I, of_J);
}

void ntxent_dz(
    const Tile& I, const Tile& J, int64_t C, int64_t half, float* W, const Softmax& of_z, float* d_I, float* d_J) {
  views_of_others(I, J, C, half, W);
  add_gradients(I, J, C, W, of_z, of_z, d_I, d_J);
}

}  // namespace
}  // namespace contrastkit::simd::CONTRASTKIT_ISA

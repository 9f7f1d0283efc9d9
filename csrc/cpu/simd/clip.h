#pragma once

#include "pairs.h"

namespace contrastkit::simd::CONTRASTKIT_ISA {
namespace {

void clip(const Tile& I, const Tile& J, int64_t C, const int64_t* ids, float* S, Sums of_I, Sums of_J) {
  negatives(I, J, C, ids, S);
  add_sums(I.n, S, of_I, of_J);
}

void clip_dxy(
    const Tile& I, const Tile& J, int64_t C, const int64_t* ids, float* W, const Softmax& of_x, const Softmax& of_y,
    float* d_I, float* d_J) {
  negatives(I, J, C, ids, W);
  add_gradients(I, J, C, W, of_x, of_y, d_I, d_J);
}

}  // namespace
}  // namespace contrastkit::simd::CONTRASTKIT_ISA

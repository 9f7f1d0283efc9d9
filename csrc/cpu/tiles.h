// Shared by infonce and ntxent: bit-exact logits, and matrices packed for products.
#pragma once

#include "host.h"

namespace contrastkit::cpu {

// q.k, bitwise equal to the kernels' products: a positive that equals a negative must tie with it.
inline float logit(const float* q, const float* k, int64_t C) { return kernels().logit(q, k, C); }

inline double logit(const double* q, const double* k, int64_t C) {
  double sum = 0;
  for (int64_t c = 0; c < C; ++c) sum += q[c] * k[c];
  return sum;
}

// Rows [N, C] in float32 as tiles; packed is `right`, of the same shape.
class Tiles {
 public:
  Tiles(const at::Tensor& rows, const at::Tensor& right)
      : rows_(rows), N_(rows.size(0)), C_(rows.size(1)), step_(simd::kTile * simd::padded(C_)),
        packed_(rows.new_empty({size(), 2, step_})) {
    at::parallel_for(0, size(), 1, [&](int64_t t, int64_t end) {
      for (; t < end; ++t) {
        float *packed_values = data<float>(packed_) + t * 2 * step_, *packed_keys = packed_values + step_;
        kernels().pack_f(data<float>(right) + t * simd::kTile * C_, (*this)[t].n, C_, packed_values, packed_keys);
      }
    });
  }

  int64_t size() const { return (N_ + simd::kTile - 1) / simd::kTile; }

  simd::Tile operator[](int64_t t) const {
    simd::Tile tile = unpacked(t * simd::kTile, N_);
    tile.packed_values = data<float>(packed_) + t * 2 * step_;
    tile.packed_keys = tile.packed_values + step_;
    return tile;
  }

  // Starting at any row, as a left matrix only.
  simd::Tile unpacked(int64_t first, int64_t last) const {
    return {first, std::min(simd::kTile, last - first), data<float>(rows_) + first * C_, nullptr, nullptr};
  }

 private:
  at::Tensor rows_;
  int64_t N_, C_, step_;
  at::Tensor packed_;
};

}  // namespace contrastkit::cpu

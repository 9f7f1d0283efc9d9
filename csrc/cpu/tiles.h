// Shared by the losses: bit-exact logits, and matrices packed for products.
#pragma once

#include "host.h"

namespace contrastkit::cpu {

using simd::kTile;
using simd::Tile;

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
      : rows_(rows), N_(rows.size(0)), C_(rows.size(1)), step_(kTile * simd::padded(C_)),
        packed_(rows.new_empty({size(), 2, step_})) {
    at::parallel_for(0, size(), 1, [&](int64_t t, int64_t end) {
      for (; t < end; ++t) {
        float *packed_values = data<float>(packed_) + t * 2 * step_, *packed_keys = packed_values + step_;
        kernels().pack_f(data<float>(right) + t * kTile * C_, (*this)[t].n, C_, packed_values, packed_keys);
      }
    });
  }

  int64_t size() const { return (N_ + kTile - 1) / kTile; }

  Tile operator[](int64_t t) const {
    Tile tile = unpacked(t * kTile, N_);
    tile.packed_values = data<float>(packed_) + t * 2 * step_;
    tile.packed_keys = tile.packed_values + step_;
    return tile;
  }

  // Starting at any row, as a left matrix only.
  Tile unpacked(int64_t first, int64_t last) const {
    return {first, std::min(kTile, last - first), data<float>(rows_) + first * C_, nullptr, nullptr};
  }

 private:
  at::Tensor rows_;
  int64_t N_, C_, step_;
  at::Tensor packed_;
};

// Calls f(I, J) for every tile I of rows first, ..., last - 1, unpacked, and every tile J, in order.
template <typename F>
void strip(const Tiles& tiles, int64_t first, int64_t last, F&& f) {
  at::parallel_for(0, (last - first + kTile - 1) / kTile, 1, [&](int64_t t, int64_t end) {
    for (; t < end; ++t) {
      const Tile I = tiles.unpacked(first + t * kTile, last);
      for (int64_t J = 0; J < tiles.size(); ++J) f(I, tiles[J]);
    }
  });
}

// Floats of work for each thread.
class Scratch {
 public:
  Scratch(const at::Tensor& like, int64_t n) : floats_(like.new_empty({at::get_num_threads(), n})) {}
  float* of_thread() const { return data<float>(floats_) + at::get_thread_num() * floats_.size(1); }

 private:
  at::Tensor floats_;
};

// Rows of which a kernel may read a tile, starting at any row.
inline at::Tensor with_room(const at::Tensor& x) {
  const at::Tensor out = x.new_zeros({x.size(0) + kTile});
  out.narrow(0, 0, x.size(0)).copy_(x);
  return out;
}

// The first C of the columns of x, dense.
inline at::Tensor unpadded(const at::Tensor& x, int64_t C) { return x.narrow(1, 0, C).contiguous(); }

}  // namespace contrastkit::cpu

// Shared by clip and siglip: pairs (x_i, y_i), each side's rows being looked up among the partners of all.
#pragma once

#include <array>

#include "tiles.h"

namespace contrastkit::cpu {

using Sides = std::array<at::Tensor, 2>;  // of x, of y

// The arguments that all have: logits are scale x_i.y_j, and results are those of pairs first, ..., first + rows - 1.
struct Pairs {
  Pairs(
      const at::Tensor& x, const at::Tensor& y, at::ScalarType dtype, double scale,
      const std::optional<at::Tensor>& ids_, int64_t first, int64_t last)
      : z{x.to(dtype).contiguous(), y.to(dtype).contiguous()}, N(x.size(0)), C(x.size(1)), first(first),
        rows(last - first), scale(scale) {
    if (ids_) dense = ids_->contiguous(), ids = data<const int64_t>(dense);
  }

  // The partners of a side's rows, so that logits are products.
  at::Tensor partners(int side) const { return z[1 - side].mul(scale); }

  Tiles tiles(int side) const { return Tiles(z[side], partners(side)); }

  // float64, for tests: calls f(j, s) for every negative j of a side's row.
  template <typename F>
  void negatives(int side, const at::Tensor& partners, int64_t row, F&& f) const {
    const double *left = data<double>(z[side]) + row * C, *right = data<double>(partners);
    for (int64_t j = 0; j < N; ++j)
      if (j != row && !(ids && ids[j] == ids[row])) f(j, logit(left, right + j * C, C));
  }

  Sides z;
  at::Tensor dense;
  const int64_t* ids = nullptr;
  int64_t N, C, first, rows;
  double scale;
};

// Calls f(I, from, to) for every tile I and every group of tiles from, ..., to - 1. No two calls at a time have a tile I
// or a group in common, and the order in which each gets its calls is fixed. Groups are for what f does once for I.
template <typename F>
void grid(const Tiles& tiles, F&& f) {
  const int64_t size = tiles.size(), each = std::clamp<int64_t>(size / 64, 1, 4), groups = (size + each - 1) / each;
  for (int64_t base = 0; base < size; base += groups) {
    for (int64_t round = 0; round < groups; ++round) {
      at::parallel_for(0, std::min(groups, size - base), 1, [&](int64_t k, int64_t end) {
        for (; k < end; ++k) {
          const int64_t from = (k + round) % groups * each;
          f(tiles[base + k], from, std::min(from + each, size));
        }
      });
    }
  }
}

// dx and dy, with weights W_ij of the logits. kernel(side, I, J, W, d_I, d_J) adds the negatives' part for tiles I of the
// side and J of its partners, weight(side, i, j, s) is W_ij in float64, and positive [rows] has W_ii.
template <typename Kernel, typename Weight>
std::tuple<at::Tensor, at::Tensor> gradients(
    const Pairs& pairs, const at::Tensor& positive, Kernel&& kernel, Weight&& weight) {
  const int64_t C = pairs.C, Cp = simd::padded(C), first = pairs.first, rows = pairs.rows;
  Sides d;
  const auto zeros = [&] { return pairs.z[0].new_zeros({rows, Cp}); };
  const auto of = [&](int side, const Tile& tile) { return data<float>(d[side]) + (tile.first - first) * Cp; };
  const Scratch scratch(positive, kTile * (kTile + Cp));
  if (is(positive, at::kDouble)) {
    for (int side = 0; side < 2; ++side) {
      const at::Tensor right = pairs.partners(side);
      d[side] = zeros();
      at::parallel_for(0, rows, 1, [&](int64_t i, int64_t end) {
        for (; i < end; ++i)
          pairs.negatives(side, right, first + i, [&](int64_t j, double s) {
            const double w = weight(side, first + i, j, s);
            for (int64_t c = 0; c < C; ++c) data<double>(d[side])[i * Cp + c] += w * data<double>(right)[j * C + c];
          });
      });
    }
  } else if (rows == pairs.N) {  // one pass for both sides
    const Tiles tiles = pairs.tiles(0);  // whose temporary is gone before there are gradients
    d = {zeros(), zeros()};
    grid(tiles, [&](Tile I, int64_t from, int64_t to) {
      float *W = scratch.of_thread(), *packed_values = W + kTile * kTile;
      kernels().pack_f(I.rows, I.n, C, packed_values, nullptr);
      I.packed_values = packed_values;
      for (int64_t J = from; J < to; ++J) kernel(0, I, tiles[J], W, of(0, I), of(1, tiles[J]));
    });
    d[1].mul_(pairs.scale);
  } else {
    for (int side = 0; side < 2; ++side) {
      const Tiles tiles = pairs.tiles(side);
      d[side] = zeros();
      strip(tiles, first, first + rows, [&](const Tile& I, const Tile& J) {
        kernel(side, I, J, scratch.of_thread(), of(side, I), nullptr);
      });
    }
  }
  for (int side = 0; side < 2; ++side)
    d[side].narrow(1, 0, C).addcmul_(positive.unsqueeze(1), pairs.z[1 - side].narrow(0, first, rows), pairs.scale);
  return {unpadded(d[0], C), unpadded(d[1], C)};
}

}  // namespace contrastkit::cpu

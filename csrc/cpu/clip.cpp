#include "../clip.h"
#include "pairs.h"
#include "softmax.h"

namespace contrastkit::cpu {

std::tuple<at::Tensor, at::Tensor, at::Tensor> clip_loss(
    const at::Tensor& x, const at::Tensor& y, const at::Tensor& tau, const std::optional<at::Tensor>& ids, int64_t first,
    int64_t last) {
  check_clip_loss(x, y, tau, ids, first, last);
  const bool wide = is(x, at::kDouble) || is(y, at::kDouble);
  const Pairs pairs(x, y, wide ? at::kDouble : at::kFloat, 1 / number(tau), ids, first, last);
  const int64_t C = pairs.C, rows = pairs.rows;
  const at::Tensor loss = pairs.z[0].new_empty({2, rows}), lse = loss.new_empty({2, rows});
  const at::Tensor top1 = loss.new_empty({2, rows}, at::kBool);
  const auto results = [&](int side, const at::Tensor& left, const at::Tensor& right, const at::Tensor& sums) {
    const auto positive = [&](int64_t i) { return first + i; };
    const auto run = wide ? finish<double, decltype(positive)&> : finish<float, decltype(positive)&>;
    run(left.narrow(0, first, rows), right, sums, positive, loss.select(0, side), lse.select(0, side),
        top1.select(0, side));
  };
  const Scratch scratch(loss, kTile * kTile);
  if (!wide && rows == pairs.N) {  // one pass for both sides
    const at::Tensor right = pairs.partners(0);
    const Sides sums{no_sums(loss, rows), no_sums(loss, rows)};
    const Tiles tiles(pairs.z[0], right);
    grid(tiles, [&](const Tile& I, int64_t from, int64_t to) {
      for (int64_t J = from; J < to; ++J)
        kernels().clip(
            I, tiles[J], C, pairs.ids, scratch.of_thread(), of_tile(sums[0], I.first),
            of_tile(sums[1], tiles[J].first));
    });
    for (int side = 0; side < 2; ++side) results(side, pairs.z[0], right, sums[side]);
    return {loss, lse, top1};
  }
  for (int side = 0; side < 2; ++side) {
    const at::Tensor right = pairs.partners(side);
    at::Tensor sums;
    if (wide) {
      sums = sums_of(loss, rows, [&](int64_t i, auto&& f) { pairs.negatives(side, right, first + i, f); });
    } else {
      sums = no_sums(loss, rows);
      strip(Tiles(pairs.z[side], right), first, last, [&](const Tile& I, const Tile& J) {
        kernels().clip(
            I, J, C, pairs.ids, scratch.of_thread(), of_tile(sums, I.first - first), {nullptr, nullptr});
      });
    }
    results(side, pairs.z[side], right, sums);
  }
  return {loss, lse, top1};
}

std::tuple<at::Tensor, at::Tensor> clip_loss_dxy(
    const at::Tensor& g_, const at::Tensor& loss, const at::Tensor& lse_, const at::Tensor& x, const at::Tensor& y,
    const at::Tensor& tau, const std::optional<at::Tensor>& ids, int64_t first, int64_t last) {
  check_clip_loss_dxy(g_, loss, lse_, x, y, tau, ids, first, last);
  const Pairs pairs(x, y, lse_.scalar_type(), 1 / number(tau), ids, first, last);
  const at::Tensor weight = g_.to(lse_.scalar_type());
  const Sides g{with_room(weight.select(0, 0)), with_room(weight.select(0, 1))};
  const Sides lse{with_room(lse_.select(0, 0)), with_room(lse_.select(0, 1))};
  const at::Tensor positive = weight.mul(loss.neg().expm1()).sum(0).narrow(0, first, last - first);
  const auto softmax = [&](int side) { return simd::Softmax{data<float>(g[side]), data<float>(lse[side])}; };
  return gradients(
      pairs, positive,
      [&](int side, const Tile& I, const Tile& J, float* W, float* d_I, float* d_J) {
        kernels().clip_dxy(I, J, pairs.C, pairs.ids, W, softmax(side), softmax(1 - side), d_I, d_J);
      },
      [&](int side, int64_t i, int64_t j, double s) {
        const auto P = [&](int side, int64_t row) {
          return data<double>(g[side])[row] * std::exp(s - data<double>(lse[side])[row]);
        };
        return P(side, i) + P(1 - side, j);
      });
}

}  // namespace contrastkit::cpu

#include <limits>

#include "../siglip.h"
#include "pairs.h"

namespace contrastkit::cpu {
namespace {

template <typename T>
T sigmoid(T u) {
  const T e = std::exp(-std::abs(u));
  return (u >= 0 ? 1 : e) / (1 + e);
}

// The negatives of rows: the largest logit without b, and their sums in loss and slope; T is float, or double for tests.
template <typename T>
void add_negatives(
    const Pairs& pairs, const at::Tensor& partners, T b, const at::Tensor& top, const at::Tensor& loss,
    const at::Tensor& slope) {
  const int64_t first = pairs.first;
  if constexpr (std::is_same_v<T, float>) {
    const Scratch scratch(top, kTile * kTile);
    strip(Tiles(pairs.z[0], partners), first, first + pairs.rows, [&](const Tile& I, const Tile& J) {
      const int64_t i = I.first - first;
      kernels().siglip(
          I, J, pairs.C, pairs.ids, b, scratch.of_thread(),
          {data<float>(top) + i, data<float>(loss) + i, data<float>(slope) + i});
    });
  } else {
    at::parallel_for(0, pairs.rows, 1, [&](int64_t i, int64_t end) {
      for (; i < end; ++i)
        pairs.negatives(0, partners, first + i, [&](int64_t, double s) {
          data<double>(top)[i] = std::max(data<double>(top)[i], s);
          data<double>(loss)[i] += softplus(s + b);
          data<double>(slope)[i] += sigmoid(s + b);
        });
    });
  }
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor> siglip_loss(
    const at::Tensor& x, const at::Tensor& y, const at::Tensor& t, const at::Tensor& b_,
    const std::optional<at::Tensor>& ids, int64_t first, int64_t last) {
  check_siglip_loss("siglip_loss", x, y, t, b_, ids, first, last);
  const bool wide = is(x, at::kDouble) || is(y, at::kDouble);
  const Pairs pairs(x, y, wide ? at::kDouble : at::kFloat, number(t), ids, first, last);
  const int64_t rows = pairs.rows, C = pairs.C;
  const at::Tensor right = pairs.partners(0), loss = right.new_zeros({rows}), slope = right.new_zeros({rows});
  const at::Tensor top = right.new_full({rows}, -std::numeric_limits<double>::infinity());
  const at::Tensor top1 = right.new_empty({rows}, at::kBool);
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const T b = static_cast<T>(number(b_));
    add_negatives<T>(pairs, right, b, top, loss, slope);
    at::parallel_for(0, rows, 64, [&](int64_t i, int64_t end) {
      for (; i < end; ++i) {
        const T s = logit(data<T>(pairs.z[0]) + (first + i) * C, data<T>(right) + (first + i) * C, C);
        T& value = data<T>(loss)[i];
        value += softplus(-s - b);
        data<T>(slope)[i] -= sigmoid(-s - b);
        data<bool>(top1)[i] = s >= data<T>(top)[i] && value == value;
      }
    });
  };
  if (wide) run(double{});
  else run(float{});
  return {loss, slope, top1};
}

std::tuple<at::Tensor, at::Tensor> siglip_loss_dxy(
    const at::Tensor& g_, const at::Tensor& x, const at::Tensor& y, const at::Tensor& t, const at::Tensor& b_,
    const std::optional<at::Tensor>& ids, int64_t first, int64_t last) {
  check_siglip_loss_dxy(g_, x, y, t, b_, ids, first, last);
  const at::ScalarType dtype = is(x, at::kDouble) || is(y, at::kDouble) ? at::kDouble : at::kFloat;
  const Pairs pairs(x, y, dtype, number(t), ids, first, last);
  const double b = number(b_);
  const at::Tensor g = with_room(g_.to(dtype)), none = g.new_zeros(g.sizes());
  const Sides weights{g, none};  // the losses are those of x
  const at::Tensor positive = g.narrow(0, first, last - first).neg();
  const auto weigh_positives = [&](auto zero) {
    using T = decltype(zero);
    at::parallel_for(0, pairs.rows, 64, [&](int64_t i, int64_t end) {
      for (; i < end; ++i) {
        const int64_t at = (first + i) * pairs.C;
        const T dot = logit(data<T>(pairs.z[0]) + at, data<T>(pairs.z[1]) + at, pairs.C);
        data<T>(positive)[i] *= sigmoid(-dot * T(pairs.scale) - T(b));
      }
    });
  };
  if (dtype == at::kDouble) weigh_positives(double{});
  else weigh_positives(float{});
  return gradients(
      pairs, positive,
      [&](int side, const Tile& I, const Tile& J, float* W, float* d_I, float* d_J) {
        kernels().siglip_dxy(
            I, J, pairs.C, pairs.ids, static_cast<float>(b), W, data<float>(weights[side]),
            data<float>(weights[1 - side]), d_I, d_J);
      },
      [&](int side, int64_t i, int64_t j, double s) { return data<double>(g)[side == 0 ? i : j] * sigmoid(s + b); });
}

}  // namespace contrastkit::cpu

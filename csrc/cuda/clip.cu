#include <array>

#include "../clip.h"
#include "attend.cuh"

// One side after the other: a block keeps its rows' sums in registers, so that the matrix of logits is computed for each.
namespace contrastkit::cuda {
namespace {

struct Pairs {
  Pairs(
      const at::Tensor& x, const at::Tensor& y, const std::optional<at::Tensor>& ids_, int64_t first, int64_t last) {
    const at::ScalarType dtype = x.scalar_type() == y.scalar_type() ? x.scalar_type()
                                 : is(x, at::kDouble) || is(y, at::kDouble) ? at::kDouble
                                                                            : at::kFloat;
    z = {x.to(dtype).contiguous(), y.to(dtype).contiguous()};
    masks.N = last - first, masks.K = x.size(0), masks.first = first, masks.pairs = true;
    if (!ids_) return;
    ids = ids_->contiguous();
    masks.key_ids = data<const int64_t>(ids);
    masks.query_ids = masks.key_ids + first;
  }

  at::Tensor own(int side) const { return z[side].narrow(0, masks.first, masks.N); }

  std::array<at::Tensor, 2> z;  // x, y
  at::Tensor ids;               // kept alive while kernels are launched
  Masks masks;
};

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor> clip_loss(
    const at::Tensor& x, const at::Tensor& y, const at::Tensor& tau, const std::optional<at::Tensor>& ids, int64_t first,
    int64_t last) {
  check_clip_loss(x, y, tau, ids, first, last);
  const Pairs pairs(x, y, ids, first, last);
  const bool wide = is(pairs.z[0], at::kDouble);
  const at::Tensor loss = x.new_empty({2, last - first}, x.options().dtype(wide ? at::kDouble : at::kFloat));
  const at::Tensor lse = loss.new_empty(loss.sizes()), top1 = loss.new_empty(loss.sizes(), x.options().dtype(at::kBool));
  for (int side = 0; side < 2; ++side) {
    const at::Tensor& partners = pairs.z[1 - side];
    const auto [losses, lses, hits, d] = attend(pairs.own(side), partners, partners, tau, pairs.masks, false);
    loss.select(0, side).copy_(losses);
    lse.select(0, side).copy_(lses);
    top1.select(0, side).copy_(hits);
  }
  return {loss, lse, top1};
}

std::tuple<at::Tensor, at::Tensor> clip_loss_dxy(
    const at::Tensor& g, const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& x, const at::Tensor& y,
    const at::Tensor& tau, const std::optional<at::Tensor>& ids, int64_t first, int64_t last) {
  check_clip_loss_dxy(g, loss, lse, x, y, tau, ids, first, last);
  const Pairs pairs(x, y, ids, first, last);
  const auto softmax = [&](int s) { return Softmax{g.select(0, s), lse.select(0, s), loss.select(0, s)}; };
  const auto side = [&](int s) {
    return weigh(pairs.own(s), pairs.z[1 - s], softmax(1 - s), softmax(s), tau, pairs.masks);
  };
  return {side(0), side(1)};
}

}  // namespace contrastkit::cuda

#include "../ntxent.h"
#include "attend.cuh"

namespace contrastkit::cuda {
namespace {

Masks negatives(const at::Tensor& z, int64_t n, int64_t first, int64_t last) {
  Masks masks;
  masks.N = last - first, masks.K = z.size(0), masks.n = n, masks.first = first;
  return masks;
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor> ntxent(
    const at::Tensor& z, const at::Tensor& tau, int64_t n, int64_t first, int64_t last) {
  check_ntxent(z, tau, n, first, last);
  const Masks masks = negatives(z, n, first, last);
  const at::Tensor dense = z.contiguous();
  const auto [loss, lse, top1, dz] = attend(dense.narrow(0, first, last - first), dense, dense, tau, masks, false);
  return {loss, lse, top1};
}

at::Tensor ntxent_dz(
    const at::Tensor& g, const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& z, const at::Tensor& tau,
    int64_t n, int64_t first, int64_t last) {
  check_ntxent_dz(g, loss, lse, z, tau, n, first, last);
  const Masks masks = negatives(z, n, first, last);
  const at::Tensor dense = z.contiguous();
  const Softmax of_z{g, lse, loss};
  return weigh(dense.narrow(0, first, last - first), dense, of_z, of_z, tau, masks);
}

}  // namespace contrastkit::cuda

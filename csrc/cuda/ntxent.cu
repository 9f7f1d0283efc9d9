#include "attend.cuh"

namespace contrastkit::cuda {
namespace {

Masks negatives(const char* op, const at::Tensor& z, int64_t n, int64_t first, int64_t last) {
  TORCH_CHECK(
      z.dim() == 2 && n >= 0 && (n == 0 ? z.size(0) == 0 : z.size(0) % (2 * n) == 0), op,
      ": z [N, C] with N a multiple of 2n expected, got ", z.sizes(), " and n = ", n);
  TORCH_CHECK(
      0 <= first && first <= last && last <= z.size(0), op, ": rows ", first, " to ", last, " are not z's ", z.sizes());
  Masks masks;
  masks.N = last - first, masks.K = z.size(0), masks.n = n, masks.first = first;
  return masks;
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor> ntxent(
    const at::Tensor& z, const at::Tensor& tau, int64_t n, int64_t first, int64_t last) {
  const Masks masks = negatives("ntxent", z, n, first, last);
  const at::Tensor dense = z.contiguous();
  const auto [loss, lse, top1, dz] = attend(dense.narrow(0, first, last - first), dense, dense, tau, masks, false);
  return {loss, lse, top1};
}

at::Tensor ntxent_dz(
    const at::Tensor& g, const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& z, const at::Tensor& tau,
    int64_t n, int64_t first, int64_t last) {
  const Masks masks = negatives("ntxent_dz", z, n, first, last);
  TORCH_CHECK(
      g.dim() == 1 && g.size(0) == z.size(0) && loss.sizes() == g.sizes() && lse.sizes() == g.sizes(),
      "ntxent_dz: g, loss and lse [N] of z [N, C] expected, got ", g.sizes(), ", ", loss.sizes(), ", ", lse.sizes(),
      " and ", z.sizes());
  TORCH_CHECK(
      g.device() == z.device() && loss.device() == z.device() && lse.device() == z.device(),
      "ntxent_dz: g, loss, lse and z must be on one device");
  const at::Tensor dense = z.contiguous();
  return weigh(dense.narrow(0, first, last - first), dense, g, lse, loss, tau, masks);
}

}  // namespace contrastkit::cuda

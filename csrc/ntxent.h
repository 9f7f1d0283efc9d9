// Argument checks of ntxent and ntxent_dz, for every device.
#pragma once

#include "common.h"

namespace contrastkit {

// The arguments that both share.
inline void check_rows(
    const char* op, const at::Tensor& z, const at::Tensor& tau, int64_t n, int64_t first, int64_t last) {
  TORCH_CHECK(
      z.dim() == 2 && n >= 0 && (n == 0 ? z.size(0) == 0 : z.size(0) % (2 * n) == 0), op,
      ": z [N, C] with N a multiple of 2n expected, got ", z.sizes(), " and n = ", n);
  TORCH_CHECK(tau.numel() == 1, op, ": tau must be one number, got ", tau.sizes());
  TORCH_CHECK(
      0 <= first && first <= last && last <= z.size(0), op, ": rows ", first, " to ", last, " are not z's ", z.sizes());
}

inline void check_ntxent(const at::Tensor& z, const at::Tensor& tau, int64_t n, int64_t first, int64_t last) {
  check_rows("ntxent", z, tau, n, first, last);
}

inline void check_ntxent_dz(
    const at::Tensor& g, const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& z, const at::Tensor& tau,
    int64_t n, int64_t first, int64_t last) {
  check_rows("ntxent_dz", z, tau, n, first, last);
  TORCH_CHECK(
      g.dim() == 1 && g.size(0) == z.size(0) && loss.sizes() == g.sizes() && lse.sizes() == g.sizes(),
      "ntxent_dz: g, loss and lse [N] of z [N, C] expected, got ", g.sizes(), ", ", loss.sizes(), ", ", lse.sizes(),
      " and ", z.sizes());
  TORCH_CHECK(
      g.device() == z.device() && loss.device() == z.device() && lse.device() == z.device(),
      "ntxent_dz: g, loss, lse and z must be on one device");
}

}  // namespace contrastkit

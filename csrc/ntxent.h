// Argument checks of ntxent and ntxent_dz, for every device.
#pragma once

#include "check.h"

namespace contrastkit {

// The arguments that both share.
inline void check_rows(
    const char* op, const at::Tensor& z, const at::Tensor& tau, int64_t n, int64_t first, int64_t last) {
  check_floating(op, "z", z, {"N", "C"}, z.device());
  check_tau(op, tau, z.device());
  const int64_t N = z.size(0);
  TORCH_CHECK_VALUE(  // without 2n, which may overflow
      n >= 0 && (n == 0 ? N == 0 : N % 2 == 0 && N / 2 % n == 0), op, ": N must be a multiple of 2n, got z ", z.sizes(),
      " and n = ", n);
  TORCH_CHECK_VALUE(
      0 <= first && first <= last && last <= N, op, ": rows ", first, " to ", last, " are not z's ", z.sizes());
}

inline void check_ntxent(const at::Tensor& z, const at::Tensor& tau, int64_t n, int64_t first, int64_t last) {
  check_rows("ntxent", z, tau, n, first, last);
}

inline void check_ntxent_dz(
    const at::Tensor& g, const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& z, const at::Tensor& tau,
    int64_t n, int64_t first, int64_t last) {
  check_rows("ntxent_dz", z, tau, n, first, last);
  check_floating("ntxent_dz", "g", g, {z.size(0)}, z.device());
  check_wide("ntxent_dz", "lse", lse, {z.size(0)}, z.device());
  check_dtype("ntxent_dz", "loss", loss, lse.scalar_type(), {z.size(0)}, z.device());
}

}  // namespace contrastkit

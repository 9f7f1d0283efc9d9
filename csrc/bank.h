// Argument checks of bank_loss and bank_update_, for every device.
#pragma once

#include "check.h"

namespace contrastkit {

inline void check_bank_loss(
    const at::Tensor& query, const at::Tensor& bank, const at::Tensor& index, const at::Tensor& tau,
    const std::optional<at::Tensor>& Z) {
  const char* op = "bank_loss";
  const at::Device device = query.device();
  check_floating(op, "query", query, {"N", "V", "C"}, device);
  check_floating(op, "bank", bank, {"M", query.size(1), query.size(2)}, device);
  check_int64(op, "index", index, {query.size(0), "1 + m"}, device);
  TORCH_CHECK_VALUE(index.size(1) > 0, op, ": index must have a column of positives, got ", index.sizes());
  check_tau(op, tau, device);
  if (Z) check_floating(op, "Z", *Z, {query.size(1)}, device);
}

inline void check_bank_update(const at::Tensor& bank, const at::Tensor& index, const at::Tensor& x, double m) {
  const char* op = "bank_update_";
  const at::Device device = bank.device();
  if (bank.dim() < 3) {
    check_floating(op, "bank", bank, {"M", "C"}, device);
    check_floating(op, "x", x, {"N", bank.size(1)}, device);
  } else {
    check_floating(op, "bank", bank, {"M", "V", "C"}, device);
    check_floating(op, "x", x, {"N", bank.size(1), bank.size(2)}, device);
  }
  check_int64(op, "index", index, {x.size(0)}, device);
  check_momentum(op, m);
}

}  // namespace contrastkit

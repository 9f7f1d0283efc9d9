// Argument checks of bank_loss and bank_update_, for every device.
#pragma once

#include <optional>

#include "common.h"

namespace contrastkit {

inline void check_bank_loss(
    const at::Tensor& query, const at::Tensor& bank, const at::Tensor& index, const at::Tensor& tau,
    const std::optional<at::Tensor>& Z) {
  TORCH_CHECK(
      query.dim() == 3 && bank.dim() == 3 && bank.size(1) == query.size(1) && bank.size(2) == query.size(2),
      "bank_loss: query [N, V, C] and bank [M, V, C] expected, got ", query.sizes(), " and ", bank.sizes());
  TORCH_CHECK(
      index.dim() == 2 && index.size(0) == query.size(0) && index.size(1) > 0 && index.scalar_type() == at::kLong,
      "bank_loss: index must be int64 [", query.size(0), ", 1 + m], got ", index.scalar_type(), index.sizes());
  TORCH_CHECK(tau.numel() == 1, "bank_loss: tau must be one number, got ", tau.sizes());
  TORCH_CHECK(!Z || (Z->dim() == 1 && Z->size(0) == query.size(1)), "bank_loss: Z must be [", query.size(1), "]");
  for (const at::Tensor& t : {bank, index, Z.value_or(index)})
    TORCH_CHECK(
        t.device() == query.device(), "bank_loss: query is on ", query.device(), " and another input on ", t.device());
}

inline void check_bank_update(const at::Tensor& bank, const at::Tensor& index, const at::Tensor& x) {
  TORCH_CHECK(
      (bank.dim() == 2 || bank.dim() == 3) && x.dim() == bank.dim() && x.sizes().slice(1) == bank.sizes().slice(1),
      "bank_update_: bank [M, C] and x [N, C], or [M, V, C] and [N, V, C], expected, got ", bank.sizes(), " and ",
      x.sizes());
  TORCH_CHECK(
      index.dim() == 1 && index.size(0) == x.size(0) && index.scalar_type() == at::kLong,
      "bank_update_: index must be int64 [", x.size(0), "], got ", index.scalar_type(), index.sizes());
  TORCH_CHECK(
      index.device() == bank.device() && x.device() == bank.device(), "bank_update_: all inputs belong on one device");
}

}  // namespace contrastkit

// Argument checks of infonce and infonce_dkeys, for every device.
#pragma once

#include <optional>

#include "common.h"

namespace contrastkit {

// The arguments that both share.
inline void check_negatives(
    const char* op, const at::Tensor& query, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids) {
  TORCH_CHECK(
      query.dim() == 2 && keys.dim() == 2 && keys.size(1) == query.size(1), op,
      ": query [N, C] and keys [K, C] expected, got ", query.sizes(), " and ", keys.sizes());
  TORCH_CHECK(tau.numel() == 1, op, ": tau must be one number, got ", tau.sizes());
  TORCH_CHECK(query.device() == keys.device(), op, ": query is on ", query.device(), ", keys on ", keys.device());
  const auto check = [&](const std::optional<at::Tensor>& x, const char* what, int dim, int64_t n) {
    if (!x) return;
    TORCH_CHECK(
        x->scalar_type() == at::kLong && x->dim() == dim && (dim == 0 || x->size(0) == n), op, ": ", what,
        " expected in int64, got ", x->scalar_type(), x->sizes());
    TORCH_CHECK(x->device() == keys.device(), op, ": ", what, " is on ", x->device(), ", keys on ", keys.device());
  };
  check(exclude, "exclude [N, E]", 2, query.size(0));
  check(n_valid, "n_valid []", 0, 0);
  TORCH_CHECK(query_ids.has_value() == key_ids.has_value(), op, ": query_ids and key_ids come together");
  check(query_ids, "query_ids [N]", 1, query.size(0));
  check(key_ids, "key_ids [K]", 1, keys.size(0));
}

inline void check_infonce(
    const at::Tensor& query, const at::Tensor& positive, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids) {
  check_negatives("infonce", query, keys, tau, exclude, n_valid, query_ids, key_ids);
  TORCH_CHECK(
      positive.sizes() == query.sizes() && positive.device() == query.device(),
      "infonce: a positive for each query on its device expected, got ", positive.sizes(), " and ", query.sizes());
}

inline void check_infonce_dkeys(
    const at::Tensor& g, const at::Tensor& lse, const at::Tensor& query, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids) {
  check_negatives("infonce_dkeys", query, keys, tau, exclude, n_valid, query_ids, key_ids);
  TORCH_CHECK(
      g.dim() == 1 && g.size(0) == query.size(0) && lse.sizes() == g.sizes() && g.device() == query.device() &&
          lse.device() == query.device(),
      "infonce_dkeys: g [N] and lse [N] of query [N, C] on its device expected, got ", g.sizes(), ", ", lse.sizes(),
      " and ", query.sizes());
}

}  // namespace contrastkit

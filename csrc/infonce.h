// Argument checks of infonce and infonce_dkeys, for every device.
#pragma once

#include "check.h"

namespace contrastkit {

// The arguments that both share.
inline void check_negatives(
    const char* op, const at::Tensor& query, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids) {
  const at::Device device = query.device();
  check_floating(op, "query", query, {"N", "C"}, device);
  check_floating(op, "keys", keys, {"K", query.size(1)}, device);
  check_tau(op, tau, device);
  check_int64(op, "exclude", exclude, {query.size(0), "E"}, device);
  check_int64(op, "n_valid", n_valid, {}, device);
  check_int64(op, "query_ids", query_ids, {query.size(0)}, device);
  check_int64(op, "key_ids", key_ids, {keys.size(0)}, device);
  TORCH_CHECK_VALUE(query_ids.has_value() == key_ids.has_value(), op, ": query_ids and key_ids come together");
}

inline void check_infonce(
    const at::Tensor& query, const at::Tensor& positive, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids) {
  check_negatives("infonce", query, keys, tau, exclude, n_valid, query_ids, key_ids);
  check_floating("infonce", "positive", positive, {query.size(0), query.size(1)}, query.device());
}

inline void check_infonce_dkeys(
    const at::Tensor& g, const at::Tensor& lse, const at::Tensor& query, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids) {
  check_negatives("infonce_dkeys", query, keys, tau, exclude, n_valid, query_ids, key_ids);
  check_floating("infonce_dkeys", "g", g, {query.size(0)}, query.device());
  check_wide("infonce_dkeys", "lse", lse, {query.size(0)}, query.device());
}

}  // namespace contrastkit

// Argument checks and memory layout of ema_, for every device.
#pragma once

#include <utility>
#include <vector>

#include "check.h"

namespace contrastkit {

// Whether element i of one storage corresponds to element i of the other.
inline bool same_layout(const at::Tensor& a, const at::Tensor& b) {
  return a.is_non_overlapping_and_dense() && a.strides() == b.strides();
}

// The tensors of an EMA as flat memory; those that are not dense use a dense copy, written back by `finish`.
struct FlatPairs {
  std::vector<at::Tensor> averages, params;
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;

  FlatPairs(at::TensorList a, at::TensorList p, double m) {
    check_momentum("ema_", m);
    TORCH_CHECK_VALUE(a.size() == p.size(), "ema_: ", a.size(), " averages but ", p.size(), " params");
    for (size_t i = 0; i < a.size(); ++i) {
      TORCH_CHECK_VALUE(
          a[i].sizes() == p[i].sizes() && a[i].device() == p[i].device() && a[i].device() == a[0].device() &&
              is_floating(a[i]) && is_floating(p[i]),
          "ema_: pair ", i, " does not match: average ", dtype_name(a[i].scalar_type()), a[i].sizes(), " on ", a[i].device(),
          ", parameter ", dtype_name(p[i].scalar_type()), p[i].sizes(), " on ", p[i].device(), "; both must be floating");
      if (same_layout(a[i], p[i])) {
        averages.push_back(a[i]);
        params.push_back(p[i]);
      } else {
        averages.push_back(a[i].contiguous());
        params.push_back(p[i].contiguous());
        if (!averages.back().is_same(a[i])) copies.emplace_back(a[i], averages.back());
      }
    }
  }

  void finish() {
    for (auto& [to, from] : copies) to.copy_(from);
    for (const at::Tensor& a : averages) bump_version(a);
  }
};

}  // namespace contrastkit

// What every kernel shares. Letters: N rows of a batch, K keys, C channels.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace contrastkit {

// Calls f with a zero of the tensor's element type: one instantiation of a kernel per floating dtype.
template <typename F>
void dispatch(at::ScalarType dtype, F&& f) {
  switch (dtype) {
    case at::kFloat: return f(float{});
    case at::kDouble: return f(double{});
    case at::kBFloat16: return f(at::BFloat16{});
    case at::kHalf: return f(at::Half{});
    default: TORCH_CHECK(false, "contrastkit: floating dtype expected, got ", dtype);
  }
}

// Arithmetic is in float, and in double where an input is double.
template <typename A, typename B>
using Accumulator = std::conditional_t<std::is_same_v<A, double> || std::is_same_v<B, double>, double, float>;

// Tells autograd that a tensor was written in place, as torch's own operators do.
inline void written(const at::Tensor& t) { t.unsafeGetTensorImpl()->bump_version(); }

// Whether element i of one storage belongs to element i of the other.
inline bool same_layout(const at::Tensor& a, const at::Tensor& b) {
  return a.is_non_overlapping_and_dense() && a.strides() == b.strides();
}

// The tensors of an EMA as flat memory; what is not dense goes through a dense copy, written back by `finish`.
struct FlatPairs {
  std::vector<at::Tensor> averages, params;
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;

  FlatPairs(at::TensorList a, at::TensorList p) {
    TORCH_CHECK_VALUE(a.size() == p.size(), "ema_: ", a.size(), " averages but ", p.size(), " params");
    for (size_t i = 0; i < a.size(); ++i) {
      TORCH_CHECK_VALUE(
          a[i].sizes() == p[i].sizes() && a[i].device() == p[i].device() && a[i].device() == a[0].device() &&
              at::isFloatingType(a[i].scalar_type()) && at::isFloatingType(p[i].scalar_type()),
          "ema_: pair ", i, " does not match: average ", a[i].scalar_type(), a[i].sizes(), " on ", a[i].device(),
          ", parameter ", p[i].scalar_type(), p[i].sizes(), " on ", p[i].device(), "; both must be floating");
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
    for (const at::Tensor& a : averages) written(a);
  }
};

inline void check_queue(
    const at::Tensor& keys, const at::Tensor& pointer, const at::Tensor& x, const std::optional<at::Tensor>& n_valid) {
  TORCH_CHECK(
      keys.dim() == 2 && x.dim() == 2 && keys.size(1) == x.size(1) && keys.size(0) > 0,
      "queue_push_: keys [K, C] and x [N, C] expected, got ", keys.sizes(), " and ", x.sizes());
  for (const at::Tensor& count : {pointer, n_valid.value_or(pointer)})
    TORCH_CHECK(
        count.dim() == 0 && count.scalar_type() == at::kLong && count.device() == keys.device(),
        "queue_push_: pointer and n_valid must be 0-dim int64 tensors on ", keys.device());
  TORCH_CHECK(x.device() == keys.device(), "queue_push_: x and keys must be on one device");
}

// `dense` is what the kernel wrote: keys themselves, or their contiguous copy.
inline void finish_queue(
    const at::Tensor& keys, const at::Tensor& dense, const at::Tensor& pointer, const std::optional<at::Tensor>& n_valid) {
  if (!dense.is_same(keys)) keys.copy_(dense);
  written(keys);
  written(pointer);
  if (n_valid) written(*n_valid);
}

}  // namespace contrastkit

// Argument checks and the final copy of queue_push_, for every device.
#pragma once

#include <optional>

#include "common.h"

namespace contrastkit {

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

// `dense` is the tensor that the kernel wrote: keys, or a contiguous copy of keys.
inline void finish_queue(
    const at::Tensor& keys, const at::Tensor& dense, const at::Tensor& pointer, const std::optional<at::Tensor>& n_valid) {
  write_back(keys, dense);
  bump_version(pointer);
  if (n_valid) bump_version(*n_valid);
}

}  // namespace contrastkit

// Argument checks and the final copy of queue_push_, for every device.
#pragma once

#include "check.h"

namespace contrastkit {

inline void check_queue(
    const at::Tensor& keys, const at::Tensor& pointer, const at::Tensor& x, const std::optional<at::Tensor>& n_valid) {
  const char* op = "queue_push_";
  check_floating(op, "keys", keys, {"K", "C"}, keys.device());
  TORCH_CHECK_VALUE(keys.size(0) > 0, op, ": keys must have rows, got ", keys.sizes());
  check_int64(op, "pointer", pointer, {}, keys.device());
  check_floating(op, "x", x, {"N", keys.size(1)}, keys.device());
  check_int64(op, "n_valid", n_valid, {}, keys.device());
}

// `dense` is the tensor that the kernel wrote: keys, or a contiguous copy of keys.
inline void finish_queue(
    const at::Tensor& keys, const at::Tensor& dense, const at::Tensor& pointer, const std::optional<at::Tensor>& n_valid) {
  write_back(keys, dense);
  bump_version(pointer);
  if (n_valid) bump_version(*n_valid);
}

}  // namespace contrastkit

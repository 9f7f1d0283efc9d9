// Argument checks that the losses of pairs share, for every device.
#pragma once

#include "check.h"

namespace contrastkit {

inline void check_pairs(
    const char* op, const at::Tensor& x, const at::Tensor& y, const std::optional<at::Tensor>& ids, int64_t first,
    int64_t last) {
  check_floating(op, "x", x, {"N", "C"}, x.device());
  check_floating(op, "y", y, {x.size(0), x.size(1)}, x.device());
  check_int64(op, "ids", ids, {x.size(0)}, x.device());
  TORCH_CHECK_VALUE(
      0 <= first && first <= last && last <= x.size(0), op, ": rows ", first, " to ", last, " are not x's ", x.sizes());
}

}  // namespace contrastkit

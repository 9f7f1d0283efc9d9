// Argument checks of siglip_loss and siglip_loss_dxy, for every device.
#pragma once

#include "pairs.h"

namespace contrastkit {

// The arguments that both share.
inline void check_siglip_loss(
    const char* op, const at::Tensor& x, const at::Tensor& y, const at::Tensor& t, const at::Tensor& b,
    const std::optional<at::Tensor>& ids, int64_t first, int64_t last) {
  check_pairs(op, x, y, ids, first, last);
  check_number(op, "t", t, x.device());
  check_number(op, "b", b, x.device());
}

inline void check_siglip_loss_dxy(
    const at::Tensor& g, const at::Tensor& x, const at::Tensor& y, const at::Tensor& t, const at::Tensor& b,
    const std::optional<at::Tensor>& ids, int64_t first, int64_t last) {
  check_siglip_loss("siglip_loss_dxy", x, y, t, b, ids, first, last);
  check_floating("siglip_loss_dxy", "g", g, {x.size(0)}, x.device());
}

}  // namespace contrastkit

// Argument checks of clip_loss and clip_loss_dxy, for every device.
#pragma once

#include "pairs.h"

namespace contrastkit {

inline void check_clip_loss(
    const at::Tensor& x, const at::Tensor& y, const at::Tensor& tau, const std::optional<at::Tensor>& ids, int64_t first,
    int64_t last) {
  check_pairs("clip_loss", x, y, ids, first, last);
  check_tau("clip_loss", tau, x.device());
}

inline void check_clip_loss_dxy(
    const at::Tensor& g, const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& x, const at::Tensor& y,
    const at::Tensor& tau, const std::optional<at::Tensor>& ids, int64_t first, int64_t last) {
  check_pairs("clip_loss_dxy", x, y, ids, first, last);
  check_tau("clip_loss_dxy", tau, x.device());
  check_floating("clip_loss_dxy", "g", g, {2, x.size(0)}, x.device());
  check_wide("clip_loss_dxy", "lse", lse, {2, x.size(0)}, x.device());
  check_dtype("clip_loss_dxy", "loss", loss, lse.scalar_type(), {2, x.size(0)}, x.device());
}

}  // namespace contrastkit

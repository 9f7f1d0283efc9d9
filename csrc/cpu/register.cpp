// Registers the CPU kernels.
#include <torch/library.h>

namespace contrastkit::cpu {

#include "../ops.inc"

TORCH_LIBRARY_IMPL(contrastkit, CPU, m) {
  m.impl("infonce", &infonce);
  m.impl("infonce_dkeys", &infonce_dkeys);
  m.impl("ntxent", &ntxent);
  m.impl("ntxent_dz", &ntxent_dz);
  m.impl("clip_loss", &clip_loss);
  m.impl("clip_loss_dxy", &clip_loss_dxy);
  m.impl("siglip_loss", &siglip_loss);
  m.impl("siglip_loss_dxy", &siglip_loss_dxy);
  m.impl("bank_loss", &bank_loss);
  m.impl("bank_update_", &bank_update_);
  m.impl("queue_push_", &queue_push_);
  m.impl("ema_", &ema_);
  m.impl("sinkhorn", &sinkhorn);
  m.impl("sinkhorn_begin", &sinkhorn_begin);
  m.impl("sinkhorn_sums", &sinkhorn_sums);
  m.impl("sinkhorn_end_", &sinkhorn_end_);
  m.impl("augment", &augment);
}

}  // namespace contrastkit::cpu

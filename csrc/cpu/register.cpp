#include <torch/library.h>

#include "ops.h"

TORCH_LIBRARY_IMPL(contrastkit, CPU, m) {
  m.impl("infonce", &contrastkit::cpu::infonce);
  m.impl("infonce_dkeys", &contrastkit::cpu::infonce_dkeys);
  m.impl("ntxent", &contrastkit::cpu::ntxent);
  m.impl("ntxent_dz", &contrastkit::cpu::ntxent_dz);
  m.impl("bank_loss", &contrastkit::cpu::bank_loss);
  m.impl("bank_update_", &contrastkit::cpu::bank_update_);
  m.impl("queue_push_", &contrastkit::cpu::queue_push_);
  m.impl("ema_", &contrastkit::cpu::ema_);
  m.impl("sinkhorn", &contrastkit::cpu::sinkhorn);
  m.impl("sinkhorn_begin", &contrastkit::cpu::sinkhorn_begin);
  m.impl("sinkhorn_sums", &contrastkit::cpu::sinkhorn_sums);
  m.impl("sinkhorn_end_", &contrastkit::cpu::sinkhorn_end_);
}

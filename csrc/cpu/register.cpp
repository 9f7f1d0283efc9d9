#include <torch/library.h>

#include "ops.h"

TORCH_LIBRARY_IMPL(contrastkit, CPU, m) {
  m.impl("infonce", &contrastkit::cpu::infonce);
  m.impl("queue_push_", &contrastkit::cpu::queue_push_);
  m.impl("ema_", &contrastkit::cpu::ema_);
}

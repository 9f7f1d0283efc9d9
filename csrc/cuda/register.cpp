#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include "ops.h"

namespace contrastkit::cuda {

static void queue_push_on_device(
    at::Tensor keys, at::Tensor pointer, const at::Tensor& x, std::optional<at::Tensor> n_valid, bool normalize) {
  const c10::DeviceGuard guard(keys.device());
  queue_push_(keys, pointer, x, n_valid, normalize);
}

static void ema_on_device(at::TensorList averages, at::TensorList params, double m) {
  const c10::DeviceGuard guard(averages[0].device());
  ema_(averages, params, m);
}

}  // namespace contrastkit::cuda

TORCH_LIBRARY_IMPL(contrastkit, CUDA, m) {
  m.impl("queue_push_", &contrastkit::cuda::queue_push_on_device);
  m.impl("ema_", &contrastkit::cuda::ema_on_device);
}

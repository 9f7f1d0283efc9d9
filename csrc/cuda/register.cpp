// Registers the CUDA kernels.
#include <ATen/DeviceGuard.h>
#include <torch/library.h>

#include <utility>

namespace contrastkit::cuda {

#include "../ops.inc"

// The op with the device of its first argument as current device, as in torch's own operators.
template <auto op>
struct OnDevice;

template <typename Result, typename First, typename... Rest, Result (*op)(First, Rest...)>
struct OnDevice<op> {
  static Result call(First first, Rest... rest) {
    const c10::OptionalDeviceGuard guard(at::device_of(first));
    return op(std::forward<First>(first), std::forward<Rest>(rest)...);
  }
};

TORCH_LIBRARY_IMPL(contrastkit, CUDA, m) {
  m.impl("infonce", &OnDevice<&infonce>::call);
  m.impl("infonce_dkeys", &OnDevice<&infonce_dkeys>::call);
  m.impl("ntxent", &OnDevice<&ntxent>::call);
  m.impl("ntxent_dz", &OnDevice<&ntxent_dz>::call);
  m.impl("clip_loss", &OnDevice<&clip_loss>::call);
  m.impl("clip_loss_dxy", &OnDevice<&clip_loss_dxy>::call);
  m.impl("bank_loss", &OnDevice<&bank_loss>::call);
  m.impl("bank_update_", &OnDevice<&bank_update_>::call);
  m.impl("queue_push_", &OnDevice<&queue_push_>::call);
  m.impl("ema_", &OnDevice<&ema_>::call);
  m.impl("sinkhorn", &OnDevice<&sinkhorn>::call);
  m.impl("sinkhorn_begin", &OnDevice<&sinkhorn_begin>::call);
  m.impl("sinkhorn_sums", &OnDevice<&sinkhorn_sums>::call);
  m.impl("sinkhorn_end_", &OnDevice<&sinkhorn_end_>::call);
  m.impl("augment", &OnDevice<&augment>::call);
}

}  // namespace contrastkit::cuda

#include <ATen/Context.h>
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

static std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> bank_loss_on_device(
    const at::Tensor& query, const at::Tensor& bank, const at::Tensor& index, const at::Tensor& tau,
    const std::optional<at::Tensor>& Z, bool with_dquery) {
  const c10::DeviceGuard guard(query.device());
  return bank_loss(query, bank, index, tau, Z, with_dquery);
}

static void bank_update_on_device(at::Tensor bank, const at::Tensor& index, const at::Tensor& x, double m) {
  const c10::DeviceGuard guard(bank.device());
  bank_update_(bank, index, x, m);
}

// In products of float32, by torch.backends.cuda.matmul.fp32_precision and its older names.
bool tf32_allowed() {
  return at::globalContext().float32Precision(at::Float32Backend::CUDA, at::Float32Op::MATMUL) == at::Float32Precision::TF32;
}

static std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> infonce_on_device(
    const at::Tensor& query, const at::Tensor& positive, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids, bool with_dquery) {
  const c10::DeviceGuard guard(query.device());
  return infonce(query, positive, keys, tau, exclude, n_valid, query_ids, key_ids, with_dquery);
}

static at::Tensor infonce_dkeys_on_device(
    const at::Tensor& g, const at::Tensor& lse, const at::Tensor& query, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids) {
  const c10::DeviceGuard guard(keys.device());
  return infonce_dkeys(g, lse, query, keys, tau, exclude, n_valid, query_ids, key_ids);
}

static std::tuple<at::Tensor, at::Tensor, at::Tensor> ntxent_on_device(
    const at::Tensor& z, const at::Tensor& tau, int64_t n, int64_t first, int64_t last) {
  const c10::DeviceGuard guard(z.device());
  return ntxent(z, tau, n, first, last);
}

static at::Tensor ntxent_dz_on_device(
    const at::Tensor& g, const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& z, const at::Tensor& tau,
    int64_t n, int64_t first, int64_t last) {
  const c10::DeviceGuard guard(z.device());
  return ntxent_dz(g, loss, lse, z, tau, n, first, last);
}

static at::Tensor sinkhorn_on_device(const at::Tensor& scores, double epsilon, int64_t iterations) {
  const c10::DeviceGuard guard(scores.device());
  return sinkhorn(scores, epsilon, iterations);
}

static std::tuple<at::Tensor, at::Tensor> sinkhorn_begin_on_device(
    const at::Tensor& scores, const at::Tensor& tops, double epsilon) {
  const c10::DeviceGuard guard(scores.device());
  return sinkhorn_begin(scores, tops, epsilon);
}

static at::Tensor sinkhorn_sums_on_device(const at::Tensor& E, const at::Tensor& t, double scale) {
  const c10::DeviceGuard guard(E.device());
  return sinkhorn_sums(E, t, scale);
}

static void sinkhorn_end_on_device(at::Tensor E, const at::Tensor& t) {
  const c10::DeviceGuard guard(E.device());
  sinkhorn_end_(E, t);
}

}  // namespace contrastkit::cuda

TORCH_LIBRARY_IMPL(contrastkit, CUDA, m) {
  m.impl("infonce", &contrastkit::cuda::infonce_on_device);
  m.impl("infonce_dkeys", &contrastkit::cuda::infonce_dkeys_on_device);
  m.impl("ntxent", &contrastkit::cuda::ntxent_on_device);
  m.impl("ntxent_dz", &contrastkit::cuda::ntxent_dz_on_device);
  m.impl("bank_loss", &contrastkit::cuda::bank_loss_on_device);
  m.impl("bank_update_", &contrastkit::cuda::bank_update_on_device);
  m.impl("sinkhorn", &contrastkit::cuda::sinkhorn_on_device);
  m.impl("sinkhorn_begin", &contrastkit::cuda::sinkhorn_begin_on_device);
  m.impl("sinkhorn_sums", &contrastkit::cuda::sinkhorn_sums_on_device);
  m.impl("sinkhorn_end_", &contrastkit::cuda::sinkhorn_end_on_device);
  m.impl("queue_push_", &contrastkit::cuda::queue_push_on_device);
  m.impl("ema_", &contrastkit::cuda::ema_on_device);
}

// What every kernel shares. Letters: N rows of a batch, K keys, C channels.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace contrastkit {

// Calls f with a zero of the tensor's element type: one instantiation of a kernel per floating dtype.
template <typename F>
void dispatch(at::ScalarType dtype, F&& f) {
  switch (dtype) {
    case at::kFloat: return f(float{});
    case at::kDouble: return f(double{});
    case at::kBFloat16: return f(at::BFloat16{});
    case at::kHalf: return f(at::Half{});
    default: TORCH_CHECK(false, "contrastkit: floating dtype expected, got ", dtype);
  }
}

// Arithmetic is in float, and in double where an input is double.
template <typename A, typename B>
using Accumulator = std::conditional_t<std::is_same_v<A, double> || std::is_same_v<B, double>, double, float>;

// Tells autograd that a tensor was written in place, as torch's own operators do.
inline void written(const at::Tensor& t) { t.unsafeGetTensorImpl()->bump_version(); }

// Whether element i of one storage belongs to element i of the other.
inline bool same_layout(const at::Tensor& a, const at::Tensor& b) {
  return a.is_non_overlapping_and_dense() && a.strides() == b.strides();
}

// The tensors of an EMA as flat memory; what is not dense goes through a dense copy, written back by `finish`.
struct FlatPairs {
  std::vector<at::Tensor> averages, params;
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;

  FlatPairs(at::TensorList a, at::TensorList p) {
    TORCH_CHECK_VALUE(a.size() == p.size(), "ema_: ", a.size(), " averages but ", p.size(), " params");
    for (size_t i = 0; i < a.size(); ++i) {
      TORCH_CHECK_VALUE(
          a[i].sizes() == p[i].sizes() && a[i].device() == p[i].device() && a[i].device() == a[0].device() &&
              at::isFloatingType(a[i].scalar_type()) && at::isFloatingType(p[i].scalar_type()),
          "ema_: pair ", i, " does not match: average ", a[i].scalar_type(), a[i].sizes(), " on ", a[i].device(),
          ", parameter ", p[i].scalar_type(), p[i].sizes(), " on ", p[i].device(), "; both must be floating");
      if (same_layout(a[i], p[i])) {
        averages.push_back(a[i]);
        params.push_back(p[i]);
      } else {
        averages.push_back(a[i].contiguous());
        params.push_back(p[i].contiguous());
        if (!averages.back().is_same(a[i])) copies.emplace_back(a[i], averages.back());
      }
    }
  }

  void finish() {
    for (auto& [to, from] : copies) to.copy_(from);
    for (const at::Tensor& a : averages) written(a);
  }
};

inline void check_infonce(
    const char* op, const at::Tensor& query, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids) {
  TORCH_CHECK(
      query.dim() == 2 && keys.dim() == 2 && keys.size(1) == query.size(1), op,
      ": query [N, C] and keys [K, C] expected, got ", query.sizes(), " and ", keys.sizes());
  TORCH_CHECK(tau.numel() == 1, op, ": tau must be one number, got ", tau.sizes());
  TORCH_CHECK(query.device() == keys.device(), op, ": query is on ", query.device(), ", keys on ", keys.device());
  const auto check = [&](const std::optional<at::Tensor>& x, const char* what, int dim, int64_t n) {
    if (!x) return;
    TORCH_CHECK(
        x->scalar_type() == at::kLong && x->dim() == dim && (dim == 0 || x->size(0) == n), op, ": ", what,
        " expected in int64, got ", x->scalar_type(), x->sizes());
    TORCH_CHECK(x->device() == keys.device(), op, ": ", what, " is on ", x->device(), ", keys on ", keys.device());
  };
  check(exclude, "exclude [N, E]", 2, query.size(0));
  check(n_valid, "n_valid []", 0, 0);
  TORCH_CHECK(query_ids.has_value() == key_ids.has_value(), op, ": query_ids and key_ids come together");
  check(query_ids, "query_ids [N]", 1, query.size(0));
  check(key_ids, "key_ids [K]", 1, keys.size(0));
}

inline void check_infonce_dkeys(const at::Tensor& g, const at::Tensor& lse, const at::Tensor& query) {
  TORCH_CHECK(
      g.dim() == 1 && g.size(0) == query.size(0) && lse.sizes() == g.sizes() && g.device() == query.device() &&
          lse.device() == query.device(),
      "infonce_dkeys: g [N] and lse [N] of query [N, C] on its device expected, got ", g.sizes(), ", ", lse.sizes(),
      " and ", query.sizes());
}

inline void check_ntxent(
    const char* op, const at::Tensor& z, const at::Tensor& tau, int64_t n, int64_t first, int64_t last) {
  TORCH_CHECK(
      z.dim() == 2 && n >= 0 && (n == 0 ? z.size(0) == 0 : z.size(0) % (2 * n) == 0), op,
      ": z [N, C] with N a multiple of 2n expected, got ", z.sizes(), " and n = ", n);
  TORCH_CHECK(tau.numel() == 1, op, ": tau must be one number, got ", tau.sizes());
  TORCH_CHECK(
      0 <= first && first <= last && last <= z.size(0), op, ": rows ", first, " to ", last, " are not z's ", z.sizes());
}

inline void check_ntxent_dz(const at::Tensor& g, const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& z) {
  TORCH_CHECK(
      g.dim() == 1 && g.size(0) == z.size(0) && loss.sizes() == g.sizes() && lse.sizes() == g.sizes(),
      "ntxent_dz: g, loss and lse [N] of z [N, C] expected, got ", g.sizes(), ", ", loss.sizes(), ", ", lse.sizes(),
      " and ", z.sizes());
  TORCH_CHECK(
      g.device() == z.device() && loss.device() == z.device() && lse.device() == z.device(),
      "ntxent_dz: g, loss, lse and z must be on one device");
}

inline void check_bank_loss(
    const at::Tensor& query, const at::Tensor& bank, const at::Tensor& index, const at::Tensor& tau,
    const std::optional<at::Tensor>& Z) {
  TORCH_CHECK(
      query.dim() == 3 && bank.dim() == 3 && bank.size(1) == query.size(1) && bank.size(2) == query.size(2),
      "bank_loss: query [N, V, C] and bank [M, V, C] expected, got ", query.sizes(), " and ", bank.sizes());
  TORCH_CHECK(
      index.dim() == 2 && index.size(0) == query.size(0) && index.size(1) > 0 && index.scalar_type() == at::kLong,
      "bank_loss: index must be int64 [", query.size(0), ", 1 + m], got ", index.scalar_type(), index.sizes());
  TORCH_CHECK(tau.numel() == 1, "bank_loss: tau must be one number, got ", tau.sizes());
  TORCH_CHECK(!Z || (Z->dim() == 1 && Z->size(0) == query.size(1)), "bank_loss: Z must be [", query.size(1), "]");
  for (const at::Tensor& t : {bank, index, Z.value_or(index)})
    TORCH_CHECK(
        t.device() == query.device(), "bank_loss: query is on ", query.device(), " and another input on ", t.device());
}

inline void check_bank_update(const at::Tensor& bank, const at::Tensor& index, const at::Tensor& x) {
  TORCH_CHECK(
      (bank.dim() == 2 || bank.dim() == 3) && x.dim() == bank.dim() && x.sizes().slice(1) == bank.sizes().slice(1),
      "bank_update_: bank [M, C] and x [N, C], or [M, V, C] and [N, V, C], expected, got ", bank.sizes(), " and ",
      x.sizes());
  TORCH_CHECK(
      index.dim() == 1 && index.size(0) == x.size(0) && index.scalar_type() == at::kLong,
      "bank_update_: index must be int64 [", x.size(0), "], got ", index.scalar_type(), index.sizes());
  TORCH_CHECK(
      index.device() == bank.device() && x.device() == bank.device(), "bank_update_: all inputs belong on one device");
}

// x, dense, and in memory of its own where it lies in what will be written.
inline at::Tensor apart(const at::Tensor& x, const at::Tensor& written) {
  return x.is_alias_of(written) ? x.clone(at::MemoryFormat::Contiguous) : x.contiguous();
}

inline void check_queue(
    const at::Tensor& keys, const at::Tensor& pointer, const at::Tensor& x, const std::optional<at::Tensor>& n_valid) {
  TORCH_CHECK(
      keys.dim() == 2 && x.dim() == 2 && keys.size(1) == x.size(1) && keys.size(0) > 0,
      "queue_push_: keys [K, C] and x [N, C] expected, got ", keys.sizes(), " and ", x.sizes());
  for (const at::Tensor& count : {pointer, n_valid.value_or(pointer)})
    TORCH_CHECK(
        count.dim() == 0 && count.scalar_type() == at::kLong && count.device() == keys.device(),
        "queue_push_: pointer and n_valid must be 0-dim int64 tensors on ", keys.device());
  TORCH_CHECK(x.device() == keys.device(), "queue_push_: x and keys must be on one device");
}

// `dense` is what the kernel wrote: keys themselves, or their contiguous copy.
inline void finish_queue(
    const at::Tensor& keys, const at::Tensor& dense, const at::Tensor& pointer, const std::optional<at::Tensor>& n_valid) {
  if (!dense.is_same(keys)) keys.copy_(dense);
  written(keys);
  written(pointer);
  if (n_valid) written(*n_valid);
}

}  // namespace contrastkit

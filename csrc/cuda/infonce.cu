#include "attend.cuh"

namespace contrastkit::cuda {
namespace {

// The masks' tensors, dense and alive while kernels are launched.
struct Negatives {
  Negatives(
      const char* op, const at::Tensor& query, const at::Tensor& keys, const std::optional<at::Tensor>& exclude_,
      const std::optional<at::Tensor>& n_valid, const std::optional<at::Tensor>& query_ids,
      const std::optional<at::Tensor>& key_ids) {
    masks.N = query.size(0), masks.K = keys.size(0);
    const auto take = [&](const std::optional<at::Tensor>& x, at::Tensor& kept, const char* what, int dim, int64_t n) {
      if (!x) return static_cast<const int64_t*>(nullptr);
      TORCH_CHECK(
          x->scalar_type() == at::kLong && x->dim() == dim && (dim == 0 || x->size(0) == n), op, ": ", what,
          " expected in int64, got ", x->scalar_type(), x->sizes());
      TORCH_CHECK(x->device() == keys.device(), op, ": ", what, " is on ", x->device(), ", keys on ", keys.device());
      kept = x->contiguous();
      return static_cast<const int64_t*>(kept.const_data_ptr());
    };
    TORCH_CHECK(query_ids.has_value() == key_ids.has_value(), op, ": query_ids and key_ids come together");
    masks.exclude = take(exclude_, exclude, "exclude [N, E]", 2, masks.N);
    masks.E = exclude_ ? exclude_->size(1) : 0;
    masks.n_valid = take(n_valid, count, "n_valid []", 0, 0);
    masks.query_ids = take(query_ids, mine, "query_ids [N]", 1, masks.N);
    masks.key_ids = take(key_ids, theirs, "key_ids [K]", 1, masks.K);
  }

  at::Tensor exclude, count, mine, theirs;
  Masks masks;
};

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> infonce(
    const at::Tensor& query, const at::Tensor& positive, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids, bool with_dquery) {
  TORCH_CHECK(
      query.dim() == 2 && positive.sizes() == query.sizes() && keys.dim() == 2 && keys.size(1) == query.size(1),
      "infonce: query [N, C], positive [N, C] and keys [K, C] expected, got ", query.sizes(), ", ", positive.sizes(),
      " and ", keys.sizes());
  TORCH_CHECK(
      query.device() == keys.device() && positive.device() == keys.device(),
      "infonce: query, positive and keys must be on one device");
  const Negatives negatives("infonce", query, keys, exclude, n_valid, query_ids, key_ids);
  return attend(query, positive, keys, tau, negatives.masks, with_dquery);
}

at::Tensor infonce_dkeys(
    const at::Tensor& g, const at::Tensor& lse, const at::Tensor& query, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids) {
  TORCH_CHECK(
      query.dim() == 2 && keys.dim() == 2 && keys.size(1) == query.size(1) && g.dim() == 1 &&
          g.size(0) == query.size(0) && lse.sizes() == g.sizes(),
      "infonce_dkeys: g [N], lse [N], query [N, C] and keys [K, C] expected, got ", g.sizes(), ", ", lse.sizes(), ", ",
      query.sizes(), " and ", keys.sizes());
  TORCH_CHECK(
      g.device() == keys.device() && lse.device() == keys.device() && query.device() == keys.device(),
      "infonce_dkeys: g, lse, query and keys must be on one device");
  Negatives negatives("infonce_dkeys", query, keys, exclude, n_valid, query_ids, key_ids);
  negatives.masks.rows_are_keys = true;
  return weigh(keys, query, g, lse, /*loss=*/lse, tau, negatives.masks);
}

}  // namespace contrastkit::cuda

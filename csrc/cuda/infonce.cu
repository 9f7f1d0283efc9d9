#include "../infonce.h"
#include "attend.cuh"

namespace contrastkit::cuda {
namespace {

// The tensors of the masks, dense and alive while kernels are launched.
struct Negatives {
  Negatives(
      const at::Tensor& query, const at::Tensor& keys, const std::optional<at::Tensor>& exclude_,
      const std::optional<at::Tensor>& n_valid, const std::optional<at::Tensor>& query_ids,
      const std::optional<at::Tensor>& key_ids) {
    masks.N = query.size(0), masks.K = keys.size(0);
    const auto take = [](const std::optional<at::Tensor>& x, at::Tensor& kept) {
      if (!x) return static_cast<const int64_t*>(nullptr);
      kept = x->contiguous();
      return data<const int64_t>(kept);
    };
    masks.exclude = take(exclude_, exclude);
    masks.E = exclude_ ? exclude_->size(1) : 0;
    masks.n_valid = take(n_valid, count);
    masks.query_ids = take(query_ids, mine);
    masks.key_ids = take(key_ids, theirs);
  }

  at::Tensor exclude, count, mine, theirs;
  Masks masks;
};

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> infonce(
    const at::Tensor& query, const at::Tensor& positive, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids, bool with_dquery) {
  check_infonce(query, positive, keys, tau, exclude, n_valid, query_ids, key_ids);
  const Negatives negatives(query, keys, exclude, n_valid, query_ids, key_ids);
  return attend(query, positive, keys, tau, negatives.masks, with_dquery);
}

at::Tensor infonce_dkeys(
    const at::Tensor& g, const at::Tensor& lse, const at::Tensor& query, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids) {
  check_infonce_dkeys(g, lse, query, keys, tau, exclude, n_valid, query_ids, key_ids);
  Negatives negatives(query, keys, exclude, n_valid, query_ids, key_ids);
  negatives.masks.rows_are_keys = true;
  return weigh(keys, query, {g, lse, /*loss=*/lse}, std::nullopt, tau, negatives.masks);
}

}  // namespace contrastkit::cuda

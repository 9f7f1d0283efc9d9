// Argument checks of the Sinkhorn-Knopp ops, for every device.
#pragma once

#include "common.h"

namespace contrastkit {

inline void check_scores(const char* op, const at::Tensor& scores) {
  TORCH_CHECK(
      scores.dim() == 2 && scores.is_floating_point(), op, ": floating scores [N, K] expected, got ",
      scores.scalar_type(), scores.sizes());
}

// One number per prototype, for each column of E and of its dtype; for scores, of the dtype of their codes.
inline void check_prototypes(
    const char* op, const char* name, const at::Tensor& E, at::ScalarType dtype, const at::Tensor& t) {
  TORCH_CHECK(
      t.dim() == 1 && t.size(0) == E.size(1) && t.scalar_type() == dtype && t.device() == E.device(), op, ": ", name,
      " must be ", dtype, " [", E.size(1), "] on ", E.device(), ", got ", t.scalar_type(), t.sizes());
}

inline at::ScalarType codes_dtype(const at::Tensor& scores) {
  return scores.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

inline void check_sinkhorn_begin(const at::Tensor& scores, const at::Tensor& tops) {
  check_scores("sinkhorn_begin", scores);
  check_prototypes("sinkhorn_begin", "tops", scores, codes_dtype(scores), tops);
}

// For sinkhorn_sums and sinkhorn_end_.
inline void check_codes(const char* op, const at::Tensor& E, const at::Tensor& t) {
  TORCH_CHECK(
      E.dim() == 2 && (E.scalar_type() == at::kFloat || E.scalar_type() == at::kDouble), op,
      ": float32 or float64 E [N, K] expected, got ", E.scalar_type(), E.sizes());
  check_prototypes(op, "t", E, E.scalar_type(), t);
}

}  // namespace contrastkit

// Argument checks of the Sinkhorn-Knopp ops, for every device.
#pragma once

#include "check.h"

namespace contrastkit {

inline void check_scores(const char* op, const at::Tensor& scores, double epsilon) {
  check_floating(op, "scores", scores, {"N", "K"}, scores.device());
  TORCH_CHECK_VALUE(epsilon > 0, op, ": epsilon must be above 0, got ", epsilon);
}

inline void check_sinkhorn(const at::Tensor& scores, double epsilon, int64_t iterations) {
  check_scores("sinkhorn", scores, epsilon);
  TORCH_CHECK_VALUE(iterations >= 1, "sinkhorn: iterations must be at least 1, got ", iterations);
}

inline at::ScalarType codes_dtype(const at::Tensor& scores) {
  return scores.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// tops: one number per prototype, in the dtype of the codes.
inline void check_sinkhorn_begin(const at::Tensor& scores, const at::Tensor& tops, double epsilon) {
  check_scores("sinkhorn_begin", scores, epsilon);
  check_dtype("sinkhorn_begin", "tops", tops, codes_dtype(scores), {scores.size(1)}, scores.device());
}

// For sinkhorn_sums and sinkhorn_end_.
inline void check_codes(const char* op, const at::Tensor& E, const at::Tensor& t) {
  check_wide(op, "E", E, {"N", "K"}, E.device());
  check_dtype(op, "t", t, E.scalar_type(), {E.size(1)}, E.device());
}

}  // namespace contrastkit

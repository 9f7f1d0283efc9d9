// Shared by ntxent and clip: the log-sum-exp over a row's negatives, and the loss.
#pragma once

#include <limits>

#include "tiles.h"

namespace contrastkit::cpu {

// m and z of each row as in simd::Sums, with room.
inline at::Tensor no_sums(const at::Tensor& like, int64_t rows) {
  const at::Tensor sums = like.new_zeros({2, rows + kTile});
  sums.select(0, 0).fill_(std::numeric_limits<float>::lowest());
  return sums;
}

inline simd::Sums of_tile(const at::Tensor& sums, int64_t row) {
  float* m = data<float>(sums) + row;
  return {m, m + sums.size(1)};
}

// float64, for tests: negatives(i, f) calls f(j, s) for every negative j of row i.
template <typename F>
at::Tensor sums_of(const at::Tensor& like, int64_t rows, F&& negatives) {
  const at::Tensor sums = like.new_empty({2, rows});
  double *m = data<double>(sums), *z = m + rows;
  at::parallel_for(0, rows, 1, [&](int64_t i, int64_t end) {
    for (; i < end; ++i) {
      m[i] = std::numeric_limits<double>::lowest(), z[i] = 0;
      negatives(i, [&](int64_t, double s) { m[i] = std::max(m[i], s); });
      negatives(i, [&](int64_t, double s) { z[i] += std::exp(s - m[i]); });
    }
  });
  return sums;
}

// Loss, log-sum-exp and top-1 of rows `left` [rows, C], whose positives are the rows positive(i) of `right`.
template <typename T, typename F>
void finish(
    const at::Tensor& left, const at::Tensor& right, const at::Tensor& sums, F&& positive, const at::Tensor& loss,
    const at::Tensor& lse, const at::Tensor& top1) {
  const int64_t C = left.size(1);
  const T *m = data<T>(sums), *z = m + sums.size(1);
  at::parallel_for(0, loss.size(0), 64, [&](int64_t i, int64_t end) {
    for (; i < end; ++i) {
      const T s = logit(data<T>(left) + i * C, data<T>(right) + positive(i) * C, C);
      const T value = softplus(m[i] + std::log(z[i]) - s);
      data<T>(loss)[i] = value;
      data<T>(lse)[i] = s + value;
      data<bool>(top1)[i] = s >= m[i] && z[i] == z[i];
    }
  });
}

}  // namespace contrastkit::cpu

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops.h"

namespace contrastkit::cpu {
namespace {

using simd::bf16;

constexpr double kTiny = 1e-30;  // contrastkit/ops/sinkhorn.py: TINY

// Rows of a task: a function of the shape alone, so that results do not depend on the number of threads.
int64_t rows_a_task(int64_t N) { return std::max<int64_t>((N + 31) / 32, 8); }

// float64, for checks.
double begin(const double* scores, double* E, int64_t n, int64_t K, double epsilon, double* t) {
  double reference = std::numeric_limits<double>::lowest();
  std::fill(t, t + K, 0.0);
  for (int64_t i = 0; i < n; ++i, scores += K, E += K) {
    const double top = *std::max_element(scores, scores + K);
    if (top > reference) {
      for (int64_t k = 0; k < K; ++k) t[k] *= std::exp((reference - top) / epsilon);
      reference = top;
    }
    const double w = std::exp((top - reference) / epsilon);
    for (int64_t k = 0; k < K; ++k) t[k] += w * (E[k] = std::exp((scores[k] - top) / epsilon));
  }
  return reference;
}

double dot(const double* x, const double* y, int64_t K) {
  double sum = 0;
  for (int64_t k = 0; k < K; ++k) sum += x[k] * y[k];
  return sum;
}

void sums(const double* E, int64_t n, int64_t K, double scale, const double* v, double* t) {
  std::fill(t, t + K, 0.0);
  for (int64_t i = 0; i < n; ++i, E += K) {
    const double c = scale / dot(E, v, K);
    for (int64_t k = 0; k < K; ++k) t[k] += c * E[k];
  }
}

void end(double* E, int64_t n, int64_t K, const double* v) {
  for (int64_t i = 0; i < n; ++i, E += K) {
    const double c = 1 / dot(E, v, K);
    for (int64_t k = 0; k < K; ++k) E[k] *= c * v[k];
  }
}

// Calls f(task, first row, rows) in parallel.
template <typename F>
void tasks(int64_t N, F&& f) {
  const int64_t step = rows_a_task(N);
  at::parallel_for(0, (N + step - 1) / step, 1, [&](int64_t task, int64_t end) {
    for (; task < end; ++task) f(task, task * step, std::min(step, N - task * step));
  });
}

// t [K] = the sum of the tasks' rows [tasks, K], in their order.
template <typename T>
at::Tensor added(const at::Tensor& parts) {
  const int64_t n = parts.size(0), K = parts.size(1);
  const at::Tensor t = parts.new_zeros({K});
  const T* from = data<const T>(parts);
  T* to = data<T>(t);
  at::parallel_for(0, K, 1024, [&](int64_t first, int64_t last) {
    for (int64_t i = 0; i < n; ++i)
      for (int64_t k = first; k < last; ++k) to[k] += from[i * K + k];
  });
  return t;
}

at::Tensor parts_like(const at::Tensor& E) {
  return E.new_empty({(E.size(0) + rows_a_task(E.size(0)) - 1) / rows_a_task(E.size(0)), E.size(1)});
}

at::Tensor reciprocal(const at::Tensor& t) { return t.clamp_min(kTiny).reciprocal_(); }

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor> sinkhorn_begin(const at::Tensor& scores, double epsilon) {
  const bool wide = is(scores, at::kDouble);
  const at::Tensor s =
      (wide || is(scores, at::kBFloat16) ? scores : scores.to(at::kFloat)).contiguous();
  const int64_t N = s.size(0), K = s.size(1);
  const at::Tensor E = s.new_empty({N, K}, wide ? at::kDouble : at::kFloat);
  if (E.numel() == 0) return {E, E.new_zeros({K}), E.new_full({}, -std::numeric_limits<double>::infinity())};
  const at::Tensor parts = parts_like(E), tops = E.new_empty({parts.size(0)});
  tasks(N, [&](int64_t task, int64_t row, int64_t n) {
    if (wide) {
      data<double>(tops)[task] = begin(
          data<const double>(s) + row * K, data<double>(E) + row * K, n, K, epsilon, data<double>(parts) + task * K);
    } else {
      float *to = data<float>(E) + row * K, *t = data<float>(parts) + task * K;
      const float scale = static_cast<float>(1 / epsilon);
      data<float>(tops)[task] = is(s, at::kBFloat16)
          ? kernels().sinkhorn_begin_b(data<const bf16>(s) + row * K, to, n, K, scale, t)
          : kernels().sinkhorn_begin_f(data<const float>(s) + row * K, to, n, K, scale, t);
    }
  });
  const at::Tensor top = tops.max();
  parts.mul_(tops.sub(top).div_(epsilon).exp_().unsqueeze(1));
  return {E, wide ? added<double>(parts) : added<float>(parts), top};
}

at::Tensor sinkhorn_sums(const at::Tensor& E, const at::Tensor& t, double scale) {
  const at::Tensor x = E.contiguous(), v = reciprocal(t), parts = parts_like(x);
  const int64_t K = x.size(1);
  const bool wide = is(x, at::kDouble);
  tasks(x.size(0), [&](int64_t task, int64_t row, int64_t n) {
    if (wide) sums(data<double>(x) + row * K, n, K, scale, data<double>(v), data<double>(parts) + task * K);
    else
      kernels().sinkhorn_sums(data<float>(x) + row * K, n, K, scale, data<float>(v), data<float>(parts) + task * K);
  });
  return wide ? added<double>(parts) : added<float>(parts);
}

void sinkhorn_end_(at::Tensor E, const at::Tensor& t) {
  const at::Tensor x = E.contiguous(), v = reciprocal(t);
  const int64_t K = x.size(1);
  tasks(x.size(0), [&](int64_t, int64_t row, int64_t n) {
    if (is(x, at::kDouble)) end(data<double>(x) + row * K, n, K, data<double>(v));
    else kernels().sinkhorn_end(data<float>(x) + row * K, n, K, data<float>(v));
  });
  if (!x.is_same(E)) E.copy_(x);
  written(E);
}

at::Tensor sinkhorn(const at::Tensor& scores, double epsilon, int64_t iterations) {
  auto [E, t, top] = sinkhorn_begin(scores, epsilon);
  const double scale = E.size(1) / std::max<double>(E.size(0), 1);  // keeps t of one size
  for (int64_t i = 1; i < iterations; ++i) t = sinkhorn_sums(E, t, scale);
  sinkhorn_end_(E, t);
  return E;
}

}  // namespace contrastkit::cpu

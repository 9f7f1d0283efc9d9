#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "../sinkhorn.h"
#include "host.h"

namespace contrastkit::cpu {
namespace {

using simd::bf16;

constexpr double kTiny = 1e-30;  // contrastkit/ops/sinkhorn.py: TINY

// Rows per task: a function of the shape alone, so that results do not depend on the number of threads.
int64_t rows_a_task(int64_t N) { return std::max<int64_t>((N + 31) / 32, 8); }

// float64, for tests.
void tops_of(const double* scores, int64_t n, int64_t K, double* tops) {
  std::fill(tops, tops + K, std::numeric_limits<double>::lowest());
  for (int64_t i = 0; i < n; ++i, scores += K)
    for (int64_t k = 0; k < K; ++k) tops[k] = std::max(tops[k], scores[k]);
}

void begin(const double* scores, const double* tops, double* E, int64_t n, int64_t K, double epsilon, double* t) {
  std::fill(t, t + K, 0.0);
  for (int64_t i = 0; i < n; ++i, scores += K, E += K) {
    double d = std::numeric_limits<double>::lowest();
    for (int64_t k = 0; k < K; ++k) d = std::max(d, E[k] = scores[k] - tops[k]);
    const double w = std::exp(d / epsilon);
    for (int64_t k = 0; k < K; ++k) t[k] += w * (E[k] = std::exp((E[k] - d) / epsilon));
  }
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

// [K] from the tasks' rows [tasks, K], combined in order.
template <typename T, typename F>
at::Tensor joined(const at::Tensor& parts, F join) {
  const int64_t n = parts.size(0), K = parts.size(1);
  const at::Tensor t = parts.new_empty({K});
  const T* from = data<const T>(parts);
  T* to = data<T>(t);
  at::parallel_for(0, K, 1024, [=](int64_t first, int64_t last) {
    std::copy(from + first, from + last, to + first);
    for (int64_t i = 1; i < n; ++i)
      for (int64_t k = first; k < last; ++k) to[k] = join(to[k], from[i * K + k]);
  });
  return t;
}

at::Tensor added(const at::Tensor& parts) {
  if (is(parts, at::kDouble)) return joined<double>(parts, std::plus<>());
  return joined<float>(parts, std::plus<>());
}

at::Tensor parts_like(const at::Tensor& E) {
  return E.new_empty({(E.size(0) + rows_a_task(E.size(0)) - 1) / rows_a_task(E.size(0)), E.size(1)});
}

at::Tensor reciprocal(const at::Tensor& t) { return t.clamp_min(kTiny).reciprocal_(); }

// In the layout that the kernels read.
at::Tensor read(const at::Tensor& scores) {
  const bool known = is(scores, at::kDouble) || is(scores, at::kBFloat16);
  return (known ? scores : scores.to(at::kFloat)).contiguous();
}

at::Tensor empty_codes(const at::Tensor& s) { return s.new_empty(s.sizes(), codes_dtype(s)); }

// s is not empty.
at::Tensor tops_of(const at::Tensor& s, const at::Tensor& parts) {
  const int64_t K = s.size(1);
  const bool wide = is(s, at::kDouble);
  tasks(s.size(0), [&](int64_t task, int64_t row, int64_t n) {
    if (wide) tops_of(data<const double>(s) + row * K, n, K, data<double>(parts) + task * K);
    else if (is(s, at::kBFloat16))
      kernels().sinkhorn_tops_b(data<const bf16>(s) + row * K, n, K, data<float>(parts) + task * K);
    else kernels().sinkhorn_tops_f(data<const float>(s) + row * K, n, K, data<float>(parts) + task * K);
  });
  if (wide) return joined<double>(parts, [](double a, double b) { return std::max(a, b); });
  return joined<float>(parts, [](float a, float b) { return std::max(a, b); });
}

// Writes E; returns t.
at::Tensor begin(const at::Tensor& s, const at::Tensor& tops, double epsilon, const at::Tensor& E, const at::Tensor& parts) {
  const int64_t K = s.size(1);
  const float scale = static_cast<float>(1 / epsilon);
  tasks(s.size(0), [&](int64_t task, int64_t row, int64_t n) {
    if (is(s, at::kDouble)) {
      begin(
          data<const double>(s) + row * K, data<const double>(tops), data<double>(E) + row * K, n, K, epsilon,
          data<double>(parts) + task * K);
    } else {
      const float* top = data<const float>(tops);
      float *to = data<float>(E) + row * K, *t = data<float>(parts) + task * K;
      if (is(s, at::kBFloat16)) kernels().sinkhorn_begin_b(data<const bf16>(s) + row * K, top, to, n, K, scale, t);
      else kernels().sinkhorn_begin_f(data<const float>(s) + row * K, top, to, n, K, scale, t);
    }
  });
  return added(parts);
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> sinkhorn_begin(const at::Tensor& scores, const at::Tensor& tops, double epsilon) {
  check_sinkhorn_begin(scores, tops, epsilon);
  const at::Tensor s = read(scores), E = empty_codes(s);
  if (E.numel() == 0) return {E, E.new_zeros({E.size(1)})};
  return {E, begin(s, tops.contiguous(), epsilon, E, parts_like(E))};
}

at::Tensor sinkhorn_sums(const at::Tensor& E, const at::Tensor& t, double scale) {
  check_codes("sinkhorn_sums", E, t);
  const at::Tensor x = E.contiguous(), v = reciprocal(t), parts = parts_like(x);
  const int64_t K = x.size(1);
  if (x.numel() == 0) return x.new_zeros({K});
  tasks(x.size(0), [&](int64_t task, int64_t row, int64_t n) {
    if (is(x, at::kDouble))
      sums(data<double>(x) + row * K, n, K, scale, data<double>(v), data<double>(parts) + task * K);
    else
      kernels().sinkhorn_sums(data<float>(x) + row * K, n, K, scale, data<float>(v), data<float>(parts) + task * K);
  });
  return added(parts);
}

void sinkhorn_end_(at::Tensor E, const at::Tensor& t) {
  check_codes("sinkhorn_end_", E, t);
  const at::Tensor x = E.contiguous(), v = reciprocal(t);
  const int64_t K = x.size(1);
  tasks(x.size(0), [&](int64_t, int64_t row, int64_t n) {
    if (is(x, at::kDouble)) end(data<double>(x) + row * K, n, K, data<double>(v));
    else kernels().sinkhorn_end(data<float>(x) + row * K, n, K, data<float>(v));
  });
  write_back(E, x);
}

at::Tensor sinkhorn(const at::Tensor& scores, double epsilon, int64_t iterations) {
  check_sinkhorn(scores, epsilon, iterations);
  const at::Tensor s = read(scores), E = empty_codes(s);
  if (E.numel() == 0) return E;
  const at::Tensor parts = parts_like(E);
  at::Tensor t = begin(s, tops_of(s, parts), epsilon, E, parts);
  const double scale = static_cast<double>(E.size(1)) / E.size(0);  // keeps the scale of t
  for (int64_t i = 1; i < iterations; ++i) t = sinkhorn_sums(E, t, scale);
  sinkhorn_end_(E, t);
  return E;
}

}  // namespace contrastkit::cpu

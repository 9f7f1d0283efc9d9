#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops.h"

namespace contrastkit::cpu {
namespace {

using simd::bf16;
using simd::Masks;

constexpr int64_t kRows = 256;  // of a task: they, their logits of one tile and their sums fit a core's own cache

// Keys of a task: a function of the shape alone, so that results do not depend on the number of threads.
int64_t keys_a_task(int64_t K) {
  const int64_t tiles = (K + simd::kTile - 1) / simd::kTile;
  return std::max<int64_t>((tiles + 15) / 16, 4) * simd::kTile;
}

// float64, for checks: a row at a time.
void attend(
    const double* q, const double* keys, int64_t first, int64_t last, int64_t C, const Masks& masks, int64_t row,
    double* s, double& top, double& m, double& z, double* O) {
  for (int64_t j = first; j < last; ++j) {
    double x = 0;
    for (int64_t c = 0; c < C; ++c) x += q[c] * keys[j * C + c];
    if (masks.key_ids && masks.key_ids[j] == masks.query_ids[row]) x = -std::numeric_limits<double>::infinity();
    s[j - first] = x;
  }
  for (int64_t e = 0; e < masks.E; ++e) {
    const int64_t j = masks.exclude[row * masks.E + e];
    if (j >= first && j < last) s[j - first] = -std::numeric_limits<double>::infinity();
  }
  top = -std::numeric_limits<double>::infinity();
  for (int64_t j = 0; j < last - first; ++j) top = s[j] > top ? s[j] : top;
  m = std::max(top, std::numeric_limits<double>::lowest());
  z = 0;
  if (O) std::fill(O, O + C, 0.0);
  for (int64_t j = 0; j < last - first; ++j) {
    const double e = std::exp(s[j] - m);
    z += e;
    for (int64_t c = 0; O && c < C; ++c) O[c] += e * keys[(first + j) * C + c];
  }
}

double scalar(const at::Tensor& x) {
  double value = 0;
  dispatch(x.scalar_type(), [&](auto zero) { value = *static_cast<const decltype(zero)*>(x.const_data_ptr()); });
  return value;
}

template <typename T>
T* data(const at::Tensor& x) {
  return static_cast<T*>(x.mutable_data_ptr());
}

// T: of the arithmetic. X: of the keys.
template <typename T, typename X>
void run(
    const at::Tensor& q, const at::Tensor& positive, const at::Tensor& keys, double tau, int64_t K, const Masks& masks,
    const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& top1, const at::Tensor& dquery) {
  const int64_t N = q.size(0), C = q.size(1);
  constexpr bool fast = std::is_same_v<T, float>;
  const int64_t Cp = fast ? simd::padded(C) : C;
  const bool with_dquery = dquery.numel() > 0;
  const int64_t span = keys_a_task(K), chunks = std::max<int64_t>((K + span - 1) / span, 1);
  const int64_t blocks = (N + kRows - 1) / kRows;
  // Of each chunk of keys: top, m and z of every row, then O. Few chunks: the sums are added in their order.
  const at::Tensor parts = loss.new_empty({chunks, N * (3 + (with_dquery ? Cp : 0))});
  const at::Tensor scratch =
      loss.new_empty({at::get_num_threads(), fast ? simd::infonce_scratch(std::min(N, kRows), C) : span});
  const T* Q = data<T>(q);
  const X* from = data<X>(keys);

  at::parallel_for(0, blocks * chunks, 1, [&](int64_t task, int64_t end) {
    T* work = data<T>(scratch) + at::get_thread_num() * scratch.size(1);
    for (; task < end; ++task) {
      const int64_t chunk = task / blocks, row = task % blocks * kRows, n = std::min(kRows, N - row);
      const int64_t first = chunk * span, last = std::min(K, first + span);
      T* part = data<T>(parts) + chunk * parts.size(1);
      T *top = part + row, *m = top + N, *z = m + N, *O = with_dquery ? part + 3 * N + row * Cp : nullptr;
      Masks some = masks;
      if (some.exclude) some.exclude += row * some.E;
      if (some.query_ids) some.query_ids += row;
      if constexpr (fast) {
        const auto attend = [&] {
          if constexpr (std::is_same_v<X, bf16>) return kernels().infonce_b;
          else return kernels().infonce_f;
        }();
        attend(Q + row * C, from, n, first, last, C, some, work, top, m, z, O);
      } else {
        for (int64_t i = 0; i < n; ++i)
          attend(Q + (row + i) * C, from, first, last, C, some, i, work, top[i], m[i], z[i], O ? O + i * Cp : nullptr);
      }
    }
  });

  const T *all = data<T>(parts), *p = data<T>(positive);
  at::parallel_for(0, N, 64, [&](int64_t i, int64_t end) {
    for (; i < end; ++i) {
      const auto part = [&](int64_t chunk, int64_t what) { return all + chunk * parts.size(1) + what * N; };
      T top = -std::numeric_limits<T>::infinity(), m = std::numeric_limits<T>::lowest(), z = 0, s_positive = 0;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        top = std::max(top, part(chunk, 0)[i]);
        m = std::max(m, part(chunk, 1)[i]);
      }
      T* dq = with_dquery ? data<T>(dquery) + i * C : nullptr;
      if (dq) std::fill(dq, dq + C, T(0));
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        const T weight = std::exp(part(chunk, 1)[i] - m);
        z += weight * part(chunk, 2)[i];
        const T* O = part(chunk, 3) + i * Cp;
        for (int64_t c = 0; dq && c < C; ++c) dq[c] += weight * O[c];
      }
      for (int64_t c = 0; c < C; ++c) s_positive += Q[i * C + c] * p[i * C + c];
      const T x = m + std::log(z) - s_positive;  // minus infinity where there is no negative
      const T softplus = std::max(x, T(0)) + std::log1p(std::exp(-std::abs(x)));
      const T value = x != x ? x : softplus;
      data<T>(loss)[i] = value;
      data<T>(lse)[i] = s_positive + value;
      data<bool>(top1)[i] = s_positive >= top && z == z;
      const T w = 1 / (1 + std::exp(-x)) / T(tau), tiny = std::numeric_limits<T>::min();
      for (int64_t c = 0; dq && c < C; ++c) dq[c] = (dq[c] / (z < tiny ? tiny : z) - p[i * C + c]) * w;
    }
  });
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> infonce(
    const at::Tensor& query, const at::Tensor& positive, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids, bool with_dquery) {
  TORCH_CHECK(
      query.dim() == 2 && positive.sizes() == query.sizes() && keys.dim() == 2 && keys.size(1) == query.size(1),
      "infonce: query [N, C], positive [N, C] and keys [K, C] expected, got ", query.sizes(), ", ", positive.sizes(),
      " and ", keys.sizes());
  const int64_t N = query.size(0);
  const auto is = [](const at::Tensor& x, at::ScalarType dtype) { return x.scalar_type() == dtype; };
  const bool wide = is(query, at::kDouble) || is(positive, at::kDouble) || is(keys, at::kDouble);
  const at::ScalarType dtype = wide ? at::kDouble : at::kFloat;
  const double tau_ = scalar(tau);
  const at::Tensor q = query.to(dtype).div(tau_).contiguous(), p = positive.to(dtype).contiguous();
  const at::Tensor k = (wide || !is(keys, at::kBFloat16) ? keys.to(dtype) : keys).contiguous();
  int64_t K = keys.size(0);
  if (n_valid) K = std::clamp<int64_t>(*static_cast<const int64_t*>(n_valid->const_data_ptr()), 0, K);
  at::Tensor columns, mine, theirs;
  Masks masks{nullptr, 0, nullptr, nullptr};
  if (exclude) {
    columns = exclude->contiguous();
    masks.exclude = static_cast<const int64_t*>(columns.const_data_ptr());
    masks.E = columns.size(1);
  }
  if (query_ids) {
    mine = query_ids->contiguous(), theirs = key_ids->contiguous();
    masks.query_ids = static_cast<const int64_t*>(mine.const_data_ptr());
    masks.key_ids = static_cast<const int64_t*>(theirs.const_data_ptr());
  }
  const at::Tensor loss = q.new_empty({N}), lse = q.new_empty({N}), top1 = q.new_empty({N}, at::kBool);
  const at::Tensor dquery = q.new_empty(with_dquery ? q.sizes() : at::IntArrayRef{0});
  if (wide) run<double, double>(q, p, k, tau_, K, masks, loss, lse, top1, dquery);
  else if (is(k, at::kBFloat16)) run<float, bf16>(q, p, k, tau_, K, masks, loss, lse, top1, dquery);
  else run<float, float>(q, p, k, tau_, K, masks, loss, lse, top1, dquery);
  return {loss, lse, top1, dquery};
}

}  // namespace contrastkit::cpu

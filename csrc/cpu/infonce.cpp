#include <algorithm>
#include <cmath>
#include <limits>

#include "../infonce.h"
#include "tiles.h"

namespace contrastkit::cpu {
namespace {

using simd::bf16;
using simd::Masks;

constexpr int64_t kRows = 256;  // per task: with the logits of a tile and the sums they fit in a core's own cache

// The tensors behind the pointers of Masks.
struct Mask {
  at::Tensor exclude, query_ids, key_ids;
  Masks masks{nullptr, 0, nullptr, nullptr};

  Mask(const std::optional<at::Tensor>& exclude_, const std::optional<at::Tensor>& query_ids_,
       const std::optional<at::Tensor>& key_ids_) {
    if (exclude_) {
      exclude = exclude_->contiguous();
      masks.exclude = data<const int64_t>(exclude);
      masks.E = exclude.size(1);
    }
    if (query_ids_) {
      query_ids = query_ids_->contiguous(), key_ids = key_ids_->contiguous();
      masks.query_ids = data<const int64_t>(query_ids);
      masks.key_ids = data<const int64_t>(key_ids);
    }
  }
};

Masks from_row(Masks masks, int64_t row) {
  if (masks.exclude) masks.exclude += row * masks.E;
  if (masks.query_ids) masks.query_ids += row;
  return masks;
}

int64_t filled(const at::Tensor& keys, const std::optional<at::Tensor>& n_valid) {
  return n_valid ? std::clamp<int64_t>(*data<const int64_t>(*n_valid), 0, keys.size(0)) : keys.size(0);
}

// Keys per task: a function of the shape alone, so that results do not depend on the number of threads. The more blocks
// of rows there are, the fewer parts the keys are split into, because the sums of each part take memory.
int64_t keys_a_task(int64_t K, int64_t blocks) {
  const int64_t tiles = (K + simd::kTile - 1) / simd::kTile;
  const int64_t parts = std::clamp<int64_t>(64 / std::max<int64_t>(blocks, 1), 1, 16);
  return std::max<int64_t>((tiles + parts - 1) / parts, 4) * simd::kTile;
}

// float64, for tests: one row at a time.
void logits(
    const double* q, const double* keys, int64_t first, int64_t last, int64_t C, const Masks& masks, int64_t row,
    double* s) {
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
}

void attend(
    const double* q, const double* keys, int64_t first, int64_t last, int64_t C, const Masks& masks, int64_t row,
    double* s, double& top, double& m, double& z, double* O) {
  logits(q, keys, first, last, C, masks, row, s);
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

// T: of the arithmetic. X: of the keys.
template <typename T, typename X>
void run(
    const at::Tensor& q, const at::Tensor& positive, const at::Tensor& keys, double tau, int64_t K, const Masks& masks,
    const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& top1, const at::Tensor& dquery) {
  const int64_t N = q.size(0), C = q.size(1);
  constexpr bool fast = std::is_same_v<T, float>;
  const int64_t Cp = fast ? simd::padded(C) : C;
  const bool with_dquery = dquery.numel() > 0;
  const int64_t blocks = (N + kRows - 1) / kRows;
  const int64_t span = keys_a_task(K, blocks), chunks = std::max<int64_t>((K + span - 1) / span, 1);
  // For each chunk of keys: top, m and z of every row, then O. The sums of the few chunks are added in order.
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
      const Masks some = from_row(masks, row);
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
      T top = -std::numeric_limits<T>::infinity(), m = std::numeric_limits<T>::lowest(), z = 0;
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
      const T s_positive = logit(Q + i * C, p + i * C, C);
      const T x = m + std::log(z) - s_positive;  // minus infinity without negatives
      const T value = softplus(x);
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
  check_infonce(query, positive, keys, tau, exclude, n_valid, query_ids, key_ids);
  const int64_t N = query.size(0);
  const bool wide = is(query, at::kDouble) || is(positive, at::kDouble) || is(keys, at::kDouble);
  const at::ScalarType dtype = wide ? at::kDouble : at::kFloat;
  const double tau_ = number(tau);
  const at::Tensor q = query.to(dtype).div(tau_).contiguous(), p = positive.to(dtype).contiguous();
  const at::Tensor k = (wide || !is(keys, at::kBFloat16) ? keys.to(dtype) : keys).contiguous();
  const int64_t K = filled(keys, n_valid);
  const Mask mask(exclude, query_ids, key_ids);
  const at::Tensor loss = q.new_empty({N}), lse = q.new_empty({N}), top1 = q.new_empty({N}, at::kBool);
  const at::Tensor dquery = q.new_empty(with_dquery ? q.sizes() : at::IntArrayRef{0});
  if (wide) run<double, double>(q, p, k, tau_, K, mask.masks, loss, lse, top1, dquery);
  else if (is(k, at::kBFloat16)) run<float, bf16>(q, p, k, tau_, K, mask.masks, loss, lse, top1, dquery);
  else run<float, float>(q, p, k, tau_, K, mask.masks, loss, lse, top1, dquery);
  return {loss, lse, top1, dquery};
}

at::Tensor infonce_dkeys(
    const at::Tensor& g, const at::Tensor& lse, const at::Tensor& query, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids) {
  check_infonce_dkeys(g, lse, query, keys, tau, exclude, n_valid, query_ids, key_ids);
  const int64_t N = query.size(0), C = query.size(1);
  const at::ScalarType dtype = lse.scalar_type();
  const at::Tensor q = query.to(dtype).div(number(tau)).contiguous();
  const at::Tensor k = (dtype == at::kFloat && is(keys, at::kBFloat16) ? keys : keys.to(dtype)).contiguous();
  const at::Tensor weight = g.to(dtype).contiguous(), sums = lse.contiguous();
  const Mask mask(exclude, query_ids, key_ids);
  const int64_t K = filled(keys, n_valid);
  const at::Tensor dkeys = q.new_zeros(keys.sizes());
  if (dtype == at::kDouble) {
    at::parallel_for(0, K, 1, [&](int64_t j, int64_t end) {
      for (; j < end; ++j) {
        double* dk = data<double>(dkeys) + j * C;
        for (int64_t i = 0; i < N; ++i) {
          const double* row = data<double>(q) + i * C;
          double s;
          logits(row, data<double>(k), j, j + 1, C, mask.masks, i, &s);
          const double gP = data<double>(weight)[i] * std::exp(s - data<double>(sums)[i]);
          for (int64_t c = 0; c < C; ++c) dk[c] += gP * row[c];
        }
      }
    });
    return dkeys;
  }

  const int64_t Cp = simd::padded(C);
  const Tiles queries(q, q);
  const at::Tensor scratch = q.new_empty({at::get_num_threads(), simd::kTile * (simd::kTile + 3 * Cp)});
  at::parallel_for(0, (K + simd::kTile - 1) / simd::kTile, 1, [&](int64_t tile, int64_t end) {
    float *S = data<float>(scratch) + at::get_thread_num() * scratch.size(1), *dk = S + simd::kTile * simd::kTile;
    float *packed_values = dk + simd::kTile * Cp, *packed_keys = packed_values + simd::kTile * Cp;
    for (; tile < end; ++tile) {
      const int64_t first = tile * simd::kTile, n = std::min(simd::kTile, K - first);
      if (is(k, at::kBFloat16)) kernels().pack_b(data<const bf16>(k) + first * C, n, C, packed_values, packed_keys);
      else kernels().pack_f(data<const float>(k) + first * C, n, C, packed_values, packed_keys);
      std::fill(dk, dk + simd::kTile * Cp, 0.0f);
      for (int64_t t = 0; t < queries.size(); ++t) {
        const simd::Tile of_q = queries[t];
        kernels().infonce_dkeys(
            of_q, {first, n, nullptr, nullptr, packed_keys}, C, from_row(mask.masks, of_q.first),
            data<float>(weight) + of_q.first, data<float>(sums) + of_q.first, S, dk);
      }
      for (int64_t j = 0; j < n; ++j) std::copy_n(dk + j * Cp, C, data<float>(dkeys) + (first + j) * C);
    }
  });
  return dkeys;
}

}  // namespace contrastkit::cpu

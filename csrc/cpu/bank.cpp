#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "../bank.h"
#include "host.h"

namespace contrastkit::cpu {
namespace {

using simd::bf16;

// Like simd/bank.h, for float64 and for banks in float16. T: of the arithmetic.
template <typename T, typename B>
void noise(
    const T* q, const B* bank, const int64_t* index, int64_t draws, int64_t slots, int64_t C, const T* offset, T*, T* m,
    T* z, T* nce, T* dq) {
  for (int64_t v = 0; v < slots; ++v) m[v] = std::numeric_limits<T>::lowest(), z[v] = 0, nce[v] = 0;
  if (dq) std::fill(dq, dq + slots * C, T(0));
  for (int64_t k = 0; k < draws; ++k) {
    for (int64_t v = 0; v < slots; ++v) {
      const B* row = bank + (index[k] * slots + v) * C;
      T s = 0;
      for (int64_t c = 0; c < C; ++c) s += q[v * C + c] * T(row[c]);
      const T before = m[v];
      m[v] = std::max(before, s);
      const T rescale = std::exp(before - m[v]), e = std::exp(s - m[v]);
      z[v] = z[v] * rescale + e;
      T g = e;
      if (offset) {
        const T x = s - offset[v];
        nce[v] += softplus(x);
        g = 1 / (1 + std::exp(-x));
      }
      for (int64_t c = 0; dq && c < C; ++c)
        dq[v * C + c] = (offset ? dq[v * C + c] : dq[v * C + c] * rescale) + g * T(row[c]);
    }
  }
}

template <typename T, typename B>
void run(
    const at::Tensor& q, const at::Tensor& bank, const at::Tensor& index, double tau, const at::Tensor& offset,
    const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& top1, const at::Tensor& dquery) {
  const int64_t slots = q.size(1), C = q.size(2), draws = index.size(1);
  const bool with_dquery = dquery.numel() > 0;
  const B* rows = data<const B>(bank);
  const T* offsets = offset.defined() ? data<T>(offset) : nullptr;
  at::parallel_for(0, q.size(0), 1, [&](int64_t i, int64_t end) {
    std::vector<T> sums(37 * slots);
    T *m = sums.data(), *z = m + slots, *nce = z + slots, *s_positive = nce + slots, *one = s_positive + slots;
    T* work = one + slots;
    for (; i < end; ++i) {
      const T* query = data<T>(q) + i * slots * C;
      const int64_t* drawn = data<const int64_t>(index) + i * draws;
      T* dq = with_dquery ? data<T>(dquery) + i * slots * C : nullptr;
      const auto look = [&](const int64_t* at, int64_t n, const T* offsets, T* m, T* z, T* dq) {
        if constexpr (std::is_same_v<T, float> && std::is_same_v<B, float>)
          kernels().bank_noise_f(query, rows, at, n, slots, C, offsets, work, m, z, nce, dq);
        else if constexpr (std::is_same_v<T, float> && std::is_same_v<B, at::BFloat16>)
          kernels().bank_noise_b(
              query, reinterpret_cast<const bf16*>(rows), at, n, slots, C, offsets, work, m, z, nce, dq);
        else noise<T, B>(query, rows, at, n, slots, C, offsets, work, m, z, nce, dq);
      };
      // The positive's logit by the code of the noise, so that equal rows tie.
      look(drawn, 1, nullptr, s_positive, one, nullptr);
      look(drawn + 1, draws - 1, offsets, m, z, dq);

      for (int64_t v = 0; v < slots; ++v) {
        const B* positive = rows + (drawn[0] * slots + v) * C;
        const T s = one[v] == one[v] ? s_positive[v] : one[v];  // keeps NaN
        const T x = m[v] + std::log(z[v]) - s, softmax = softplus(x);
        const int64_t at = i * slots + v;
        data<T>(loss)[at] = offsets ? softplus(offsets[v] - s) + nce[v] : softmax;
        data<T>(lse)[at] = s + softmax;
        data<bool>(top1)[at] = s >= m[v] && z[v] == z[v];
        if (!dq) continue;
        // for the logit of the positive, and for all others
        const T w = offsets ? 1 / (1 + std::exp(s - offsets[v])) : 1 / (1 + std::exp(-x));
        const T tiny = std::numeric_limits<T>::min(), scale = offsets ? T(1) : w / (z[v] < tiny ? tiny : z[v]);
        for (int64_t c = 0; c < C; ++c)
          dq[v * C + c] = (scale * dq[v * C + c] - w * T(positive[c])) / static_cast<T>(tau);
      }
    }
  });
}

constexpr int64_t kAhead = 8;  // rows prefetched ahead of the current one

void check_index(const char* op, const at::Tensor& index, int64_t M) {
  const int64_t* at = data<const int64_t>(index);
  const auto outside = std::find_if(at, at + index.numel(), [M](int64_t i) { return i < 0 || i >= M; });
  TORCH_CHECK_INDEX(outside == at + index.numel(), op, ": index ", *outside, " is outside the bank of ", M, " rows");
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> bank_loss(
    const at::Tensor& query, const at::Tensor& bank, const at::Tensor& index, const at::Tensor& tau,
    const std::optional<at::Tensor>& Z, bool with_dquery) {
  check_bank_loss(query, bank, index, tau, Z);
  const bool wide = is(query, at::kDouble) || is(bank, at::kDouble);
  const at::ScalarType dtype = wide ? at::kDouble : at::kFloat;
  const double tau_ = number(tau);
  const at::Tensor q = query.to(dtype).div(tau_).contiguous(), rows = bank.contiguous(), drawn = index.contiguous();
  check_index("bank_loss", drawn, bank.size(0));
  at::Tensor offset;
  if (Z) offset = Z->to(dtype).log().add(std::log((index.size(1) - 1.0) / bank.size(0)));
  const at::IntArrayRef shape = q.sizes().slice(0, 2);
  const at::Tensor loss = q.new_empty(shape), lse = q.new_empty(shape), top1 = q.new_empty(shape, at::kBool);
  const at::Tensor dquery = q.new_empty(with_dquery ? q.sizes() : at::IntArrayRef{0});
  dispatch(rows.scalar_type(), [&](auto zero) {
    using B = decltype(zero);
    if (wide) run<double, B>(q, rows, drawn, tau_, offset, loss, lse, top1, dquery);
    else if constexpr (!std::is_same_v<B, double>)
      run<float, B>(q, rows, drawn, tau_, offset, loss, lse, top1, dquery);
  });
  return {loss, lse, top1, dquery};
}

void bank_update_(at::Tensor bank, const at::Tensor& index, const at::Tensor& x, double m) {
  check_bank_update(bank, index, x, m);
  const at::Tensor dense = bank.contiguous(), at = index.contiguous(), from = x.contiguous();
  check_index("bank_update_", at, bank.size(0));
  const int64_t N = from.size(0), C = from.size(-1), slots = from.dim() == 3 ? from.size(1) : 1, width = slots * C;
  const int64_t* to = data<const int64_t>(at);
  dispatch(dense.scalar_type(), [&](auto bank_zero) {
    dispatch(from.scalar_type(), [&](auto x_zero) {
      using B = decltype(bank_zero);
      using X = decltype(x_zero);
      using T = std::conditional_t<std::is_same_v<B, double> || std::is_same_v<X, double>, double, float>;
      B* rows = data<B>(dense);
      // All are computed before the first is written: if an index occurs twice, both start from the old row.
      const at::Tensor fresh_rows = dense.new_empty({N * width});
      B* fresh = data<B>(fresh_rows);
      at::parallel_for(0, N, std::max<int64_t>(8192 / std::max<int64_t>(width, 1), 1), [&](int64_t i, int64_t end) {
        std::vector<T> work(C);
        for (; i < end; ++i) {
          // Rows are far apart: without a prefetch each would wait for memory.
          if (i + kAhead < end)
            for (int64_t c = 0; c < width; c += 64 / static_cast<int64_t>(sizeof(B)))
              __builtin_prefetch(rows + to[i + kAhead] * width + c, 1);
          for (int64_t v = 0; v < slots; ++v) {
            const B* old = rows + (to[i] * slots + v) * C;
            const X* row = data<const X>(from) + i * width + v * C;
            B* out = fresh + i * width + v * C;
            const auto simd_ = [&](auto kernel) {
              using b = std::conditional_t<std::is_same_v<B, at::BFloat16>, bf16, B>;
              using f = std::conditional_t<std::is_same_v<X, at::BFloat16>, bf16, X>;
              kernel(
                  reinterpret_cast<const b*>(old), reinterpret_cast<const f*>(row), C, m, work.data(),
                  reinterpret_cast<b*>(out));
            };
            constexpr bool b32 = std::is_same_v<B, float>, b16 = std::is_same_v<B, at::BFloat16>;
            constexpr bool x32 = std::is_same_v<X, float>, x16 = std::is_same_v<X, at::BFloat16>;
            if constexpr (b32 && x32) simd_(kernels().bank_row_ff);
            else if constexpr (b32 && x16) simd_(kernels().bank_row_fb);
            else if constexpr (b16 && x32) simd_(kernels().bank_row_bf);
            else if constexpr (b16 && x16) simd_(kernels().bank_row_bb);
            else {
              T squares = 0;
              for (int64_t c = 0; c < C; ++c) {
                const T a = old[c], p = row[c];
                work[c] = m > 0.5 ? a + static_cast<T>(1 - m) * (p - a) : p - static_cast<T>(m) * (p - a);
                squares += work[c] * work[c];
              }
              T norm = std::sqrt(squares);
              norm = norm < T(1e-12) ? T(1e-12) : norm;
              for (int64_t c = 0; c < C; ++c) out[c] = static_cast<B>(work[c] / norm);
            }
          }
        }
      });
      for (int64_t i = 0; i < N; ++i) std::copy_n(fresh + i * width, width, rows + to[i] * width);
    });
  });
  write_back(bank, dense);
}

}  // namespace contrastkit::cpu

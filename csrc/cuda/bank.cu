// V slots, M rows of the bank, m draws of noise; N, C as everywhere.
#include <algorithm>
#include <cmath>
#include <limits>

#include "../bank.h"
#include "launch.h"
#include "warp.cuh"

namespace contrastkit::cuda {
namespace {

constexpr int kWarps = 4;               // of a block, except where one warp lets nvcc assume converged lanes
constexpr int kSpan = kWarp * kVector;  // channels that a warp reads at once
constexpr int kMaxSpans = 8;            // of a row that stays in registers

// T: of the arithmetic. X: of the bank. A warp processes a share of a query's draws, and writes to `parts` 3 + C
// numbers per share: top, z and loss of Sums, then the weighted sum of the rows.
template <typename T, typename X>
struct Problem {
  const T* query;
  const X* bank;
  const int64_t* index;
  Scalar<T> tau;
  const T* Z;   // nullptr: softmax
  T log_ratio;  // log(m / M)
  int64_t C, M, m;
  int64_t share;  // draws of a warp
  int rows, V;    // rows: N V
  int shares;     // warps of a row
  bool with_dquery;
  T* parts;

  __device__ int64_t drawn(int i, int64_t k) const {
    const int64_t y = index[i * (1 + m) + k];
    CUDA_KERNEL_ASSERT(y >= 0 && y < M && "an index outside the bank");
    return y;
  }
  __device__ T offset(int v) const { return Z != nullptr ? log(Z[v]) + log_ratio : T(0); }
};

template <typename T>
__device__ T held(T top) {  // clamped to finite numbers, which excludes exp(-inf + inf) and exp(inf - inf)
  const T most = std::numeric_limits<T>::max();
  return fmin(fmax(top, -most), most);
}

template <typename T>
__device__ T softplus(T x) {
  return fmax(x, T(0)) + log1p(exp(-fabs(x)));
}

template <typename T>
__device__ T sigmoid(T x) {
  const T e = exp(-fabs(x));
  return (x < 0 ? e : T(1)) / (1 + e);
}

// Sums over the noise: z = sum of exp(s - held(top)), and NCE's loss.
template <typename T>
struct Sums {
  T top = -std::numeric_limits<T>::infinity(), z = 0, loss = 0;

  // Adds one logit per lane, `most` being the warp's largest. Returns the weight of the lane's row in the gradient;
  // the earlier weights of softmax are to be scaled by the factor stored in `shrink`.
  __device__ T take(T s, T most, bool nce, T c, T& shrink) {
    const T before = held(top);
    top = fmax(top, most);
    shrink = exp(before - held(top));
    const T e = exp(s - held(top));
    z = z * shrink + e;
    if (!nce) return e;
    shrink = 1;
    loss += softplus(s - c);
    return sigmoid(s - c);
  }
};

template <typename T>
__device__ T most_of_lanes(T x, int least = 1) {
  for (int d = kWarp / 2; d >= least; d /= 2) x = fmax(x, __shfl_xor_sync(kAll, x, d));
  return x;
}

// The logit, summed in the order of `noise`, so that a draw of the positive ties with it.
template <typename T, typename X>
__device__ T logit(const T* q, T tau, const X* r, int64_t C, int lane) {
  T s = 0;
  for (int64_t first = lane * kVector; first < C; first += kSpan)
    for (int64_t c = first; c < first + kVector && c < C; ++c) s = fma(q[c] / tau, T(r[c]), s);
  return sum_of_lanes(s);
}

// Rows of at most kSpans spans and a multiple of kVector channels: read once, several at a time, into registers.
template <typename X, int kSpans>
__global__ void __launch_bounds__(kWarp, kSpans == 1 ? 24 : 12) noise(const Problem<float, X> p) {
  constexpr int kRows = kMaxSpans / kSpans, kCopies = kWarp / kRows;  // lanes that hold one row's logit
  const int lane = threadIdx.x, row = blockIdx.x / p.shares, i = row / p.V, v = row % p.V;
  const int64_t first = 1 + blockIdx.x % p.shares * p.share;
  const uint32_t stride = static_cast<uint32_t>(p.V * p.C * sizeof(X));
  const int n = static_cast<int>(min(p.share, 1 + p.m - first));
  const bool nce = p.Z != nullptr;
  const float c = p.offset(v), tau = p.tau.get();

  const auto channel = [&](int span) { return span * kSpan + lane * kVector; };
  float q[kSpans][kVector], sum[kSpans][kVector] = {};
  const char* first_row[kSpans];  // of this lane's channels; of channel 0 if it has none
  for (int span = 0; span < kSpans; ++span) {
    const bool has = channel(span) < p.C;
    for (int e = 0; e < kVector; ++e) q[span][e] = has ? p.query[row * p.C + channel(span) + e] : 0;
    first_row[span] = reinterpret_cast<const char*>(p.bank + v * p.C + (has ? channel(span) : 0));
  }
  for (int span = 0; span < kSpans; ++span)  // a separate loop, so that no load waits for a division
    for (int e = 0; e < kVector; ++e) q[span][e] /= tau;

  // Without a branch, after which the compiler would no longer assume converged lanes: an index outside the bank is
  // recorded, and the last draw is repeated after the end.
  bool outside = false;
  const auto drawn = [&](int k) -> uint32_t {
    const int64_t y = p.index[i * (1 + p.m) + first + min(k, n - 1)];
    const bool inside = y >= 0 && y < p.M;
    outside |= !inside;
    return inside ? y : 0;
  };
  Sums<float> sums;
  uint32_t next = drawn(lane);
  for (int from = 0; from < n; from += kWarp) {
    const uint32_t mine = next;  // each lane has one of the next 32 rows, and reads one of the 32 after them
    next = drawn(from + kWarp + lane);
#pragma unroll 1
    for (int k = 0; k < kWarp && from + k < n; k += kRows) {
      Vector<X> r[kRows][kSpans];
#pragma unroll
      for (int j = 0; j < kRows; ++j) {
        const uint64_t at = uint64_t{__shfl_sync(kAll, mine, k + j)} * stride;
#pragma unroll
        for (int span = 0; span < kSpans; ++span)
          r[j][span] = *reinterpret_cast<const Vector<X>*>(first_row[span] + at);
      }
      // Loads are unconditional, so that all are in flight at once; invalid values are zeroed afterwards.
      if (from + k + kRows > n || p.C < kSpans * kSpan)
#pragma unroll
        for (int j = 0; j < kRows; ++j)
#pragma unroll
          for (int span = 0; span < kSpans; ++span)
            if (from + k + j >= n || channel(span) >= p.C) r[j][span] = Vector<X>{};
      float s[kRows];
#pragma unroll
      for (int j = 0; j < kRows; ++j) {
        s[j] = 0;
#pragma unroll
        for (int span = 0; span < kSpans; ++span)
          for (int e = 0; e < kVector; ++e) s[j] = fma(q[span][e], float(r[j][span].at[e]), s[j]);
      }
      // Sums over lanes, halving the rows per lane until row lane / kCopies remains.
      int d = kWarp / 2;
#pragma unroll
      for (int half = kRows / 2; half > 0; half /= 2, d /= 2) {
        const bool upper = lane & d;
#pragma unroll
        for (int j = 0; j < half; ++j) {
          const float given = upper ? s[j] : s[j + half], kept = upper ? s[j + half] : s[j];
          s[j] = kept + __shfl_xor_sync(kAll, given, d);
        }
      }
      for (; d > 0; d /= 2) s[0] += __shfl_xor_sync(kAll, s[0], d);

      const bool there = from + k + lane / kCopies < n;
      const float mine_s = there ? s[0] : -std::numeric_limits<float>::infinity();
      float shrink;
      const float w = sums.take(mine_s, most_of_lanes(mine_s, kCopies), nce, c, shrink);
      if (!p.with_dquery) continue;
      if (shrink != 1)
        for (int span = 0; span < kSpans; ++span)
          for (int e = 0; e < kVector; ++e) sum[span][e] *= shrink;
#pragma unroll
      for (int j = 0; j < kRows; ++j) {
        const float w_j = __shfl_sync(kAll, w, j * kCopies);
#pragma unroll
        for (int span = 0; span < kSpans; ++span)
          for (int e = 0; e < kVector; ++e) sum[span][e] = fma(w_j, float(r[j][span].at[e]), sum[span][e]);
      }
    }
  }
  CUDA_KERNEL_ASSERT(!outside && "an index outside the bank");
  float* part = p.parts + blockIdx.x * (3 + p.C);
  const float z = sum_of_lanes(sums.z, kCopies), loss = sum_of_lanes(sums.loss, kCopies);
  if (lane == 0) part[0] = sums.top, part[1] = z, part[2] = loss;
  for (int span = 0; span < kSpans; ++span)
    for (int e = 0; e < kVector; ++e)
      if (channel(span) < p.C) part[3 + channel(span) + e] = sum[span][e];
}

// Other rows, and float64: one at a time, read again for the sums, which are in memory.
template <typename T, typename X>
__global__ void __launch_bounds__(kWarp) noise_by_rows(const Problem<T, X> p) {
  const int lane = threadIdx.x, row = blockIdx.x / p.shares, i = row / p.V, v = row % p.V;
  const int64_t first = 1 + blockIdx.x % p.shares * p.share, last = min(first + p.share, 1 + p.m);
  const T c = p.offset(v), tau = p.tau.get();
  T* part = p.parts + blockIdx.x * (3 + p.C);
  for (int64_t e = lane; e < p.C; e += kWarp) part[3 + e] = 0;
  Sums<T> sums;
  for (int64_t k = first; k < last; ++k) {
    const X* r = p.bank + (p.drawn(i, k) * p.V + v) * p.C;
    const T s = logit(p.query + row * p.C, tau, r, p.C, lane);
    T shrink;
    const T w = sums.take(s, s, p.Z != nullptr, c, shrink);
    if (p.with_dquery)
      for (int64_t e = lane; e < p.C; e += kWarp) part[3 + e] = fma(w, T(r[e]), part[3 + e] * shrink);
  }
  if (lane == 0) part[0] = sums.top, part[1] = sums.z, part[2] = sums.loss;
}

// The positive, and the sums of all shares in a fixed order: one block per row of query.
template <typename T, typename X>
__global__ void __launch_bounds__(kWarps* kWarp)
    finish(const Problem<T, X> p, T* loss, T* lse, bool* top1, T* dquery) {
  const int lane = threadIdx.x % kWarp, row = blockIdx.x, v = row % p.V;
  const T *parts = p.parts + row * p.shares * (3 + p.C), tau = p.tau.get();
  const X* r = p.bank + (p.drawn(row / p.V, 0) * p.V + v) * p.C;
  const T s = logit(p.query + row * p.C, tau, r, p.C, lane);  // the same in every warp, as is what follows

  T top = -std::numeric_limits<T>::infinity(), z = 0, total = 0;
  for (int k = lane; k < p.shares; k += kWarp) top = fmax(top, parts[k * (3 + p.C)]);
  top = most_of_lanes(top);
  const T most = held(fmax(top, s));
  for (int k = lane; k < p.shares; k += kWarp) {
    const T* part = parts + k * (3 + p.C);
    z += part[1] * exp(held(part[0]) - most);
    total += part[2];
  }
  z = sum_of_lanes(z), total = sum_of_lanes(total);
  const T all = z + exp(s - most), x = p.offset(v) - s;
  const bool nce = p.Z != nullptr;
  if (threadIdx.x == 0) {
    lse[row] = most + log(all);
    loss[row] = nce ? softplus(x) + total : s == most ? log1p(z) : most - s + log(all);
    top1[row] = s >= top && all == all;
  }
  if (!p.with_dquery) return;
  const T positive = nce ? sigmoid(x) : z / all;  // the weight of its row; not 1 - P, which cancels
  for (int64_t e = threadIdx.x; e < p.C; e += kWarps * kWarp) {
    T sum = 0;
    for (int k = 0; k < p.shares; ++k) {
      const T* part = parts + k * (3 + p.C);
      sum += nce ? part[3 + e] : part[3 + e] * exp(held(part[0]) - most) / all;
    }
    dquery[row * p.C + e] = (sum - positive * T(r[e])) / tau;
  }
}

template <typename X, int kSpans = 1>
void launch_noise(const Problem<float, X>& p, cudaStream_t stream) {
  if constexpr (kSpans < kMaxSpans)
    if (p.C > kSpans * kSpan) return launch_noise<X, 2 * kSpans>(p, stream);
  launch(noise<X, kSpans>, p.rows * p.shares, kWarp, 0, stream, p);
}

// Only the last occurrence of a row in the batch is computed and written.
template <typename B, typename X>
__global__ void __launch_bounds__(kWarps* kWarp)
    update(B* bank, const int64_t* index, const X* x, double momentum, int64_t N, int64_t V, int64_t C, int64_t M) {
  using T = Accumulator<B, X>;
  const int lane = threadIdx.x % kWarp;
  const int64_t warp = blockIdx.x * int64_t{kWarps} + threadIdx.x / kWarp, i = warp / V;
  if (i >= N) return;
  const int64_t y = index[i];
  CUDA_KERNEL_ASSERT(y >= 0 && y < M && "an index outside the bank");
  bool again = false;
  for (int64_t j = i + 1 + lane; j < N; j += kWarp) again |= index[j] == y;
  if (__any_sync(kAll, again)) return;

  B* row = bank + (y * V + warp % V) * C;
  x += warp * C;
  const T m = momentum, w = 1 - momentum;
  const auto moved = [&](int64_t c) {
    const T d = T(x[c]) - T(row[c]);
    return m > T(0.5) ? T(row[c]) + w * d : T(x[c]) - m * d;  // exact at m = 0
  };
  T squares = 0;
  for (int64_t c = lane; c < C; c += kWarp) squares += moved(c) * moved(c);
  T norm = sqrt(sum_of_lanes(squares));
  norm = norm < T(1e-12) ? T(1e-12) : norm;  // keeps NaN
  for (int64_t c = lane; c < C; c += kWarp) row[c] = static_cast<B>(moved(c) / norm);
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> bank_loss(
    const at::Tensor& query, const at::Tensor& bank, const at::Tensor& index, const at::Tensor& tau,
    const std::optional<at::Tensor>& Z, bool with_dquery) {
  check_bank_loss(query, bank, index, tau, Z);
  const int64_t N = query.size(0), V = query.size(1), C = query.size(2), M = bank.size(0);
  const at::Device device = query.device();
  const int64_t m = index.size(1) - 1, rows = N * V;
  constexpr int64_t kMost = std::numeric_limits<int>::max();
  TORCH_CHECK(
      M <= kMost && V * C * 8 <= kMost && rows * (m / 64 + 1) <= kMost, "bank_loss: sizes beyond 32 bits: query ",
      query.sizes(), ", bank ", bank.sizes(), ", index ", index.sizes());
  const bool wide = query.scalar_type() == at::kDouble || bank.scalar_type() == at::kDouble;
  const at::ScalarType dtype = wide ? at::kDouble : at::kFloat;
  const at::Tensor q = query.to(dtype).contiguous(), b = bank.contiguous(), y = index.contiguous();
  const at::Tensor loss = q.new_empty({N, V}), lse = q.new_empty({N, V}), top1 = q.new_empty({N, V}, at::kBool);
  const at::Tensor dquery = q.new_empty(with_dquery ? q.sizes() : at::IntArrayRef{0});
  if (rows == 0) return {loss, lse, top1, dquery};
  TORCH_CHECK_INDEX(M > 0, "bank_loss: an index outside the bank, which is empty");
  // Enough warps for a large GPU, at least 64 draws per share: a function of the shape alone, as are the results.
  const int64_t wanted = std::max<int64_t>((8192 + rows - 1) / rows, 1), least = (m + wanted - 1) / wanted;
  const int64_t share = std::max<int64_t>((least + kWarp - 1) / kWarp * kWarp, 64), shares = (m + share - 1) / share;
  const at::Tensor parts = q.new_empty({rows * shares, 3 + C});
  const auto stream = c10::cuda::getCurrentCUDAStream();

  const auto run = [&](auto t_zero, auto x_zero) {
    using T = decltype(t_zero);
    using X = decltype(x_zero);
    at::Tensor tau_there, Z_there;
    if (Z) Z_there = Z->to(dtype).contiguous();
    const Problem<T, X> p{
        data<const T>(q),
        data<const X>(b),
        data<const int64_t>(y),
        scalar<T>(tau, device, tau_there),
        Z ? data<const T>(Z_there) : nullptr,
        static_cast<T>(std::log(double(m) / double(M))),
        C, M, m,
        share,
        static_cast<int>(rows), static_cast<int>(V),
        static_cast<int>(shares),
        with_dquery,
        data<T>(parts)};
    if (shares > 0) {
      const bool held = C > 0 && C % kVector == 0 && C <= kMaxSpans * kSpan && in_vectors(b);
      if constexpr (std::is_same_v<T, float>)
        if (held) launch_noise(p, stream);
      if (wide || !held)
        launch(noise_by_rows<T, X>, rows * shares, kWarp, 0, stream, p);
    }
    launch(
        finish<T, X>, rows, kWarps * kWarp, 0, stream, p, data<T>(loss),
        data<T>(lse), data<bool>(top1),
        with_dquery ? data<T>(dquery) : nullptr);
  };
  dispatch(b.scalar_type(), [&](auto x_zero) {
    if (wide) run(double{}, x_zero);
    else if constexpr (!std::is_same_v<decltype(x_zero), double>) run(float{}, x_zero);
  });
  return {loss, lse, top1, dquery};
}

void bank_update_(at::Tensor bank, const at::Tensor& index, const at::Tensor& x, double m) {
  check_bank_update(bank, index, x, m);
  const int64_t N = x.size(0), M = bank.size(0), C = bank.size(-1), V = bank.dim() == 3 ? bank.size(1) : 1;
  if (N * V == 0) return;
  const at::Tensor dense = bank.contiguous(), rows = disjoint_copy(x, bank), y = index.contiguous();
  dispatch(dense.scalar_type(), [&](auto b_zero) {
    dispatch(rows.scalar_type(), [&](auto x_zero) {
      using B = decltype(b_zero);
      using X = decltype(x_zero);
      launch(
          update<B, X>, (N * V + kWarps - 1) / kWarps, kWarps * kWarp, 0, c10::cuda::getCurrentCUDAStream(),
          data<B>(dense), data<const int64_t>(y),
          data<const X>(rows), m, N, V, C, M);
    });
  });
  write_back(bank, dense);
}

}  // namespace contrastkit::cuda

// A block processes every gridDim.x-th row and writes one row of partial sums. Rows that fit in registers are read once
// per pass; longer rows, and float64, are read twice. The sums are then added in a fixed order.
#include <algorithm>
#include <limits>

#include "../sinkhorn.h"
#include "launch.h"
#include "warp.cuh"

namespace contrastkit::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kMaxVectors = 4;                           // of a row in a thread's registers
constexpr int kMaxHeld = kMaxVectors * kThreads * kVector;  // its longest row
constexpr int64_t kMaxBlocks = 256;                      // bounds the number of partial sums
constexpr double kTiny = 1e-30;                          // lower bound of a prototype's sum as a divisor

template <typename T>
__device__ T larger(T a, T b) {  // keeps NaN, as amax does
  return a > b || a != a ? a : b;
}

template <typename T>
__device__ T largest_of_lanes(T x) {
  for (int d = kWarp / 2; d > 0; d /= 2) x = larger(x, __shfl_xor_sync(kAll, x, d));
  return x;
}

template <typename T>
__device__ T inverse(T t) {
  return 1 / (t < T(kTiny) ? T(kTiny) : t);  // keeps NaN
}

// Reductions over the block with one barrier each, because two slots alternate.
template <typename T>
struct Block {
  T (*slots)[kWarps];
  int turn = 0;

  template <typename F>
  __device__ T all(T of_warp, F join) {
    T* slot = slots[turn];
    turn = 1 - turn;
    if (threadIdx.x % kWarp == 0) slot[threadIdx.x / kWarp] = of_warp;
    __syncthreads();
    T result = slot[0];
    for (int w = 1; w < kWarps; ++w) result = join(result, slot[w]);
    return result;
  }
  __device__ T sum(T x) {
    return all(sum_of_lanes(x), [](T a, T b) { return a + b; });
  }
  __device__ T largest(T x) {
    return all(largest_of_lanes(x), [](T a, T b) { return larger(a, b); });
  }
};

// A thread's part of a row of K numbers, zero beyond it.
template <typename X, int kVectors>
struct Held {
  Vector<X> at[kVectors];

  static __device__ int column(int j) { return (j * kThreads + threadIdx.x) * kVector; }
  __device__ void load(const X* row, int64_t K) {
#pragma unroll
    for (int j = 0; j < kVectors; ++j)
      at[j] = column(j) < K ? *reinterpret_cast<const Vector<X>*>(row + column(j)) : Vector<X>{};
  }
  __device__ void store(X* row, int64_t K) const {
#pragma unroll
    for (int j = 0; j < kVectors; ++j)
      if (column(j) < K) *reinterpret_cast<Vector<X>*>(row + column(j)) = at[j];
  }
  template <typename F>
  static __device__ void each(F f) {
#pragma unroll
    for (int j = 0; j < kVectors; ++j)
#pragma unroll
      for (int e = 0; e < kVector; ++e) f(j, e);
  }
};

// E, and each block's sums of exp(d_i / epsilon) E_i.
template <typename X, int kVectors>
__global__ void __launch_bounds__(kThreads)
    begin_held(const X* scores, const float* tops, float epsilon, float* E, float* parts, int64_t N, int64_t K) {
  __shared__ float slots[2][kWarps];
  Block<float> block{slots};
  using Row = Held<float, kVectors>;
  Held<X, kVectors> next;
  Row e, top, sum{};
  top.load(tops, K);
  next.load(scores + blockIdx.x * K, K);
  for (int64_t i = blockIdx.x; i < N; i += gridDim.x) {
    float d = -std::numeric_limits<float>::infinity();
    Row::each([&](int j, int k) {
      e.at[j].at[k] = float(next.at[j].at[k]) - top.at[j].at[k];
      if (Row::column(j) < K) d = larger(e.at[j].at[k], d);
    });
    if (i + gridDim.x < N) next.load(scores + (i + gridDim.x) * K, K);
    d = block.largest(d);
    const float weight = exp(d / epsilon);
    Row::each([&](int j, int k) {
      e.at[j].at[k] = exp((e.at[j].at[k] - d) / epsilon);
      sum.at[j].at[k] = fma(weight, e.at[j].at[k], sum.at[j].at[k]);
    });
    e.store(E + i * K, K);
  }
  sum.store(parts + blockIdx.x * K, K);
}

// Each block's sums of E_i / (E_i . 1/t).
template <int kVectors>
__global__ void __launch_bounds__(kThreads)
    sums_held(const float* E, const float* t, float* parts, int64_t N, int64_t K) {
  __shared__ float slots[2][kWarps];
  Block<float> block{slots};
  using Row = Held<float, kVectors>;
  Row next, e, r, sum{};
  r.load(t, K);
  Row::each([&](int j, int k) { r.at[j].at[k] = Row::column(j) < K ? inverse(r.at[j].at[k]) : 0; });
  next.load(E + blockIdx.x * K, K);
  for (int64_t i = blockIdx.x; i < N; i += gridDim.x) {
    e = next;
    if (i + gridDim.x < N) next.load(E + (i + gridDim.x) * K, K);
    float dot = 0;
    Row::each([&](int j, int k) { dot = fma(e.at[j].at[k], r.at[j].at[k], dot); });
    const float weight = 1 / block.sum(dot);
    Row::each([&](int j, int k) { sum.at[j].at[k] = fma(weight, e.at[j].at[k], sum.at[j].at[k]); });
  }
  sum.store(parts + blockIdx.x * K, K);
}

template <int kVectors>
__global__ void __launch_bounds__(kThreads) end_held(float* E, const float* t, int64_t N, int64_t K) {
  __shared__ float slots[2][kWarps];
  Block<float> block{slots};
  using Row = Held<float, kVectors>;
  Row next, e, r;
  r.load(t, K);
  Row::each([&](int j, int k) { r.at[j].at[k] = Row::column(j) < K ? inverse(r.at[j].at[k]) : 0; });
  next.load(E + blockIdx.x * K, K);
  for (int64_t i = blockIdx.x; i < N; i += gridDim.x) {
    e = next;
    if (i + gridDim.x < N) next.load(E + (i + gridDim.x) * K, K);
    float sum = 0;
    Row::each([&](int j, int k) { sum += e.at[j].at[k] *= r.at[j].at[k]; });
    const float weight = 1 / block.sum(sum);
    Row::each([&](int j, int k) { e.at[j].at[k] *= weight; });
    e.store(E + i * K, K);
  }
}

// The same for one row at a time, one block per row.
template <typename T, typename X>
__global__ void __launch_bounds__(kThreads)
    begin_row(const X* scores, const T* tops, T epsilon, T* E, T* weights, int64_t K) {
  __shared__ T slots[2][kWarps];
  Block<T> block{slots};
  scores += blockIdx.x * K, E += blockIdx.x * K;
  T d = -std::numeric_limits<T>::infinity();
  for (int64_t k = threadIdx.x; k < K; k += kThreads) d = larger(T(scores[k]) - tops[k], d);
  d = block.largest(d);
  for (int64_t k = threadIdx.x; k < K; k += kThreads) E[k] = exp((T(scores[k]) - tops[k] - d) / epsilon);
  if (threadIdx.x == 0) weights[blockIdx.x] = exp(d / epsilon);
}

template <typename T>
__device__ T weight_of_row(const T* E, const T* t, int64_t K) {
  __shared__ T slots[2][kWarps];
  Block<T> block{slots};
  T dot = 0;
  for (int64_t k = threadIdx.x; k < K; k += kThreads) dot = fma(E[k], inverse(t[k]), dot);
  return 1 / block.sum(dot);
}

template <typename T>
__global__ void __launch_bounds__(kThreads) weigh_row(const T* E, const T* t, T* weights, int64_t K) {
  const T weight = weight_of_row(E + blockIdx.x * K, t, K);
  if (threadIdx.x == 0) weights[blockIdx.x] = weight;
}

template <typename T>
__global__ void __launch_bounds__(kThreads) end_row(T* E, const T* t, int64_t K) {
  E += blockIdx.x * K;
  const T weight = weight_of_row(E, t, K);
  for (int64_t k = threadIdx.x; k < K; k += kThreads) E[k] = E[k] * inverse(t[k]) * weight;
}

// t: the sum of the rows, each times its weight if weights are given, times scale. A block adds 32 columns, each of its
// warps every eighth row.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    add(const T* rows, const T* weights, T* t, T scale, int64_t N, int64_t K) {
  __shared__ T of_warp[kWarps][kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t k = blockIdx.x * int64_t{kWarp} + lane;
  T sum = 0;
  for (int64_t i = warp; i < N && k < K; i += kWarps) sum = fma(weights ? weights[i] : T(1), rows[i * K + k], sum);
  of_warp[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || k >= K) return;
  for (int w = 1; w < kWarps; ++w) sum += of_warp[w][lane];
  t[k] = sum * scale;
}

template <typename F, int kVectors = 1>
void with_vectors(int64_t K, F&& f) {
  if constexpr (kVectors < kMaxVectors)
    if (K > kVectors * kThreads * kVector) return with_vectors<F, kVectors + 1>(K, std::forward<F>(f));
  f(std::integral_constant<int, kVectors>{});
}

// The passes over E [N, K], contiguous and not empty, and their working memory.
struct Passes {
  at::Tensor E, parts, weights;
  int64_t N, K, blocks;
  bool held;
  cudaStream_t stream = c10::cuda::getCurrentCUDAStream();

  // aligned: whether the other inputs are aligned to a Vector.
  Passes(const at::Tensor& E, bool aligned) : E(E), N(E.size(0)), K(E.size(1)) {
    held = aligned && in_vectors(E) && E.scalar_type() == at::kFloat && K % kVector == 0 && K <= kMaxHeld;
    blocks = held ? std::min(N, kMaxBlocks) : N;
    parts = E.new_empty({held ? blocks : 0, K});
    weights = E.new_empty({blocks});
  }

  template <typename T>
  void add_up(const at::Tensor& t, double scale) const {
    launch(
        add<T>, (K + kWarp - 1) / kWarp, kThreads, 0, stream, data<T>(held ? parts : E),
        held ? nullptr : data<T>(weights), data<T>(t), scale, blocks, K);
  }

  void begin(const at::Tensor& scores, const at::Tensor& tops, double epsilon, const at::Tensor& t) const {
    dispatch(scores.scalar_type(), [&](auto zero) {
      using X = decltype(zero);
      using T = Accumulator<X, float>;
      const X* from = data<const X>(scores);
      if constexpr (std::is_same_v<T, float>)
        if (held)
          with_vectors(K, [&](auto vectors) {
            launch(
                begin_held<X, vectors>, blocks, kThreads, 0, stream, from, data<T>(tops), epsilon, data<T>(E),
                data<T>(parts), N, K);
          });
      if (!held)
        launch(
            begin_row<T, X>, N, kThreads, 0, stream, from, data<T>(tops), epsilon, data<T>(E), data<T>(weights), K);
      add_up<T>(t, 1);
    });
  }

  // `to` may be t.
  void sums(const at::Tensor& t, double scale, const at::Tensor& to) const {
    if (held) {
      with_vectors(K, [&](auto vectors) {
        launch(
            sums_held<vectors>, blocks, kThreads, 0, stream, data<float>(E), data<float>(t), data<float>(parts), N, K);
      });
      return add_up<float>(to, scale);
    }
    dispatch_wide([&](auto zero) {
      using T = decltype(zero);
      launch(weigh_row<T>, N, kThreads, 0, stream, data<T>(E), data<T>(t), data<T>(weights), K);
      add_up<T>(to, scale);
    });
  }

  void end(const at::Tensor& t) const {
    if (held)
      return with_vectors(K, [&](auto vectors) {
        launch(end_held<vectors>, blocks, kThreads, 0, stream, data<float>(E), data<float>(t), N, K);
      });
    dispatch_wide([&](auto zero) {
      using T = decltype(zero);
      launch(end_row<T>, N, kThreads, 0, stream, data<T>(E), data<T>(t), K);
    });
  }

 private:
  template <typename F>
  void dispatch_wide(F&& f) const {
    if (E.scalar_type() == at::kDouble) f(double{});
    else f(float{});
  }
};

// Contiguous scores; then the outputs E and t.
std::tuple<at::Tensor, at::Tensor, at::Tensor> matrices(const at::Tensor& scores) {
  const at::Tensor from = scores.contiguous(), E = from.new_empty(from.sizes(), codes_dtype(scores));
  return {from, E, E.new_empty({E.size(1)})};
}

double lowest(const at::Tensor& E) {
  return E.scalar_type() == at::kDouble ? std::numeric_limits<double>::lowest() : std::numeric_limits<float>::lowest();
}

}  // namespace

at::Tensor sinkhorn(const at::Tensor& scores, double epsilon, int64_t iterations) {
  check_sinkhorn(scores, epsilon, iterations);
  const auto [from, E, t] = matrices(scores);
  if (E.numel() == 0) return E;
  const at::Tensor tops = from.amax(0).to(E.scalar_type()).clamp_min_(lowest(E));
  const Passes passes(E, in_vectors(from) && in_vectors(tops));
  passes.begin(from, tops, epsilon, t);
  for (int64_t i = 1; i < iterations; ++i) passes.sums(t, double(passes.K) / passes.N, t);
  passes.end(t);
  return E;
}

std::tuple<at::Tensor, at::Tensor> sinkhorn_begin(const at::Tensor& scores, const at::Tensor& tops, double epsilon) {
  check_sinkhorn_begin(scores, tops, epsilon);
  const auto [from, E, t] = matrices(scores);
  if (E.numel() == 0) return {E, t.zero_()};
  const at::Tensor of = tops.contiguous();
  Passes(E, in_vectors(from) && in_vectors(of)).begin(from, of, epsilon, t);
  return {E, t};
}

at::Tensor sinkhorn_sums(const at::Tensor& E, const at::Tensor& t, double scale) {
  check_codes("sinkhorn_sums", E, t);
  const at::Tensor of = t.contiguous(), to = t.new_empty(t.sizes());
  if (E.numel() == 0) return to.zero_();
  Passes(E.contiguous(), in_vectors(of)).sums(of, scale, to);
  return to;
}

void sinkhorn_end_(at::Tensor E, const at::Tensor& t) {
  check_codes("sinkhorn_end_", E, t);
  if (E.numel() == 0) return;
  const at::Tensor dense = E.contiguous(), of = t.contiguous();
  Passes(dense, in_vectors(of)).end(of);
  write_back(E, dense);
}

}  // namespace contrastkit::cuda

// Shared by infonce, ntxent and clip: attention with values = keys, and its gradient with respect to the keys.
#pragma once

#include <algorithm>
#include <optional>
#include <tuple>

#include "launch.h"
#include "tf32.h"
#include "tile.cuh"

namespace contrastkit::cuda {

// Numbers of a floating dtype that is known at run time.
struct Numbers {
  explicit Numbers(const at::Tensor& x) : at(x.const_data_ptr()), dtype(x.scalar_type()) {}

  template <typename A>
  __device__ A get(int64_t i) const {
    switch (dtype) {
      case at::kFloat: return static_cast<A>(static_cast<const float*>(at)[i]);
      case at::kBFloat16: return static_cast<A>(static_cast<const c10::BFloat16*>(at)[i]);
      case at::kHalf: return static_cast<A>(static_cast<const c10::Half*>(at)[i]);
      default: return static_cast<A>(static_cast<const double*>(at)[i]);
    }
  }

  const void* at;
  at::ScalarType dtype;
};

// Which keys are negatives of a row.
struct Masks {
  const int64_t *exclude = nullptr, *n_valid = nullptr, *query_ids = nullptr, *key_ids = nullptr;
  int64_t E = 0;
  int64_t N = 0, K = 0;        // queries, keys
  bool rows_are_keys = false;  // of the tiles; their columns are then queries
  // NT-Xent, n > 0: row i is key first + i, in groups of 2n; it is compared neither with itself nor with its other view
  int64_t n = 0, first = 0;
  bool pairs = false;  // CLIP: key first + i is row i's partner, its positive and no negative

  // First step of every kernel: K becomes the number of valid keys.
  __device__ void settle() {
    if (n_valid != nullptr && *n_valid < K) K = *n_valid < 0 ? 0 : *n_valid;
  }
  __device__ int64_t columns() const { return rows_are_keys ? N : K; }
  __device__ int64_t positive(int64_t i) const {
    i += first;
    if (n == 0) return i;
    return i % (2 * n) < n ? i + n : i - n;
  }

  // False if none of these rows and columns is masked.
  __device__ bool touch(int64_t row, int rows, int64_t column, int columns_) const {
    if (exclude != nullptr || query_ids != nullptr) return true;
    if (column + columns_ > columns() || (rows_are_keys && row + rows > K)) return true;
    const auto meets = [&](int64_t from) { return from < column + columns_ && column < from + rows; };
    row += first;
    return (pairs && meets(row)) || (n > 0 && (meets(row) || meets(row + n) || meets(row - n)));
  }

  // Bit b is set if column + b is masked for the row, b < width <= 64.
  __device__ uint64_t bits(int64_t row, int64_t column, int width) const {
    const int64_t left = columns() - column;
    uint64_t set = left >= width ? 0 : left > 0 ? ~uint64_t{0} << left : ~uint64_t{0};
    const auto mark = [&](int64_t b) {
      if (b >= 0 && b < width) set |= uint64_t{1} << b;
    };
    const int end = static_cast<int>(left < width ? left : width);
    if (rows_are_keys) {
      if (row >= K) return ~uint64_t{0};
#pragma unroll 1
      for (int b = 0; b < end; ++b) {
        if (query_ids != nullptr && query_ids[column + b] == key_ids[row]) mark(b);
#pragma unroll 1
        for (int64_t e = 0; e < E; ++e)
          if (exclude[(column + b) * E + e] == row) mark(b);
      }
    } else if (row < N) {
#pragma unroll 1
      for (int64_t e = 0; e < E; ++e) mark(exclude[row * E + e] - column);
#pragma unroll 4
      for (int b = 0; query_ids != nullptr && b < end; ++b)
        if (query_ids[row] == key_ids[column + b]) mark(b);
      if (pairs || n > 0) mark(first + row - column);
      if (n > 0) mark(positive(row) - column);
    }
    return set;
  }

  // Writes minus infinity where columns are not negatives of this block's rows.
  template <typename Tile>
  __device__ void apply(typename Tile::Logits& s, int64_t column) const {
    const int64_t first_row = blockIdx.x * int64_t{Tile::kRows};
    if (!touch(first_row, Tile::kRows, column, Tile::kKeys)) return;
    constexpr int kRows = Tile::kM * 16;  // of the warp; each lane masks one of them
    const uint64_t mine = bits(first_row + threadIdx.x / kWarp * kRows + threadIdx.x % kRows, column, Tile::kKeys);
#pragma unroll
    for (int m = 0; m < Tile::kM; ++m)
#pragma unroll
      for (int r = 0; r < 4; r += 2) {
        const uint64_t set = __shfl_sync(kAll, mine, Tile::row(m, r) % kRows) >> Tile::column();
        if (!__any_sync(kAll, set != 0)) continue;
#pragma unroll
        for (int n = 0; n < Tile::kN; ++n)
#pragma unroll
          for (int e = 0; e < 2; ++e)
            if (set >> (8 * n + e) & 1) s[m][n][r + e] = -INFINITY;
      }
  }
};

// float64, for tests: one block per row. Calls weight(j, s_j) for its columns j and, for O, sums weight times column.
constexpr int kPlain = 128;  // threads
template <typename F>
__device__ void plain_sum(const Operands<double>& x, const Masks& masks, double* O, F&& weight) {
  __shared__ double w[kPlain];
  const int64_t i = blockIdx.x, C = x.C;
  for (int64_t from = 0; from < x.K; from += kPlain) {
    const int64_t j = from + threadIdx.x;
    if (j < x.K) {
      double s = 0;
      for (int64_t c = 0; c < C; ++c) s += x.rows[i * C + c] * x.keys[j * C + c];
      w[threadIdx.x] = weight(j, masks.bits(i, j, 1) & 1 ? -INFINITY : s);
    }
    __syncthreads();
    const int64_t n = x.K - from < kPlain ? x.K - from : kPlain;
    for (int64_t c = threadIdx.x; O != nullptr && c < C; c += kPlain)
      for (int64_t b = 0; b < n; ++b) O[c] += w[b] * x.keys[(from + b) * C + c];
    __syncthreads();
  }
}

template <typename A>
struct Limits;  // numeric_limits, which device code may not call
template <>
struct Limits<float> {
  static constexpr float lowest = -3.402823466e38f, tiny = 1.175494351e-38f;
};
template <>
struct Limits<double> {
  static constexpr double lowest = -1.7976931348623157e308, tiny = 2.2250738585072014e-308;
};

// Calls f with the tile for the dtype and C channels.
template <typename F>
void dispatch_tile(at::ScalarType dtype, int64_t C, F&& f) {
  const auto with = [&](auto math) {
    using Math = decltype(math);
    if (C <= 64) return f(Tile<Math, 64, false>{});
    if (C <= 128) return f(Tile<Math, 128, false>{});
    if constexpr (sizeof(typename Math::Element) == 2) {
      if (C <= 256) f(Tile<Math, 256, false>{});
      else f(Tile<Math, 256, true>{});
    } else {
      f(Tile<Math, 128, true>{});
    }
  };
  if (dtype == at::kBFloat16) return with(BF16{});
  if (dtype == at::kHalf) return with(F16{});
  return tf32_allowed() ? with(TF32<false>{}) : with(TF32<true>{});
}

template <typename T>
Operands<T> operands(const at::Tensor& rows, const at::Tensor& keys) {
  const void *a = rows.const_data_ptr(), *b = keys.const_data_ptr();
  const int64_t C = keys.size(1);
  const uintptr_t bytes = reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) | C * sizeof(T);
  return {static_cast<const T*>(a), static_cast<const T*>(b), rows.size(0), keys.size(0), C, bytes % 16 == 0};
}

// The number of parts that the tiles of keys are split into to occupy all processors: a function of shape and device.
inline int64_t parts(int64_t blocks, int64_t tiles, int64_t blocks_a_processor) {
#ifdef CONTRASTKIT_EMULATED
  const int processors = 4;
#else
  int device = 0, processors = 0;
  C10_CUDA_CHECK(cudaGetDevice(&device));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
#endif
  const auto ceil = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t slots = blocks_a_processor * processors;
  const int64_t most = std::min(tiles, std::max<int64_t>(4 * slots / blocks, 1));  // bounds the memory of the parts
  // loading the rows and storing the sums of a part costs as much as about four tiles
  const auto cost = [&](int64_t n) { return ceil(blocks * n, slots) * (ceil(tiles, n) + 4); };
  int64_t best = 1;
  for (int64_t n = 2; n <= most; ++n)
    if (cost(n) < cost(best)) best = n;
  return best;
}

// Loss, log-sum-exp, top-1 and, with_dquery, the queries' gradient; row masks.positive(i) of `positive` is i's positive.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> attend(
    const at::Tensor& query, const at::Tensor& positive, const at::Tensor& keys, const at::Tensor& tau,
    const Masks& masks, bool with_dquery);

// The softmaxes of one side: their losses, log-sum-exps, and the gradient of the losses.
struct Softmax {
  at::Tensor g, lse, loss;
};

// sum_j g_j exp(s_ij - lse_j) columns_j / tau for each row i. Where rows have softmaxes of their own, of which row i has
// number masks.first + i, the terms g_i exp(s_ij - lse_i) and those of the positives are added.
at::Tensor weigh(
    const at::Tensor& rows, const at::Tensor& columns, const Softmax& of_columns, const std::optional<Softmax>& of_rows,
    const at::Tensor& tau, const Masks& masks);

}  // namespace contrastkit::cuda

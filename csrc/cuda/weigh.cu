#include "attend.cuh"

namespace contrastkit::cuda {
namespace {

// Softmax in the accumulator's dtype. Only where both sides have one is loss read.
template <typename A>
struct Weights {
  const A *g, *lse, *loss;
};

template <typename Tile, bool symmetric>
__global__ void __launch_bounds__(Tile::kThreads, 2) weigh_part(
    const Operands<typename Tile::T> x, Masks masks, const Scalar<double> tau, const Weights<float> of_columns,
    const Weights<float> of_rows, const float* peak, float* out, int tiles) {
  constexpr int kM = Tile::kM, kKeys = Tile::kKeys;
  masks.settle();
  alignas(16) __shared__ float columns[2][2][kKeys];  // of each stage: log-sum-exps, then g
  const float scale = static_cast<float>(kLog2e / tau.get()), log2e = kLog2e;
  // float16 has a small range: its weights, at most 2 |g| <= 2 peak, are scaled to where it has the most powers of two
  const float lift = peak == nullptr ? 1.0f : 16384 / fmaxf(*peak, 1e-30f);
  const int first = blockIdx.y * tiles, end = static_cast<int>((x.K + kKeys - 1) / kKeys);
  const int last = first + tiles < end ? first + tiles : end;

  typename Tile::Sums O;
  float lse[kM][2], g[kM][2];  // of the rows
#pragma unroll
  for (int t = 0; t < kM; ++t) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int64_t row = blockIdx.x * int64_t{Tile::kRows} + Tile::row(t, 2 * h);
      const bool there = symmetric && row < x.N;
      lse[t][h] = there ? of_rows.lse[masks.first + row] * log2e : 0.0f;
      g[t][h] = there ? of_rows.g[masks.first + row] * lift : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < Tile::kD * 4; ++i) O[t][i / 4][i % 4] = 0;
  }

  Tile::for_each(
      x, first, last,
      [&](int64_t column, int stage) {
        constexpr int kChunks = kKeys / 4;
        const int which = threadIdx.x / kChunks, c = threadIdx.x % kChunks * 4;
        if (which > 1) return;
        const float* from = which == 0 ? of_columns.lse : of_columns.g;
        const int64_t left = x.K - column - c;
        cp_async16(
            &columns[stage][which][c], left > 0 ? from + column + c : from,
            left > 0 ? static_cast<int>(left < 4 ? left : 4) * 4 : 0);
      },
      [&](int64_t column, typename Tile::Logits& s, const char* keys, int stage) {
        masks.apply<Tile>(s, column);
#pragma unroll
        for (int n = 0; n < Tile::kN; ++n)
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const float column_lse = columns[stage][0][n * 8 + Tile::column() + e] * log2e;
            const float column_g = columns[stage][1][n * 8 + Tile::column() + e] * lift;
#pragma unroll
            for (int t = 0; t < kM; ++t)
#pragma unroll
              for (int h = 0; h < 2; ++h) {
                float& x = s[t][n][2 * h + e];
                float w = column_g * exp2_approx(fmaf(x, scale, -column_lse));
                if constexpr (symmetric) w += g[t][h] * exp2_approx(fmaf(x, scale, -lse[t][h]));
                x = w;
              }
          }
        Tile::accumulate(O, s, keys);
      });

  const float unit = static_cast<float>(1 / tau.get()) / lift;
#pragma unroll
  for (int t = 0; t < kM; ++t)
#pragma unroll
    for (int d = 0; d < Tile::kD; ++d)
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int64_t row = blockIdx.x * int64_t{Tile::kRows} + Tile::row(t, r);
        const int64_t c = blockIdx.z * int64_t{Tile::kC} + d * 8 + Tile::column() + r % 2;
        if (row < x.N && c < x.C) out[(blockIdx.y * x.N + row) * x.C + c] = O[t][d][r] * unit;
      }
}

// float64, in one part.
__global__ void weigh_plain(
    const Operands<double> x, Masks masks, const Scalar<double> tau, const Weights<double> of_columns,
    const Weights<double> of_rows, double* out) {
  masks.settle();
  const int64_t i = blockIdx.x;
  const double inverse_tau = 1 / tau.get();
  double* O = out + i * x.C;
  for (int64_t c = threadIdx.x; c < x.C; c += kPlain) O[c] = 0;
  plain_sum(x, masks, O, [&](int64_t j, double s) {
    double w = of_columns.g[j] * exp(s * inverse_tau - of_columns.lse[j]);
    if (of_rows.g != nullptr) w += of_rows.g[masks.first + i] * exp(s * inverse_tau - of_rows.lse[masks.first + i]);
    return w * inverse_tau;
  });
}

// Adds the parts in order, and the positives of rows with softmaxes, whose logits are not in the tiles. One block per row.
template <typename A>
__global__ void finish(
    const A* parts, int n, const Numbers columns, const Masks masks, const Scalar<double> tau,
    const Weights<A> of_columns, const Weights<A> of_rows, int64_t C, A* out) {
  const int64_t i = blockIdx.x, N = gridDim.x, p = masks.positive(i), row = masks.first + i;
  const bool symmetric = of_rows.g != nullptr;
  A coefficient = 0;
  if (symmetric)
    coefficient = (of_rows.g[row] * expm1(-of_rows.loss[row]) + of_columns.g[p] * expm1(-of_columns.loss[p])) *
                  static_cast<A>(1 / tau.get());
  for (int64_t c = threadIdx.x; c < C; c += blockDim.x) {
    A sum = 0;
    for (int part = 0; part < n; ++part) sum += parts[(part * N + i) * C + c];
    out[i * C + c] = symmetric ? sum + coefficient * columns.get<A>(p * C + c) : sum;
  }
}

}  // namespace

at::Tensor weigh(
    const at::Tensor& rows, const at::Tensor& columns, const Softmax& of_columns, const std::optional<Softmax>& of_rows,
    const at::Tensor& tau_, const Masks& masks) {
  const int64_t N = rows.size(0), K = columns.size(0), C = rows.size(1);
  const bool wide = of_columns.lse.scalar_type() == at::kDouble, symmetric = of_rows.has_value();
  const at::ScalarType dtype = wide ? at::kDouble : at::kFloat;
  const at::Tensor out = rows.new_empty({N, C}, rows.options().dtype(dtype));
  if (out.numel() == 0) return out;
  const at::Tensor a = (wide ? rows.to(dtype) : rows).contiguous(), b = columns.to(a.scalar_type()).contiguous();
  // asynchronous copies require alignment to 16 bytes
  const auto dense = [&](const Softmax& softmax) {
    const auto one = [&](const at::Tensor& x) {
      const at::Tensor y = x.to(dtype).contiguous();
      return reinterpret_cast<uintptr_t>(y.const_data_ptr()) % 16 ? y.clone() : y;
    };
    return Softmax{one(softmax.g), one(softmax.lse), one(softmax.loss)};
  };
  const Softmax columns_ = dense(of_columns), rows_ = symmetric ? dense(*of_rows) : Softmax();
  at::Tensor tau_there;
  const Scalar<double> tau = scalar<double>(tau_, rows.device(), tau_there);
  const auto stream = c10::cuda::getCurrentCUDAStream();

  const auto run = [&](auto zero, int64_t n, auto&& make) {
    using A = decltype(zero);
    const auto weights = [](const Softmax& softmax) {
      return Weights<A>{data<A>(softmax.g), data<A>(softmax.lse), data<A>(softmax.loss)};
    };
    const bool whole = n == 1 && !symmetric;  // then the only part is the result
    const at::Tensor parts = whole ? out : out.new_empty({n, N, C});
    const Weights<A> by_column = weights(columns_), by_row = symmetric ? weights(rows_) : Weights<A>{};
    make(by_column, by_row, data<A>(parts));
    if (!whole)
      launch(
          finish<A>, N, 128, 0, stream, data<A>(parts), static_cast<int>(n), Numbers(b), masks, tau, by_column, by_row,
          C, data<A>(out));
  };
  if (wide) {
    run(double{}, 1, [&](const Weights<double>& by_column, const Weights<double>& by_row, double* parts) {
      launch(weigh_plain, N, kPlain, 0, stream, operands<double>(a, b), masks, tau, by_column, by_row, parts);
    });
    return out;
  }
  dispatch_tile(a.scalar_type(), C, [&](auto tile) {
    using Tile = decltype(tile);
    const int64_t blocks = (N + Tile::kRows - 1) / Tile::kRows, tiles = (K + Tile::kKeys - 1) / Tile::kKeys;
    const int64_t n = cuda::parts(blocks, tiles, 2);
    at::Tensor peak;
    if (a.scalar_type() == at::kHalf && K > 0) {
      peak = columns_.g.abs().amax();
      if (symmetric && !rows_.g.is_same(columns_.g)) peak = peak.maximum(rows_.g.abs().amax());
    }
    run(float{}, n, [&](const Weights<float>& by_column, const Weights<float>& by_row, float* parts) {
      const dim3 grid(blocks, n, Tile::slabs(C));
      launch(
          symmetric ? weigh_part<Tile, true> : weigh_part<Tile, false>, grid, Tile::kThreads, Tile::kShared, stream,
          operands<typename Tile::T>(a, b), masks, tau, by_column, by_row,
          peak.defined() ? data<const float>(peak) : nullptr, parts, static_cast<int>((tiles + n - 1) / n));
    });
  });
  return out;
}

}  // namespace contrastkit::cuda

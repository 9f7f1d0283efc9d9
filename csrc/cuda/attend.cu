#include "attend.cuh"

namespace contrastkit::cuda {
namespace {

// A row's m is raised, and its sums scaled, only if its maximum exceeds m by this much: weights stay below 2^kSlack.
constexpr float kSlack = 8;
constexpr int kWarps = 8;  // of `finish`
template <bool with_O>
constexpr int kBlocks = with_O ? 2 : 3;  // per processor

// For each part of the keys and each row: with weights 2^(s - m), s in units of log 2, z is their sum and O that of
// weights times keys.
template <typename A>
struct Parts {
  A *top, *m, *z;  // [N, n]; top: the largest product itself
  A* O;            // [n, N, C]
  int n;
};

template <typename Tile, bool with_O>
__global__ void __launch_bounds__(Tile::kThreads, kBlocks<with_O>)
    attend_part(
        Operands<typename Tile::T> x, Masks masks, const Scalar<double> tau, const Parts<float> parts, int tiles) {
  constexpr int kM = Tile::kM;
  const float scale = static_cast<float>(kLog2e / tau.get());
  masks.settle();
  x.K = masks.columns();
  const int first = blockIdx.y * tiles, end = static_cast<int>((x.K + Tile::kKeys - 1) / Tile::kKeys);
  const int last = first + tiles < end ? first + tiles : end;

  typename Tile::Sums O;
  float top[kM][2], m[kM][2], z[kM][2];
#pragma unroll
  for (int t = 0; t < kM; ++t) {
#pragma unroll
    for (int h = 0; h < 2; ++h) top[t][h] = -INFINITY, m[t][h] = Limits<float>::lowest, z[t][h] = 0;
#pragma unroll
    for (int i = 0; i < Tile::kD * 4; ++i) O[t][i / 4][i % 4] = 0;
  }

  Tile::for_each(
      x, first, last, [](int64_t, int) {},
      [&](int64_t key, typename Tile::Logits& s, const char* keys, int) {
        masks.apply<Tile>(s, key);
        bool grew = false;
        float shrink[kM][2];
#pragma unroll
        for (int t = 0; t < kM; ++t)
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            float most = -INFINITY;
#pragma unroll
            for (int n = 0; n < Tile::kN; ++n) most = fmaxf(most, fmaxf(s[t][n][2 * h], s[t][n][2 * h + 1]));
            most = fmaxf(most, __shfl_xor_sync(kAll, most, 1));
            most = fmaxf(most, __shfl_xor_sync(kAll, most, 2));
            top[t][h] = fmaxf(top[t][h], most);
            const float next = most * scale > m[t][h] + kSlack ? most * scale : m[t][h];
            shrink[t][h] = exp2_approx(m[t][h] - next);
            grew |= next > m[t][h];
            m[t][h] = next;
          }
        if (__any_sync(kAll, grew))  // uniformly: the products need the whole warp converged
#pragma unroll
          for (int t = 0; t < kM; ++t)
#pragma unroll
            for (int r = 0; r < 4; ++r) {
              if (r % 2 == 0) z[t][r / 2] *= shrink[t][r / 2];
#pragma unroll
              for (int d = 0; d < Tile::kD; ++d) O[t][d][r] *= shrink[t][r / 2];
            }
        // weights and product are adjacent, so that the compiler interleaves them
#pragma unroll
        for (int t = 0; t < kM; ++t)
#pragma unroll
          for (int n = 0; n < Tile::kN; ++n)
#pragma unroll
            for (int r = 0; r < 4; ++r) {
              s[t][n][r] = exp2_approx(fmaf(s[t][n][r], scale, -m[t][r / 2]));
              z[t][r / 2] += s[t][n][r];
            }
        if constexpr (with_O) Tile::accumulate(O, s, keys);
      });

#pragma unroll
  for (int t = 0; t < kM; ++t)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int64_t row = blockIdx.x * int64_t{Tile::kRows} + Tile::row(t, 2 * h);
      z[t][h] += __shfl_xor_sync(kAll, z[t][h], 1);
      z[t][h] += __shfl_xor_sync(kAll, z[t][h], 2);
      if (row >= x.N) continue;
      if (threadIdx.x % 4 == 0 && blockIdx.z == 0) {
        parts.top[row * parts.n + blockIdx.y] = top[t][h];
        parts.m[row * parts.n + blockIdx.y] = m[t][h];
        parts.z[row * parts.n + blockIdx.y] = z[t][h];
      }
      if constexpr (with_O) {
        float* to = parts.O + (blockIdx.y * x.N + row) * x.C;
#pragma unroll
        for (int d = 0; d < Tile::kD; ++d)
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const int64_t c = blockIdx.z * int64_t{Tile::kC} + d * 8 + Tile::column() + e;
            if (c < x.C) to[c] = O[t][d][2 * h + e];
          }
      }
    }
}

// float64, in one part.
__global__ void attend_plain(Operands<double> x, Masks masks, const Scalar<double> tau, const Parts<double> parts) {
  __shared__ double shared[kPlain];
  const auto over_block = [&](double mine, auto&& join) {
    shared[threadIdx.x] = mine;
    __syncthreads();
    double all = shared[0];
    for (int t = 1; t < kPlain; ++t) all = join(all, shared[t]);
    __syncthreads();
    return all;
  };
  const double scale = kLog2e / tau.get();
  const int64_t i = blockIdx.x;
  double top = -INFINITY, z = 0;
  masks.settle();
  x.K = masks.columns();
  plain_sum(x, masks, nullptr, [&](int64_t, double s) { return top = fmax(top, s); });
  top = over_block(top, [](double a, double b) { return fmax(a, b); });
  const double m = fmax(top * scale, Limits<double>::lowest);
  double* O = parts.O == nullptr ? nullptr : parts.O + i * x.C;
  for (int64_t c = threadIdx.x; O != nullptr && c < x.C; c += kPlain) O[c] = 0;
  plain_sum(x, masks, O, [&](int64_t, double s) {
    const double weight = exp2(s * scale - m);
    z += weight;
    return weight;
  });
  z = over_block(z, [](double a, double b) { return a + b; });
  if (threadIdx.x == 0) parts.top[i] = top, parts.m[i] = m, parts.z[i] = z;
}

// NaN is ignored here: it appears in the sums.
template <typename A>
__device__ A largest_of_lanes(A x) {
  for (int d = kWarp / 2; d > 0; d /= 2) {
    const A y = __shfl_xor_sync(kAll, x, d);
    x = y > x ? y : x;
  }
  return x;
}

// Combines the parts of a row, in order, with its positive: one block per row, all of whose warps compute the scalars.
template <typename A>
__global__ void __launch_bounds__(kWarp * kWarps) finish(
    const Parts<A> parts, const Numbers query, const Numbers positive, const Masks masks, const Scalar<double> tau,
    int64_t C, A* loss, A* lse, bool* top1, A* dquery) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t i = blockIdx.x, N = gridDim.x, q = i * C, p = masks.positive(i) * C;
  A top = -INFINITY, m = Limits<A>::lowest, z = 0, dot = 0;
  for (int part = lane; part < parts.n; part += kWarp) {
    const A part_top = parts.top[i * parts.n + part], part_m = parts.m[i * parts.n + part];
    top = part_top > top ? part_top : top;
    m = part_m > m ? part_m : m;
  }
  top = largest_of_lanes(top);
  m = largest_of_lanes(m);
  for (int part = lane; part < parts.n; part += kWarp)
    z += parts.z[i * parts.n + part] * exp2(parts.m[i * parts.n + part] - m);
  z = sum_of_lanes(z);
  for (int64_t c = lane; c < C; c += kWarp) dot += query.get<A>(q + c) * positive.get<A>(p + c);
  dot = sum_of_lanes(dot);

  const A inverse_tau = static_cast<A>(1 / tau.get()), s_positive = dot * inverse_tau;
  const A x = (m + log2(z)) * A(0.6931471805599453) - s_positive;  // minus infinity without negatives
  const A softplus = (x > 0 ? x : A(0)) + log1p(exp(x > 0 ? -x : x));
  if (threadIdx.x == 0) {
    loss[i] = x != x ? x : softplus;
    lse[i] = s_positive + loss[i];
    top1[i] = dot >= top && z == z;
  }
  if (dquery == nullptr) return;

  __shared__ A sums[kWarps][4 * kWarp];
  const A w = inverse_tau / (1 + exp(-x)), norm = z < Limits<A>::tiny ? Limits<A>::tiny : z;
  for (int64_t from = 0; from < C; from += 4 * kWarp) {
    A O[4] = {};
    for (int part = warp; part < parts.n; part += kWarps) {
      const A weight = exp2(parts.m[i * parts.n + part] - m);
      const A* part_O = parts.O + (part * N + i) * C;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int64_t c = from + e * kWarp + lane;
        if (c < C) O[e] += weight * part_O[c];
      }
    }
    for (int e = 0; e < 4; ++e) sums[warp][e * kWarp + lane] = O[e];
    __syncthreads();
    const int64_t c = from + threadIdx.x;
    if (threadIdx.x < 4 * kWarp && c < C) {
      A whole = 0;
      for (int k = 0; k < kWarps; ++k) whole += sums[k][threadIdx.x];
      dquery[q + c] = (whole / norm - positive.get<A>(p + c)) * w;
    }
    __syncthreads();
  }
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> attend(
    const at::Tensor& query, const at::Tensor& positive, const at::Tensor& keys, const at::Tensor& tau_,
    const Masks& masks, bool with_dquery) {
  const bool wide = is(query, at::kDouble) || is(positive, at::kDouble) || is(keys, at::kDouble);
  const int64_t N = query.size(0), K = keys.size(0), C = query.size(1);
  // The many keys are not converted; queries take on their dtype. The positive's logit uses the unrounded queries.
  const at::Tensor k = (wide ? keys.to(at::kDouble) : keys).contiguous();
  const at::Tensor q = query.contiguous(), rows = q.to(k.scalar_type()), p = positive.contiguous();
  const at::TensorOptions options = query.options().dtype(wide ? at::kDouble : at::kFloat);
  const at::Tensor loss = query.new_empty({N}, options), lse = query.new_empty({N}, options);
  const at::Tensor top1 = query.new_empty({N}, query.options().dtype(at::kBool));
  const at::Tensor dquery = query.new_empty(with_dquery ? query.sizes() : at::IntArrayRef{0}, options);
  if (N == 0) return {loss, lse, top1, dquery};
  at::Tensor tau_there;
  const Scalar<double> tau = scalar<double>(tau_, query.device(), tau_there);
  const auto stream = c10::cuda::getCurrentCUDAStream();

  const auto run = [&](auto zero, int64_t n, auto&& make) {
    using A = decltype(zero);
    const at::Tensor scalars = loss.new_empty({3, N, n});
    const at::Tensor sums = with_dquery && n > 1 ? loss.new_empty({n, N, C}) : dquery;  // `finish` may work in place
    A* at = data<A>(scalars);
    const Parts<A> parts{at, at + N * n, at + 2 * N * n, with_dquery ? data<A>(sums) : nullptr, static_cast<int>(n)};
    make(parts);
    launch(
        finish<A>, N, kWarp * kWarps, 0, stream, parts, Numbers(q), Numbers(p), masks, tau, C, data<A>(loss),
        data<A>(lse), data<bool>(top1), with_dquery ? data<A>(dquery) : nullptr);
  };
  if (wide) {
    run(double{}, 1, [&](const Parts<double>& parts) {
      launch(attend_plain, N, kPlain, 0, stream, operands<double>(rows, k), masks, tau, parts);
    });
    return {loss, lse, top1, dquery};
  }
  dispatch_tile(k.scalar_type(), C, [&](auto tile) {
    using Tile = decltype(tile);
    const int64_t blocks = (N + Tile::kRows - 1) / Tile::kRows, tiles = (K + Tile::kKeys - 1) / Tile::kKeys;
    // infonce's losses have the same bits with and without their gradient
    const int64_t n = cuda::parts(blocks, tiles, masks.n > 0 || masks.pairs ? kBlocks<false> : kBlocks<true>);
    run(float{}, n, [&](const Parts<float>& parts) {
      const auto start = [&](auto kernel, int z) {
        const dim3 grid(blocks, n, z);
        launch(
            kernel, grid, Tile::kThreads, Tile::kShared, stream, operands<typename Tile::T>(rows, k), masks, tau,
            parts, static_cast<int>((tiles + n - 1) / n));
      };
      if (with_dquery) start(attend_part<Tile, true>, Tile::slabs(C));
      else start(attend_part<Tile, false>, 1);
    });
  });
  return {loss, lse, top1, dquery};
}

}  // namespace contrastkit::cuda

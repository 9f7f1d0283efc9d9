// Two products over tiles of rows and keys, S = Q K^T and O += W K, with one tile of keys in shared memory for both.
//
// Each warp owns 16 or 32 rows: their logits and their sums O stay in its registers. More than 256 channels (128 of
// float32) are split into slabs: a block computes one slab of O, from S over all slabs, its own last.
#pragma once

#include "../common.h"
#include "mma.cuh"
#include "warp.cuh"

namespace contrastkit::cuda {

constexpr double kLog2e = 1.4426950408889634;

template <typename T>
struct Operands {
  const T *rows, *keys;  // [N, C] and [K, C]
  int64_t N, K, C;
  bool aligned;  // every row of both, to 16 bytes
};

template <typename Math_, int kC_, bool wide>  // wide: more than one slab
struct Tile {
  using Math = Math_;
  using T = typename Math::Element;
  static constexpr bool k16Bit = sizeof(T) == 2;
  static constexpr int kC = kC_, kBytes = kC * sizeof(T);
  static constexpr int kStride = kBytes + 16;  // an odd multiple of 16 bytes: eight rows are in different banks
  static constexpr int kWarps = 4, kThreads = kWarp * kWarps;
  static constexpr int kM = kBytes < 512 ? 2 : 1;  // tiles of 16 rows of a warp
  static constexpr int kRows = kWarps * kM * 16;
  static constexpr int kKeys = k16Bit && kBytes < 512 ? 64 : 32;
  static constexpr int kN = kKeys / 8, kD = kC / 8;  // tiles of 8 keys, of 8 channels

  // Lane l holds, of each 16 x 8 tile, element r at row l / 4 + r / 2 * 8 and column l % 4 * 2 + r % 2.
  using Logits = float[kM][kN][4];
  using Sums = float[kM][kD][4];

  static constexpr size_t kShared = (2 * kKeys + (wide ? 2 : 1) * kRows) * kStride;
  C10_HOST_DEVICE static int slabs(int64_t C) { return wide ? static_cast<int>((C + kC - 1) / kC) : 1; }

  // Row of a block that element [m][...][r] of this lane belongs to.
  __device__ static int row(int m, int r) {
    return threadIdx.x / kWarp * kM * 16 + m * 16 + threadIdx.x % kWarp / 4 + r / 2 * 8;
  }
  __device__ static int column() { return threadIdx.x % 4 * 2; }

  // Rows first, ..., first + n - 1 of x [rows, C], channels from, ..., from + kC - 1; zeros beyond its end.
  template <int n>
  __device__ static void load(
      char* to, const T* x, int64_t first, int64_t rows, int64_t C, int64_t from, bool aligned) {
    constexpr int kChunks = kBytes / 16, kEach = 16 / sizeof(T), kStep = kThreads / kChunks;
    const int row = threadIdx.x / kChunks, c = threadIdx.x % kChunks * kEach;
    const int64_t left = C - from - c, end = left > 0 ? rows - first - row : 0;
    const T* chunk = x + (first + row) * C + from + c;
    char* at = to + row * kStride + c * sizeof(T);
    if (aligned) {
#pragma unroll 1  // unrolling would spend registers on addresses that O needs
      for (int r = 0; r < n; r += kStep, chunk += kStep * C, at += kStep * kStride)
        cp_async16(at, r < end ? chunk : x, r < end ? 16 : 0);
    } else {
#pragma unroll 1
      for (int r = 0; r < n; r += kStep, chunk += kStep * C, at += kStep * kStride) {
        alignas(16) T values[kEach];
        for (int e = 0; e < kEach; ++e) values[e] = r < end && e < left ? chunk[e] : T(0);
        *reinterpret_cast<uint4*>(at) = *reinterpret_cast<const uint4*>(values);
      }
    }
  }

  // s += rows keys^T. A fragment is 16 rows of 32 bytes and 8 keys of 32 bytes, whatever the element.
  __device__ static void multiply(Logits& s, const char* rows, const char* keys) {
    const int lane = threadIdx.x % kWarp;
    rows += (threadIdx.x / kWarp * kM * 16 + lane % 16) * kStride + lane / 16 * 16;
    keys += (lane / 16 * 8 + lane % 8) * kStride + lane / 8 % 2 * 16;
    constexpr int kUnroll = k16Bit ? kBytes / 32 : 2;  // float32's operands are split in two and take twice the registers
#pragma unroll kUnroll
    for (int c = 0; c < kBytes; c += 32) {
      uint32_t a[kM][4];
#pragma unroll
      for (int m = 0; m < kM; ++m) ldmatrix_x4(a[m], rows + m * 16 * kStride + c);
      if constexpr (k16Bit) {
#pragma unroll
        for (int n = 0; n < kN; n += 2) {
          uint32_t b[4];
          ldmatrix_x4(b, keys + n * 8 * kStride + c);
#pragma unroll
          for (int m = 0; m < kM; ++m) {
            Math::mma(s[m][n], a[m], {b[0], b[1]});
            Math::mma(s[m][n + 1], a[m], {b[2], b[3]});
          }
        }
      } else {
        typename Math::template Operand<4> as[kM];
#pragma unroll
        for (int m = 0; m < kM; ++m)
          as[m] = typename Math::template Operand<4>(
              {__uint_as_float(a[m][0]), __uint_as_float(a[m][1]), __uint_as_float(a[m][2]), __uint_as_float(a[m][3])});
#pragma unroll
        for (int n = 0; n < kN; n += 2) {
          uint32_t b[4];
          ldmatrix_x4(b, keys + n * 8 * kStride + c);
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const typename Math::template Operand<2> bs({__uint_as_float(b[2 * i]), __uint_as_float(b[2 * i + 1])});
#pragma unroll
            for (int m = 0; m < kM; ++m) Math::mma_rounded(s[m][n + i], as[m], bs);
          }
        }
      }
    }
  }

  // O += w keys: the product that `multiply` left in registers is a factor here, without an exchange.
  __device__ static void accumulate(Sums& O, const Logits& w, const char* keys) {
    const int lane = threadIdx.x % kWarp;
    if constexpr (k16Bit) {
      keys += lane % 16 * kStride + lane / 16 * 16;
#pragma unroll
      for (int n = 0; n < kN; n += 2) {
        uint32_t a[kM][4];
#pragma unroll
        for (int m = 0; m < kM; ++m)
#pragma unroll
          for (int i = 0; i < 4; ++i) a[m][i] = Math::pack(w[m][n + i / 2][i % 2 * 2], w[m][n + i / 2][i % 2 * 2 + 1]);
#pragma unroll
        for (int d = 0; d < kD; d += 2) {
          uint32_t b[4];
          ldmatrix_x4_trans(b, keys + n * 8 * kStride + d * 16);
#pragma unroll
          for (int m = 0; m < kM; ++m) {
            Math::mma(O[m][d], a[m], {b[0], b[1]});
            Math::mma(O[m][d + 1], a[m], {b[2], b[3]});
          }
        }
      }
    } else {
      // Keys in the order 0 2 4 6 1 3 5 7 of w in the lanes.
      const T* at = reinterpret_cast<const T*>(keys + column() * kStride) + lane / 4;
      typename Math::template Operand<4> a[kM][kN];
#pragma unroll
      for (int m = 0; m < kM; ++m)
#pragma unroll
        for (int n = 0; n < kN; ++n)
          a[m][n] = typename Math::template Operand<4>({w[m][n][0], w[m][n][2], w[m][n][1], w[m][n][3]});
#pragma unroll
      for (int d = 0; d < kD; ++d) {
        float sum[kM][4] = {};
#pragma unroll
        for (int n = 0; n < kN; ++n) {
          const T* key = at + n * 8 * (kStride / sizeof(T)) + d * 8;
          const typename Math::template Operand<2> b({key[0], key[kStride / sizeof(T)]});
#pragma unroll
          for (int m = 0; m < kM; ++m) Math::mma(sum[m], a[m][n], b);
        }
#pragma unroll
        for (int m = 0; m < kM; ++m)
#pragma unroll
          for (int r = 0; r < 4; ++r) O[m][d][r] += sum[m][r];  // rounded, as in mma_rounded
      }
    }
  }

  // Calls use(first key, logits, keys in shared memory, stage) for each of the block's tiles, first, ..., last - 1.
  // Its rows are blockIdx.x's, its own slab is blockIdx.z. While a tile is in use the next one is in flight, to
  // which prefetch(first key, stage) may add asynchronous copies; stage is 0 or 1.
  template <typename Prefetch, typename Use>
  __device__ static void for_each(const Operands<T>& x, int first, int last, Prefetch&& prefetch, Use&& use) {
    char *keys = dynamic_shared(), *rows = keys + 2 * kKeys * kStride;
    const int slabs = Tile::slabs(x.C), steps = (last - first) * slabs;
    const int64_t row = blockIdx.x * int64_t{kRows};
    const auto load_step = [&](int step) {
      if (step < steps) {
        const int64_t key = (first + step / slabs) * int64_t{kKeys};
        const int64_t from = wide ? (blockIdx.z + 1 + step % slabs) % slabs * kC : 0;
        if (wide) load<kRows>(rows + step % 2 * kRows * kStride, x.rows, row, x.N, x.C, from, x.aligned);
        load<kKeys>(keys + step % 2 * kKeys * kStride, x.keys, key, x.K, x.C, from, x.aligned);
        prefetch(key, step % 2);
      }
      cp_async_commit();
    };
    if (!wide && steps > 0) load<kRows>(rows, x.rows, row, x.N, x.C, 0, x.aligned);
    load_step(0);
    Logits s;
    for (int step = 0; step < steps; ++step) {
      cp_async_wait<0>();
      __syncthreads();  // this tile is visible to all, and the previous one is free
      load_step(step + 1);
      const char* tile = keys + step % 2 * kKeys * kStride;
      if (step % slabs == 0)
#pragma unroll
        for (int i = 0; i < kM * kN * 4; ++i) s[i / (kN * 4)][i / 4 % kN][i % 4] = 0;
      multiply(s, rows + (wide ? step % 2 * kRows * kStride : 0), tile);
      if (step % slabs == slabs - 1) use((first + step / slabs) * int64_t{kKeys}, s, tile, step % 2);
    }
  }
};

}  // namespace contrastkit::cuda

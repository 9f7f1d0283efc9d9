// The sm_80 instructions of the tiled products; with CONTRASTKIT_EMULATED, those of tests/emulator.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstdint>

namespace contrastkit::cuda {

#ifdef CONTRASTKIT_EMULATED

using emulator::cp_async16;
using emulator::cp_async_commit;
using emulator::ldmatrix_x4;
using emulator::ldmatrix_x4_trans;
using emulator::mma_m16n8k16_bf16;
using emulator::mma_m16n8k16_f16;
using emulator::mma_m16n8k8_tf32;
using emulator::to_tf32;

template <int pending_groups>
void cp_async_wait() { emulator::cp_async_wait(pending_groups); }
inline float exp2_approx(float x) { return exp2f(x); }
template <typename T>
uint32_t pack(float low, float high) { return T(low).x | uint32_t{T(high).x} << 16; }
inline uint32_t pack_bf16(float low, float high) { return pack<c10::BFloat16>(low, high); }
inline uint32_t pack_f16(float low, float high) { return pack<c10::Half>(low, high); }

#else

__device__ inline uint32_t shared_address(const void* at) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(at));
}

// Copies 16 bytes, or `bytes` and zeros.
__device__ inline void cp_async16(void* shared, const void* global, int bytes) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)), "l"(global),
               "r"(bytes)
               : "memory");
}
__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
template <int pending_groups>
__device__ void cp_async_wait() { asm volatile("cp.async.wait_group %0;\n" ::"n"(pending_groups) : "memory"); }

// volatile keeps loads from shared memory from moving across a barrier
__device__ inline void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}
__device__ inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}

#define CONTRASTKIT_MMA(name, kind)                                                                           \
  __device__ inline void name(float(&d)[4], const uint32_t(&a)[4], const uint32_t(&b)[2]) {                   \
    asm("mma.sync.aligned." kind " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"         \
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                      \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                                  \
  }
CONTRASTKIT_MMA(mma_m16n8k16_bf16, "m16n8k16.row.col.f32.bf16.bf16.f32")
CONTRASTKIT_MMA(mma_m16n8k16_f16, "m16n8k16.row.col.f32.f16.f16.f32")
CONTRASTKIT_MMA(mma_m16n8k8_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32")
#undef CONTRASTKIT_MMA

__device__ inline uint32_t to_tf32(float x) {
  uint32_t y;
  asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(y) : "f"(x));
  return y;
}
__device__ inline float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline uint32_t pack_bf16(float low, float high) {
  uint32_t y;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(y) : "f"(high), "f"(low));
  return y;
}
__device__ inline uint32_t pack_f16(float low, float high) {
  uint32_t y;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;\n" : "=r"(y) : "f"(high), "f"(low));
  return y;
}

#endif

// The arithmetic of a product of tiles: on elements of 16 bits, on float32 as tf32, or on float32 as a sum of two tf32.
struct BF16 {
  using Element = c10::BFloat16;
  __device__ static void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_m16n8k16_bf16(d, a, b);
  }
  __device__ static uint32_t pack(float low, float high) { return pack_bf16(low, high); }
};

struct F16 {
  using Element = c10::Half;
  __device__ static void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_m16n8k16_f16(d, a, b);
  }
  __device__ static uint32_t pack(float low, float high) { return pack_f16(low, high); }
};

template <bool exact>
struct TF32 {
  using Element = float;

  template <int n>
  struct Operand {
    uint32_t big[n], small[exact ? n : 1];
    __device__ explicit Operand(const float (&x)[n]) {
#pragma unroll
      for (int i = 0; i < n; ++i) {
        big[i] = to_tf32(x[i]);
        if constexpr (exact) small[i] = to_tf32(x[i] - __uint_as_float(big[i]));
      }
    }
    Operand() = default;
  };

  __device__ static void mma(float (&d)[4], const Operand<4>& a, const Operand<2>& b) {
    if constexpr (exact) {
      mma_m16n8k8_tf32(d, a.small, b.big);
      mma_m16n8k8_tf32(d, a.big, b.small);
    }
    mma_m16n8k8_tf32(d, a.big, b.big);
  }

  // Tensor cores truncate sums, which biases long chains: where precision matters, a float addition rounds.
  __device__ static void mma_rounded(float (&d)[4], const Operand<4>& a, const Operand<2>& b) {
    if constexpr (!exact) return mma(d, a, b);
    float sum[4] = {};
    mma(sum, a, b);
#pragma unroll
    for (int r = 0; r < 4; ++r) d[r] += sum[r];
  }
};

}  // namespace contrastkit::cuda

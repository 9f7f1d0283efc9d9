// CUDA's kernel language for g++: included ahead of every file of csrc/cuda, so that kernels run without a GPU.
//
// Device memory is the CPU's. Every thread of a block is a fiber, which runs until it waits: at a barrier, or in a
// collective of its warp. Blocks run one after another. Mistakes that a GPU may hide are exposed: shared memory
// contains NaN before each block; an asynchronous copy takes place when it is waited for and not before; a warp runs up
// to the next barrier before the others do, in an order that reverses there; and a barrier or collective that some
// thread never reaches is an error.
#pragma once

#define CONTRASTKIT_EMULATED
#define CUDART_VERSION 13000

#include <c10/macros/Macros.h>
#include <math.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };

using cudaStream_t = void*;

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace emulator {

extern char* dynamic_shared;

[[noreturn]] void fail(const std::string& message);         // RuntimeError in Python
[[noreturn]] void failed_assertion(const char* condition);  // IndexError, as assertions in kernels check indices

void launch(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& thread);
void barrier();
int lane();

// Waits for all lanes of the mask; then `run`, once for all, gets the argument of each lane (nullptr: inactive).
void collective(const char* name, unsigned mask, void* mine, void (*run)(void* const* lanes));

template <typename T>
T shuffle(const char* name, unsigned mask, T value, int from) {
  struct Lane {
    T value;
    int from;
  } mine{value, from};
  collective(name, mask, &mine, [](void* const* lanes) {
    T values[32];
    std::memset(static_cast<void*>(values), 0xff, sizeof values);  // of an inactive lane
    for (int l = 0; l < 32; ++l)
      if (lanes[l]) values[l] = static_cast<Lane*>(lanes[l])->value;
    for (int l = 0; l < 32; ++l)
      if (lanes[l]) static_cast<Lane*>(lanes[l])->value = values[static_cast<Lane*>(lanes[l])->from];
  });
  return mine.value;
}

unsigned ballot(unsigned mask, bool predicate);

// Of mma.cuh. Fragments are those of the PTX ISA, "Matrix multiply-accumulate operation using mma instruction".
void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);  // d += a b
void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void ldmatrix_x4(uint32_t (&r)[4], const void* row);
void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row);
void cp_async16(void* shared, const void* global, int bytes);  // fewer than 16: zeros follow
void cp_async_commit();
void cp_async_wait(int pending_groups);
uint32_t to_tf32(float x);  // cvt.rna: ties away from zero

}  // namespace emulator

#define __global__
#define __device__
#define __shared__ thread_local  // one segment of the library, which the emulator fills
#define __launch_bounds__(...)
#define __grid_constant__
#define __forceinline__ __attribute__((always_inline))
#define __align__(n) __attribute__((aligned(n)))
#undef CUDA_KERNEL_ASSERT
#define CUDA_KERNEL_ASSERT(condition) ((condition) ? (void)0 : emulator::failed_assertion(#condition))

constexpr unsigned kAllLanes = 0xffffffffu;

inline void __syncthreads() { emulator::barrier(); }
inline void __syncwarp(unsigned mask = kAllLanes) {
  emulator::collective("__syncwarp", mask, &mask, [](void* const*) {});
}
inline unsigned __ballot_sync(unsigned mask, bool p) { return emulator::ballot(mask, p); }
inline bool __any_sync(unsigned mask, bool p) { return emulator::ballot(mask, p) != 0; }

template <typename T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  return emulator::shuffle("__shfl_sync", mask, value, (emulator::lane() & ~(width - 1)) | (from & (width - 1)));
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int d, int width = 32) {
  const int lane = emulator::lane(), from = lane ^ d;
  return emulator::shuffle("__shfl_xor_sync", mask, value, from <= (lane | (width - 1)) ? from : lane);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, int d, int width = 32) {
  const int lane = emulator::lane();
  return emulator::shuffle("__shfl_down_sync", mask, value, lane % width + d < width ? lane + d : lane);
}
template <typename T>
T __ldg(const T* at) { return *at; }
template <typename To, typename From>
To bits_as(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To y;
  std::memcpy(&y, &x, sizeof y);
  return y;
}
inline float __uint_as_float(unsigned x) { return bits_as<float>(x); }
inline unsigned __float_as_uint(float x) { return bits_as<unsigned>(x); }

using std::max;
using std::min;
#define __expf expf  // glibc declares its own
inline float rsqrtf(float x) { return 1 / sqrtf(x); }

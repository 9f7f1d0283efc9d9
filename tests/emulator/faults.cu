// Kernels with one fault each, and the instructions of a warp compared with explicit layouts.
#include <c10/util/BFloat16.h>

#include <cstdio>

#include "../../csrc/cuda/launch.h"

using namespace contrastkit::cuda;
using c10::BFloat16;

__global__ void barrier_of_some() {
  if (threadIdx.x < 40) __syncthreads();
}
__global__ void barrier_and_shuffle() {
  if (threadIdx.x < 16) __shfl_xor_sync(~0u, 1.0f, 1);
  else __syncthreads();
}
__global__ void lane_outside_its_mask() { __shfl_sync(0xffffu, 1.0f, 0); }
__global__ void no_barrier(float* out) {
  __shared__ float s[64];
  s[threadIdx.x] = 1;
  out[threadIdx.x] = s[63 - threadIdx.x];
}
__global__ void shared_before_it_is_written(float* out) {
  __shared__ float s[4];
  float* dynamic = reinterpret_cast<float*>(dynamic_shared());
  out[0] = s[1], out[1] = dynamic[1];
  s[1] = dynamic[1] = 1;
}
__global__ void copy_without_wait(const float* from, float* out) {
  __shared__ __align__(16) float s[8];
  emulator::cp_async16(s, from, 16);
  emulator::cp_async_commit();
  emulator::cp_async16(s + 4, from, 8);
  emulator::cp_async_commit();
  emulator::cp_async_wait(1);
  out[0] = s[1], out[1] = s[5];
  emulator::cp_async_wait(0);
  out[2] = s[5], out[3] = s[7];
}

// D [16, 8] = A [16, 16] B [16, 8], A by ldmatrix and B by its transposed form.
__global__ void product(const BFloat16* A, const BFloat16* B, float* D) {
  __shared__ __align__(16) BFloat16 a[256], b[2 * 128];
  const int lane = threadIdx.x, group = lane / 4, pair = lane % 4 * 2;
  for (int i = lane; i < 256; i += 32) a[i] = A[i], b[i] = B[i % 128];
  __syncwarp();
  uint32_t x[4], y[4];
  emulator::ldmatrix_x4(x, a + lane % 16 * 16 + lane / 16 * 8);
  emulator::ldmatrix_x4_trans(y, b + lane * 8);
  float d[4] = {};
  emulator::mma_m16n8k16_bf16(d, x, {y[0], y[1]});
  for (int r = 0; r < 4; ++r) D[(group + r / 2 * 8) * 8 + pair + r % 2] = d[r];
}

template <typename F>
void show(const char* name, F&& run) {
  try {
    run();
  } catch (const std::exception& error) {
    const std::string what = error.what();
    std::printf("%s: %s\n", name, what.substr(0, what.find('\n')).c_str());
  }
}

int main() {
  float out[64];
  show("some", [&] { launch(barrier_of_some, 1, 64, 0, nullptr); });
  show("both", [&] { launch(barrier_and_shuffle, 1, 64, 0, nullptr); });
  show("mask", [&] { launch(lane_outside_its_mask, 1, 32, 0, nullptr); });
  show("size", [&] { launch(barrier_of_some, 1, 2000, 0, nullptr); });
  launch(no_barrier, 2, 64, 0, nullptr, out);
  std::printf("race: %d\n", out[0] != out[0] || out[63] != out[63]);
  launch(shared_before_it_is_written, 2, 1, 64, nullptr, out);
  std::printf("shared: %d%d\n", out[0] != out[0], out[1] != out[1]);
  alignas(16) const float from[4] = {1, 2, 3, 4};
  launch(copy_without_wait, 1, 1, 0, nullptr, from, out);
  std::printf("copy: %g %d %g %g\n", out[0], out[1] != out[1], out[2], out[3]);

  BFloat16 A[256], B[128];
  float D[128], error = 0;
  for (int i = 0; i < 256; ++i) A[i] = i * 7 % 13 - 6;
  for (int i = 0; i < 128; ++i) B[i] = i * 5 % 11 - 5;
  launch(product, 1, 32, 0, nullptr, A, B, D);
  for (int i = 0; i < 128; ++i) {
    float d = 0;
    for (int k = 0; k < 16; ++k) d += A[i / 8 * 16 + k] * B[k * 8 + i % 8];
    error = std::max(error, std::abs(d - D[i]));
  }
  std::printf("product: %g\ntf32: %x %x\n", error, emulator::to_tf32(1 + 0x1p-11f), emulator::to_tf32(1 + 0x1p-12f));
}

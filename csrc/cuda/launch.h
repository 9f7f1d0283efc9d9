// How kernels are launched. With CONTRASTKIT_EMULATED they run on the CPU, in tests/emulator.
#pragma once

#include <c10/cuda/CUDAStream.h>

namespace contrastkit::cuda {

template <typename... Parameters, typename... Arguments>
void launch(
    void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
    Arguments... arguments) {
#ifdef CONTRASTKIT_EMULATED
  emulator::launch(grid, block, shared_bytes, [&] { kernel(arguments...); });
#else
  if (shared_bytes > 48 << 10)
    C10_CUDA_CHECK(cudaFuncSetAttribute(
        reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
        static_cast<int>(shared_bytes)));
  kernel<<<grid, block, shared_bytes, stream>>>(arguments...);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
#endif
}

// The block's dynamic shared memory, aligned to 16 bytes.
__device__ inline char* dynamic_shared() {
#ifdef CONTRASTKIT_EMULATED
  return emulator::dynamic_shared;
#else
  extern __shared__ __align__(16) char memory[];
  return memory;
#endif
}

}  // namespace contrastkit::cuda

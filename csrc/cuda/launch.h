// Launching kernels. With CONTRASTKIT_EMULATED they run on the CPU, in tests/emulator.
#pragma once

#include <c10/cuda/CUDAStream.h>

#include "../common.h"

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

// A 0-dim tensor as an argument: its value if it is on the host, its address if on the device, without synchronisation.
template <typename T>
struct Scalar {
  T value;
  const T* address;
  __device__ T get() const { return address != nullptr ? *address : value; }
};

// `on_device` owns the memory at the address, and may be released once the kernel is launched.
template <typename T>
Scalar<T> scalar(const at::Tensor& x, const at::Device& device, at::Tensor& on_device) {
  Scalar<T> result{0, nullptr};
  if (x.device() == device) {
    on_device = x.to(c10::CppTypeToScalarType<T>::value);
    result.address = data<const T>(on_device);
  } else {
    dispatch(x.scalar_type(), [&](auto zero) {
      result.value = static_cast<T>(*data<const decltype(zero)>(x));
    });
  }
  return result;
}

}  // namespace contrastkit::cuda

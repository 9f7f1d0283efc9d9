// Shared by kernels with one thread per channel or column.
#pragma once

#include <ATen/core/Tensor.h>

namespace contrastkit::cuda {

constexpr int kWarp = 32;
constexpr int kVector = 4;  // numbers read by a thread at once
constexpr unsigned kAll = 0xffffffffu;

template <typename T>
struct alignas(kVector * sizeof(T) < 16 ? kVector * sizeof(T) : 16) Vector {
  T at[kVector];
};

// Whether the tensor is aligned to a Vector.
inline bool in_vectors(const at::Tensor& x) {
  const size_t bytes = kVector * x.element_size();
  return reinterpret_cast<uintptr_t>(x.const_data_ptr()) % (bytes < 16 ? bytes : 16) == 0;
}

// The sum over lanes whose numbers differ in the bits from `least` upwards, bitwise equal in each of them.
template <typename T>
__device__ T sum_of_lanes(T x, int least = 1) {
  for (int d = kWarp / 2; d >= least; d /= 2) x += __shfl_xor_sync(kAll, x, d);
  return x;
}

}  // namespace contrastkit::cuda

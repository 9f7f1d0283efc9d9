// Helpers shared by all kernels. Letters: N rows of a batch, K keys, C channels.
#pragma once

#include <ATen/core/Tensor.h>

#include <type_traits>

namespace contrastkit {

// Calls f with a zero of the tensor's element type: one instantiation of a kernel per floating dtype.
template <typename F>
void dispatch(at::ScalarType dtype, F&& f) {
  switch (dtype) {
    case at::kFloat: return f(float{});
    case at::kDouble: return f(double{});
    case at::kBFloat16: return f(at::BFloat16{});
    case at::kHalf: return f(at::Half{});
    default: TORCH_CHECK(false, "contrastkit: floating dtype expected, got ", dtype);
  }
}

template <typename T>
T* data(const at::Tensor& x) {
  if constexpr (std::is_const_v<T>) return static_cast<T*>(x.const_data_ptr());
  else return static_cast<T*>(x.mutable_data_ptr());
}

inline bool is(const at::Tensor& x, at::ScalarType dtype) { return x.scalar_type() == dtype; }

// Arithmetic is in float, or in double if an input is double.
template <typename A, typename B>
using Accumulator = std::conditional_t<std::is_same_v<A, double> || std::is_same_v<B, double>, double, float>;

// Tells autograd that a tensor was written in place, as torch's own operators do.
inline void bump_version(const at::Tensor& t) { t.unsafeGetTensorImpl()->bump_version(); }

// x, dense: a copy if it shares memory with the tensor to be written.
inline at::Tensor disjoint_copy(const at::Tensor& x, const at::Tensor& written) {
  return x.is_alias_of(written) ? x.clone(at::MemoryFormat::Contiguous) : x.contiguous();
}

// Completes an in-place write of x: `dense` is the tensor that the kernel wrote, x itself or a contiguous copy.
inline void write_back(const at::Tensor& x, const at::Tensor& dense) {
  if (!dense.is_same(x)) x.copy_(dense);
  bump_version(x);
}

}  // namespace contrastkit

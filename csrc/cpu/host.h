// Shared by the CPU ops.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "../common.h"
#include "simd/kernels.h"

namespace contrastkit::cpu {

// The kernels of the best instruction set of this CPU; the variable CONTRASTKIT_ISA may select a lesser one.
const simd::Kernels& kernels();

// Of a 0-dim tensor.
inline double number(const at::Tensor& x) {
  double value = 0;
  dispatch(x.scalar_type(), [&](auto zero) { value = *data<const decltype(zero)>(x); });
  return value;
}

// log(1 + exp(x))
template <typename T>
T softplus(T x) {
  return x != x ? x : std::max(x, T(0)) + std::log1p(std::exp(-std::abs(x)));
}

}  // namespace contrastkit::cpu

#pragma once

#include "../common.h"
#include "simd/kernels.h"

namespace contrastkit::cpu {

// The kernels of the best instruction set that this machine has; CONTRASTKIT_ISA=baseline|avx2|avx512 asks for less.
const simd::Kernels& kernels();

void queue_push_(
    at::Tensor keys, at::Tensor pointer, const at::Tensor& x, std::optional<at::Tensor> n_valid, bool normalize);
void ema_(at::TensorList averages, at::TensorList params, double m);

}  // namespace contrastkit::cpu

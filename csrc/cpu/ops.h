#pragma once

#include <tuple>

#include "../common.h"
#include "simd/kernels.h"

namespace contrastkit::cpu {

// The kernels of the best instruction set that this machine has; CONTRASTKIT_ISA=baseline|avx2|avx512 asks for less.
const simd::Kernels& kernels();

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> infonce(
    const at::Tensor& query, const at::Tensor& positive, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids, bool with_dquery);
void queue_push_(
    at::Tensor keys, at::Tensor pointer, const at::Tensor& x, std::optional<at::Tensor> n_valid, bool normalize);
void ema_(at::TensorList averages, at::TensorList params, double m);

}  // namespace contrastkit::cpu

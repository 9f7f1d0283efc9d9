#pragma once

#include "../common.h"

namespace contrastkit::cuda {

void queue_push_(
    at::Tensor keys, at::Tensor pointer, const at::Tensor& x, std::optional<at::Tensor> n_valid, bool normalize);
void ema_(at::TensorList averages, at::TensorList params, double m);

}  // namespace contrastkit::cuda

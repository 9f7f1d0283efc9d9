#pragma once

namespace contrastkit::cuda {

// In products of float32, by torch.backends.cuda.matmul.fp32_precision and its older names.
bool tf32_allowed();

}  // namespace contrastkit::cuda

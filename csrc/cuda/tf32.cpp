#include <ATen/Context.h>

#include "tf32.h"

namespace contrastkit::cuda {

bool tf32_allowed() {
  return at::globalContext().float32Precision(at::Float32Backend::CUDA, at::Float32Op::MATMUL) == at::Float32Precision::TF32;
}

}  // namespace contrastkit::cuda

// The kernels of csrc/cuda/register.cpp under a separate key, so that a GPU's kernels can be loaded as well.
#include <torch/library.h>

#undef TORCH_LIBRARY_IMPL
#define TORCH_LIBRARY_IMPL(library, key, m) _TORCH_LIBRARY_IMPL(library, PrivateUse3, m, C10_UID)
#include "../../csrc/cuda/register.cpp"

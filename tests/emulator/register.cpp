// The kernels of csrc/cuda/register.cpp under a key of their own: a GPU's kernels may be loaded beside them.
#include <torch/library.h>

#undef TORCH_LIBRARY_IMPL
#define TORCH_LIBRARY_IMPL(library, key, m) _TORCH_LIBRARY_IMPL(library, PrivateUse3, m, C10_UID)
#include "../../csrc/cuda/register.cpp"

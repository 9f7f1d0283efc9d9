#include <cstdlib>
#include <cstring>

#include "ops.h"

namespace contrastkit::cpu {

static const simd::Kernels& best() {
#ifdef CONTRASTKIT_X86_64
  const char* wish = std::getenv("CONTRASTKIT_ISA");
  if (wish != nullptr)
    TORCH_CHECK_VALUE(
        std::strcmp(wish, "baseline") == 0 || std::strcmp(wish, "avx2") == 0 || std::strcmp(wish, "avx512") == 0,
        "CONTRASTKIT_ISA is baseline, avx2 or avx512, not ", wish);
  const auto allowed = [wish](const char* isa) { return wish == nullptr || std::strcmp(wish, isa) == 0; };
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (avx512 && allowed("avx512")) return simd::avx512::kernels;
  if (avx2 && (allowed("avx2") || allowed("avx512"))) return simd::avx2::kernels;
#endif
  return simd::baseline::kernels;
}

const simd::Kernels& kernels() {
  static const simd::Kernels& chosen = best();
  return chosen;
}

}  // namespace contrastkit::cpu

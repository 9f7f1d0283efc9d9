#include <cstdlib>
#include <cstring>

#include "host.h"

namespace contrastkit::cpu {

static const simd::Kernels& best() {
#ifdef CONTRASTKIT_X86_64
  const char* requested = std::getenv("CONTRASTKIT_ISA");
  if (requested != nullptr)
    TORCH_CHECK_VALUE(
        std::strcmp(requested, "baseline") == 0 || std::strcmp(requested, "avx2") == 0 || std::strcmp(requested, "avx512") == 0,
        "CONTRASTKIT_ISA is baseline, avx2 or avx512, not ", requested);
  const auto allowed = [requested](const char* isa) { return requested == nullptr || std::strcmp(requested, isa) == 0; };
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

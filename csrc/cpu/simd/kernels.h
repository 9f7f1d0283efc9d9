// Kernels that are compiled once per instruction set. This header and kernels.cpp see raw pointers only and include no
// header with inline functions: compiled for AVX-512, the linker could merge such a function into baseline code.
#pragma once

#include <cstdint>

namespace contrastkit::simd {

struct bf16 {
  uint16_t bits;
};

template <typename A, typename P>
using Ema = void (*)(A* a, const P* p, int64_t n, double m);  // a <- m a + (1 - m) p

template <typename X, typename K>
using Enqueue = void (*)(const X* x, K* key, int64_t C, bool normalize);  // one row

struct Kernels {
  const char* isa;
  Ema<float, float> ema_ff;
  Ema<float, bf16> ema_fb;
  Ema<bf16, bf16> ema_bb;
  Enqueue<float, float> enqueue_ff;
  Enqueue<float, bf16> enqueue_fb;
  Enqueue<bf16, float> enqueue_bf;
  Enqueue<bf16, bf16> enqueue_bb;
};

namespace baseline {
extern const Kernels kernels;
}
#ifdef CONTRASTKIT_X86_64
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
#endif

}  // namespace contrastkit::simd

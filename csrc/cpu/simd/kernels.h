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

// Keys that are no negatives of a row; null where there is no such mask.
struct Masks {
  const int64_t* exclude;  // [n, E], -1 pads
  int64_t E;
  const int64_t *query_ids, *key_ids;  // [n], [K]
};

constexpr int64_t kTile = 128;  // keys whose logits are looked at together

constexpr int64_t padded(int64_t C) { return (C + 31) / 32 * 32; }

// Floats that one call of InfoNCE works in.
constexpr int64_t infonce_scratch(int64_t n, int64_t C) { return (n + 2 * padded(C)) * kTile; }

// Attention of n rows to the keys in [first, last), keys being values: with s = q k, top = max s, m = max(top, lowest),
// z = sum exp(s - m) and, where it is not null, O [n, padded(C)] = sum exp(s - m) k. Results are written, not added to.
template <typename X>
using InfoNCE = void (*)(
    const float* q, const X* keys, int64_t n, int64_t first, int64_t last, int64_t C, const Masks& masks,
    float* scratch, float* top, float* m, float* z, float* O);

struct Kernels {
  const char* isa;
  Ema<float, float> ema_ff;
  Ema<float, bf16> ema_fb;
  Ema<bf16, bf16> ema_bb;
  Enqueue<float, float> enqueue_ff;
  Enqueue<float, bf16> enqueue_fb;
  Enqueue<bf16, float> enqueue_bf;
  Enqueue<bf16, bf16> enqueue_bb;
  InfoNCE<float> infonce_f;
  InfoNCE<bf16> infonce_b;
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

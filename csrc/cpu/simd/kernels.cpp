// setup.py compiles this file once per instruction set; CONTRASTKIT_ISA names the namespace.
#include "kernels.h"

#define STRING_(x) #x
#define STRING(x) STRING_(x)

namespace contrastkit::simd::CONTRASTKIT_ISA {
namespace {

inline float load(float x) { return x; }

inline float load(bf16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

inline void store(float& y, float x) { y = x; }

inline void store(bf16& y, float x) {  // to nearest, ties to even
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  y.bits = static_cast<uint16_t>(x != x ? 0x7fc0u : rounded);
}

template <typename A, typename P>
void ema(A* __restrict a, const P* __restrict p, int64_t n, double m_) {
  const float m = m_, w = 1.0 - m_;  // the small one of the two must not be a difference of floats
  if (m > 0.5f) {
    for (int64_t i = 0; i < n; ++i) store(a[i], load(a[i]) + w * (load(p[i]) - load(a[i])));
  } else {  // exact at m = 0
    for (int64_t i = 0; i < n; ++i) store(a[i], load(p[i]) - m * (load(p[i]) - load(a[i])));
  }
}

template <typename X>
float sum_of_squares(const X* x, int64_t C) {
  constexpr int L = 32;  // partial sums in a fixed order: vectors of any width add alike
  float partial[L] = {};
  int64_t c = 0;
  for (; c + L <= C; c += L)
    for (int l = 0; l < L; ++l) partial[l] += load(x[c + l]) * load(x[c + l]);
  for (; c < C; ++c) partial[c % L] += load(x[c]) * load(x[c]);
  for (int l = L / 2; l > 0; l /= 2)
    for (int i = 0; i < l; ++i) partial[i] += partial[i + l];
  return partial[0];
}

template <typename X, typename K>
void enqueue(const X* __restrict x, K* __restrict key, int64_t C, bool normalize) {
  float norm = 1.0f;
  if (normalize) {
    norm = __builtin_sqrtf(sum_of_squares(x, C));
    norm = norm < 1e-12f ? 1e-12f : norm;  // NaN stays NaN
  }
  for (int64_t c = 0; c < C; ++c) store(key[c], load(x[c]) / norm);
}

}  // namespace

const Kernels kernels = {
    STRING(CONTRASTKIT_ISA),
    ema<float, float>,
    ema<float, bf16>,
    ema<bf16, bf16>,
    enqueue<float, float>,
    enqueue<float, bf16>,
    enqueue<bf16, float>,
    enqueue<bf16, bf16>,
};

}  // namespace contrastkit::simd::CONTRASTKIT_ISA

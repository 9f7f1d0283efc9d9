#pragma once

#include "vec.h"

namespace contrastkit::simd::CONTRASTKIT_ISA {
namespace {

template <typename A, typename P>
void ema(A* __restrict a, const P* __restrict p, int64_t n, double m_) {
  const float m = m_, w = 1.0 - m_;  // the smaller of the two must not be a difference of floats
  if (m > 0.5f) {
    for (int64_t i = 0; i < n; ++i) store(a[i], load(a[i]) + w * (load(p[i]) - load(a[i])));
  } else {  // exact at m = 0
    for (int64_t i = 0; i < n; ++i) store(a[i], load(p[i]) - m * (load(p[i]) - load(a[i])));
  }
}

}  // namespace
}  // namespace contrastkit::simd::CONTRASTKIT_ISA

#pragma once

#include "vec.h"

namespace contrastkit::simd::CONTRASTKIT_ISA {
namespace {

template <typename X>
void sinkhorn_tops(const X* scores, int64_t n, int64_t K, float* tops) {
  int64_t k = 0;
  for (; k + 4 * V <= K; k += 4 * V) {
    vec top[4];
    for (int j = 0; j < 4; ++j) top[j] = vec{} - __FLT_MAX__;
    for (int64_t i = 0; i < n; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) top[j] = max(loadv(scores + i * K + k + j * V), top[j]);
    for (int j = 0; j < 4; ++j) storev(tops + k + j * V, top[j]);
  }
  for (; k < K; ++k) {
    tops[k] = -__FLT_MAX__;
    for (int64_t i = 0; i < n; ++i) tops[k] = load(scores[i * K + k]) > tops[k] ? load(scores[i * K + k]) : tops[k];
  }
}

template <typename X>
void sinkhorn_begin(const X* scores, const float* tops, float* E, int64_t n, int64_t K, float scale, float* t) {
  const int64_t whole = K / V * V;
  for (int64_t k = 0; k < K; ++k) t[k] = 0;
  for (int64_t i = 0; i < n; ++i, scores += K, E += K) {
    vec high = vec{} - __FLT_MAX__;
    for (int64_t k = 0; k < whole; k += V) high = max(loadv(scores + k) - loadv(tops + k), high);
    for (int64_t k = whole; k < K; ++k) {
      const float x = load(scores[k]) - tops[k];
      high[0] = x > high[0] ? x : high[0];
    }
    const float d = largest(high), w = exp_(vec{} + d * scale)[0];
    for (int64_t k = 0; k < whole; k += V) {
      const vec e = exp_((loadv(scores + k) - loadv(tops + k) - d) * scale);
      storev(E + k, e);
      storev(t + k, loadv(t + k) + w * e);
    }
    for (int64_t k = whole; k < K; ++k) {
      E[k] = exp_(vec{} + (load(scores[k]) - tops[k] - d) * scale)[0];
      t[k] += w * E[k];
    }
  }
}

inline float dot(const float* x, const float* y, int64_t K) {
  vec a{}, b{}, c{}, d{};
  int64_t k = 0;
  for (; k + 4 * V <= K; k += 4 * V) {
    a += loadv(x + k) * loadv(y + k);
    b += loadv(x + k + V) * loadv(y + k + V);
    c += loadv(x + k + 2 * V) * loadv(y + k + 2 * V);
    d += loadv(x + k + 3 * V) * loadv(y + k + 3 * V);
  }
  for (; k < K; ++k) a[0] += x[k] * y[k];
  return total(a + b + (c + d));
}

// t [K] = sum over n rows of scale E / (E.v)
void sinkhorn_sums(const float* E, int64_t n, int64_t K, float scale, const float* v, float* t) {
  for (int64_t k = 0; k < K; ++k) t[k] = 0;
  for (int64_t i = 0; i < n; ++i, E += K) {
    const float c = scale / dot(E, v, K);
    for (int64_t k = 0; k < K; ++k) t[k] += c * E[k];
  }
}

// E <- E v / (E.v), row by row
void sinkhorn_end(float* E, int64_t n, int64_t K, const float* v) {
  for (int64_t i = 0; i < n; ++i, E += K) {
    const float c = 1 / dot(E, v, K);
    for (int64_t k = 0; k < K; ++k) E[k] *= c * v[k];
  }
}

}  // namespace
}  // namespace contrastkit::simd::CONTRASTKIT_ISA

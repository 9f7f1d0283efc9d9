#pragma once

#include "queue.h"

namespace contrastkit::simd::CONTRASTKIT_ISA {
namespace {

// Rows looked at together: their logits fill one vector, and they stay in the innermost cache between dot and gradient.
constexpr int64_t G = V;

template <typename B>
inline void prefetch(const B* row, int64_t C) {
  for (int64_t c = 0; c < C; c += 64 / static_cast<int64_t>(sizeof(B))) __builtin_prefetch(row + c, 0, 3);
}

// q.row for each of G rows; meanwhile rows that come later are fetched.
template <typename B>
inline vec dots(const float* q, const B* const* rows, const B* const* later, int64_t C) {
  vec sums[G];
  const int64_t whole = C / V * V;
  for (int64_t k = 0; k < G; ++k) {
    prefetch(later[k], C);
    vec even{}, odd{};
    int64_t c = 0;
    for (; c + V < whole; c += 2 * V) {
      even += loadv(q + c) * loadv(rows[k] + c);
      odd += loadv(q + c + V) * loadv(rows[k] + c + V);
    }
    if (c < whole) even += loadv(q + c) * loadv(rows[k] + c);
    sums[k] = even + odd;
    for (c = whole; c < C; ++c) sums[k][0] += q[c] * load(rows[k][c]);
  }
  transpose(sums);
  for (int64_t n = G / 2; n > 0; n /= 2)
    for (int64_t k = 0; k < n; ++k) sums[k] += sums[k + n];
  return sums[0];
}

// dq += sum over G rows of g row.
template <typename B>
inline void add_rows(const float* g, const B* const* rows, int64_t C, float* dq) {
  const int64_t whole = C / V * V;
  for (int64_t c = 0; c < whole; c += V) {
    vec sum = loadv(dq + c);
#pragma GCC unroll 16
    for (int64_t k = 0; k < G; ++k) sum += g[k] * loadv(rows[k] + c);
    storev(dq + c, sum);
  }
  for (int64_t c = whole; c < C; ++c)
    for (int64_t k = 0; k < G; ++k) dq[c] += g[k] * load(rows[k][c]);
}

template <typename B>
void bank_noise(
    const float* q, const B* bank, const int64_t* index, int64_t draws, int64_t slots, int64_t C, const float* offset,
    float* m, float* z, float* nce, float* dq) {
  const int64_t width = slots * C;
  for (int64_t v = 0; v < slots; ++v) m[v] = -__FLT_MAX__, z[v] = 0, nce[v] = 0;
  for (int64_t c = 0; dq && c < width; ++c) dq[c] = 0;

  for (int64_t from = 0; from < draws; from += G) {
    const int64_t n = draws - from < G ? draws - from : G;
    const B *rows[G], *later[G];
    for (int64_t v = 0; v < slots; ++v) {
      for (int64_t k = 0; k < G; ++k) {
        const int64_t last = draws - 1, here = from + k, ahead = here + G;
        rows[k] = bank + index[here < last ? here : last] * width + v * C;
        later[k] = bank + index[ahead < last ? ahead : last] * width + v * C;
      }
      vec s = dots(q + v * C, rows, later, C);
      s = lanes() < static_cast<int32_t>(n) ? s : vec{} - __builtin_inff();

      const float best = largest(s), before = m[v];
      m[v] = best > before ? best : before;
      const float rescale = exp_(vec{} + (before - m[v]))[0];
      const vec e = exp_(s - m[v]);
      z[v] = z[v] * rescale + total(e);
      float g[G];
      if (offset) {
        const vec x = s - offset[v], size = x < 0.0f ? -x : x, y = exp_(-size);
        nce[v] += total(max(x, vec{}) + log1p_(y));
        storev(g, (x < 0.0f ? y : vec{} + 1.0f) / (y + 1.0f));
      } else {
        if (dq && rescale != 1.0f)
          for (int64_t c = 0; c < C; ++c) dq[v * C + c] *= rescale;
        storev(g, e);
      }
      if (dq) add_rows(g, rows, C, dq + v * C);
    }
  }
}

// out = normalize(m old + (1 - m) x)
template <typename B, typename X>
void bank_row(const B* old, const X* x, int64_t C, double m_, float* work, B* out) {
  const float m = m_, w = 1.0 - m_;
  for (int64_t c = 0; c < C; ++c) {
    const float a = load(old[c]), p = load(x[c]), d = p - a;
    work[c] = m > 0.5f ? a + w * d : p - m * d;
  }
  enqueue(work, out, C, true);
}

}  // namespace
}  // namespace contrastkit::simd::CONTRASTKIT_ISA

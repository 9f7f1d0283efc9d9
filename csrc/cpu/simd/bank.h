#pragma once

#include "queue.h"

namespace contrastkit::simd::CONTRASTKIT_ISA {
namespace {

// Rows processed together: their logits fill one vector, and they stay in L1 between dot product and gradient.
constexpr int64_t G = V;
constexpr int64_t kAhead = 32;  // rows between the prefetch of a row and its use: the latency of memory

template <typename B>
inline __attribute__((always_inline)) void prefetch(const B* row, int64_t C) {
  for (int64_t c = 0; c < C; c += 64 / static_cast<int64_t>(sizeof(B))) __builtin_prefetch(row + c, 0, 3);
}

// q.row for each of G rows. Meanwhile the first `near` channels of later rows are prefetched: prefetching all at once
// would stall the core, so `add_rows` prefetches the others.
template <typename B>
inline __attribute__((always_inline)) vec dots(const float* q, const B* const* rows, const B* const* later, int64_t near, int64_t C) {
  vec sums[G];
  const int64_t whole = C / V * V;
  for (int64_t k = 0; k < G; ++k) {
    prefetch(later[k], near);
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
  // Sums of neighbouring lanes, until the sum of each vector is in one lane.
  const ivec even_lanes = lanes() * 2, odd_lanes = even_lanes + 1;
#pragma GCC unroll 4
  for (int64_t n = G / 2; n > 0; n /= 2)
#pragma GCC unroll 8
    for (int64_t k = 0; k < n; ++k) {
      const vec x = sums[2 * k], y = sums[2 * k + 1];
      sums[k] = __builtin_shuffle(x, y, even_lanes) + __builtin_shuffle(x, y, odd_lanes);
    }
  return sums[0];
}

// dq += sum over G rows of g row.
template <typename B>
inline __attribute__((always_inline)) void add_rows(
    const float* g, const B* const* rows, const B* const* later, int64_t near, int64_t C, float* dq) {
  int64_t c = 0;
  for (; c + 8 * V <= C; c += 8 * V) {
    vec sums[8];
    for (int i = 0; i < 8; ++i) sums[i] = loadv(dq + c + i * V);
    for (int64_t k = 0; k < G; ++k) {
      if (c == 0) prefetch(later[k] + near, C - near);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) sums[i] += g[k] * loadv(rows[k] + c + i * V);
    }
    for (int i = 0; i < 8; ++i) storev(dq + c + i * V, sums[i]);
  }
  for (; c + V <= C; c += V) {
    vec sum = loadv(dq + c);
    for (int64_t k = 0; k < G; ++k) sum += g[k] * loadv(rows[k] + c);
    storev(dq + c, sum);
  }
  for (; c < C; ++c)
    for (int64_t k = 0; k < G; ++k) dq[c] += g[k] * load(rows[k][c]);
}

template <typename B>
inline __attribute__((always_inline)) void bank_noise_of(
    const float* q, const B* bank, const int64_t* index, int64_t draws, int64_t slots, int64_t C, const float* offset,
    float* work, float* m, float* z, float* nce, float* dq) {
  const int64_t width = slots * C, near = dq && C >= 8 * V ? C / 2 : C;
  float *zs = work, *nces = work + slots * V;  // per lane, so that no call waits for the previous one
  for (int64_t v = 0; v < slots; ++v) m[v] = -__FLT_MAX__;
  for (int64_t l = 0; l < 2 * slots * V; ++l) work[l] = 0;
  for (int64_t c = 0; dq && c < width; ++c) dq[c] = 0;

  for (int64_t from = 0; from < draws; from += G) {
    const int64_t n = draws - from < G ? draws - from : G;
    const B *rows[G], *later[G];
    for (int64_t v = 0; v < slots; ++v) {
      for (int64_t k = 0; k < G; ++k) {
        const int64_t last = draws - 1, here = from + k, ahead = here + kAhead;
        rows[k] = bank + index[here < last ? here : last] * width + v * C;
        later[k] = bank + index[ahead < last ? ahead : last] * width + v * C;
      }
      vec s = dots(q + v * C, rows, later, near, C);
      s = lanes() < static_cast<int32_t>(n) ? s : vec{} - __builtin_inff();

      const float best = largest(s);
      if (best > m[v]) {
        const float rescale = exp_(vec{} + (m[v] - best))[0];
        m[v] = best;
        storev(zs + v * V, rescale * loadv(zs + v * V));
        for (int64_t c = 0; dq && !offset && c < C; ++c) dq[v * C + c] *= rescale;
      }
      const vec e = exp_(s - m[v]);
      storev(zs + v * V, loadv(zs + v * V) + e);
      float g[G];
      if (offset) {
        const vec x = s - offset[v], size = x < 0.0f ? -x : x, y = exp_(-size);
        storev(nces + v * V, loadv(nces + v * V) + (max(x, vec{}) + log1p_(y)));
        storev(g, (x < 0.0f ? y : vec{} + 1.0f) / (y + 1.0f));
      } else {
        storev(g, e);
      }
      if (dq) add_rows(g, rows, later, near, C, dq + v * C);
    }
  }
  for (int64_t v = 0; v < slots; ++v) z[v] = total(loadv(zs + v * V)), nce[v] = total(loadv(nces + v * V));
}

// With the papers' C as a constant the loops unroll, which saves a fifth of the time.
template <typename B>
void bank_noise(
    const float* q, const B* bank, const int64_t* index, int64_t draws, int64_t slots, int64_t C, const float* offset,
    float* work, float* m, float* z, float* nce, float* dq) {
  if (C == 128) bank_noise_of(q, bank, index, draws, slots, 128, offset, work, m, z, nce, dq);
  else bank_noise_of(q, bank, index, draws, slots, C, offset, work, m, z, nce, dq);
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

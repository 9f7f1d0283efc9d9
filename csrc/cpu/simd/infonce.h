#pragma once

#include "product.h"

namespace contrastkit::simd::CONTRASTKIT_ISA {
namespace {

// Minus infinity for the keys [from, from + t) that are not negatives of row i, and for the rest of the tile.
inline void mask(const Masks& masks, int64_t i, int64_t from, int64_t t, float* s) {
  const float infinity = __builtin_inff();
  if (masks.key_ids)
    for (int64_t j = 0; j < t; ++j)
      if (masks.key_ids[from + j] == masks.query_ids[i]) s[j] = -infinity;
  for (int64_t e = 0; e < masks.E; ++e) {
    const int64_t j = masks.exclude[i * masks.E + e];
    if (j >= from && j < from + t) s[j - from] = -infinity;
  }
  for (int64_t j = t; j < kTile; ++j) s[j] = -infinity;
}

template <typename X>
void infonce(
    const float* q, const X* keys, int64_t n, int64_t first, int64_t last, int64_t C, const Masks& masks,
    float* scratch, float* top, float* m, float* z, float* O) {
  const int64_t Cp = padded(C);
  float *S = scratch, *packed_keys = S + n * kTile, *packed_values = packed_keys + Cp * kTile;
  for (int64_t i = 0; i < n; ++i) top[i] = -__builtin_inff(), m[i] = -__FLT_MAX__, z[i] = 0;
  if (O)
    for (int64_t i = 0; i < n * Cp; ++i) O[i] = 0;

  for (int64_t from = first; from < last; from += kTile) {
    const int64_t t = last - from < kTile ? last - from : kTile;
    pack(keys + from * C, t, C, packed_values, packed_keys);
    product(n, kTile, C, q, C, packed_keys, C, S, kTile, false);

    const char *next = reinterpret_cast<const char*>(keys + (from + t) * C), *end = next + kTile * C * sizeof(X);
    if (from + 2 * kTile > last) end = next;
    for (int64_t i = 0; i < n; ++i) {
      float* s = S + i * kTile;
      // prefetches the next tile, one part per row
      for (const char* to = next + (end - next) / n + 64; next < to && next < end; next += 64) __builtin_prefetch(next, 0, 2);
      mask(masks, i, from, t, s);
      vec high = loadv(s);
      for (int64_t j = V; j < kTile; j += V) high = max(loadv(s + j), high);
      const float best = largest(high);
      if (best > top[i]) top[i] = best;
      if (best > m[i]) {
        const float rescale = exp_(vec{} + (m[i] - best))[0];
        z[i] *= rescale;
        if (O)
          for (int64_t c = 0; c < Cp; ++c) O[i * Cp + c] *= rescale;
        m[i] = best;
      }
      vec sum{};
      for (int64_t j = 0; j < kTile; j += V) {
        const vec e = exp_(loadv(s + j) - m[i]);
        sum += e;
        storev(s + j, e);
      }
      z[i] += total(sum);
    }
    if (O) product(n, Cp, kTile, S, kTile, packed_values, kTile, O, Cp, true);
  }
}

void infonce_dkeys(
    const Tile& q, const Tile& keys, int64_t C, const Masks& masks, const float* g, const float* lse, float* S,
    float* dkeys) {
  product(q.n, kTile, C, q.rows, C, keys.packed_keys, C, S, kTile, false);
  for (int64_t i = 0; i < q.n; ++i) {
    float* s = S + i * kTile;
    mask(masks, i, keys.first, keys.n, s);
    for (int64_t j = 0; j < kTile; j += V) storev(s + j, g[i] * exp_(loadv(s + j) - lse[i]));
  }
  product<true>(keys.n, padded(C), q.n, S, kTile, q.packed_values, kTile, dkeys, padded(C), true);
}

}  // namespace
}  // namespace contrastkit::simd::CONTRASTKIT_ISA

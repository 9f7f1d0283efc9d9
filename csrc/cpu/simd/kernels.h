// Kernels that are compiled once per instruction set. This header and kernels.cpp see raw pointers only and include no
// header with inline functions: compiled for AVX-512, the linker could merge such a function into baseline code.
#pragma once

#include <cstdint>

#include "../../colours.h"

namespace contrastkit::simd {

struct bf16 {
  uint16_t bits;
};

template <typename A, typename P>
using Ema = void (*)(A* a, const P* p, int64_t n, double m);  // a <- m a + (1 - m) p

template <typename X, typename K>
using Enqueue = void (*)(const X* x, K* key, int64_t C, bool normalize);  // one row

// Keys that are not negatives of a row; null without such a mask.
struct Masks {
  const int64_t* exclude;  // [n, E], -1 pads
  int64_t E;
  const int64_t *query_ids, *key_ids;  // [n], [K]
};

constexpr int64_t kTile = 128;  // keys whose logits are processed together

constexpr int64_t padded(int64_t C) { return (C + 31) / 32 * 32; }

// Floats of working memory for one call of InfoNCE.
constexpr int64_t infonce_scratch(int64_t n, int64_t C) { return (n + 2 * padded(C)) * kTile; }

// Attention of n rows to the keys in [first, last), keys being values: with s = q k, top = max s, m = max(top, lowest),
// z = sum exp(s - m) and, unless null, O [n, padded(C)] = sum exp(s - m) k. Results are overwritten, not accumulated.
template <typename X>
using InfoNCE = void (*)(
    const float* q, const X* keys, int64_t n, int64_t first, int64_t last, int64_t C, const Masks& masks,
    float* scratch, float* top, float* m, float* z, float* O);

// A tile of up to kTile rows, starting at row `first`.
struct Tile {
  int64_t first, n;
  const float* rows;            // [n, C], over tau
  const float *packed_values, *packed_keys;  // packed, as the right matrix of a product
};

// A tile of t rows [t, C], as the right matrix of P x (packed_values: padded(C) x kTile floats) and, unless
// null, of q x^T (packed_keys: C x kTile).
template <typename X>
using Pack = void (*)(const X* x, int64_t t, int64_t C, float* packed_values, float* packed_keys);

// dkeys [keys.n, padded(C)] += sum over the tile's queries of g P q, where P = exp(s - lse). S: kTile^2 floats of work.
// Reads rows and packed_values of q, and packed_keys of keys. masks, g and lse begin at the tile's first query.
using InfoNCEdkeys = void (*)(
    const Tile& q, const Tile& keys, int64_t C, const Masks& masks, const float* g, const float* lse, float* S,
    float* dkeys);

// For the logits s of each row of a tile: m = max(s, lowest) and z = sum exp(s - m), accumulated over calls.
struct Sums {
  float *m, *z;  // [kTile]
};

// Of all rows, padded by kTile: the gradient of each one's loss, and its log-sum-exp.
struct Softmax {
  const float *g, *lse;
};

// NT-Xent between the rows of I and those of J, groups of 2 half rows. If J's m is null, only I's sums are computed. S: kTile^2 floats.
using NTXent = void (*)(const Tile& I, const Tile& J, int64_t C, int64_t half, float* S, Sums of_I, Sums of_J);

// d_I [I.n, padded(C)] += W J and, unless d_J is null, d_J += W^T I, with W = g_i exp(s - lse_i) + g_j exp(s - lse_j).
using NTXentdz = void (*)(
    const Tile& I, const Tile& J, int64_t C, int64_t half, float* W, const Softmax& of_z, float* d_I, float* d_J);

// The same of pairs: a row meets partners, of which its own, the one at its place, is no negative, nor are those with
// its id. ids: of all pairs, null without.
using CLIP = void (*)(const Tile& I, const Tile& J, int64_t C, const int64_t* ids, float* S, Sums of_I, Sums of_J);
using CLIPdxy = void (*)(
    const Tile& I, const Tile& J, int64_t C, const int64_t* ids, float* W, const Softmax& of_x, const Softmax& of_y,
    float* d_I, float* d_J);

// For the logits u = s + b of each row of I with its negatives in J: top = max s, loss += softplus(u), slope += sigmoid(u).
struct Logistic {
  float *top, *loss, *slope;
};
using SigLIP = void (*)(
    const Tile& I, const Tile& J, int64_t C, const int64_t* ids, float b, float* S, Logistic of_I);

// As CLIPdxy, with W = (g_i + g_j) sigmoid(s + b); g_x, g_y: of all rows, padded by kTile.
using SigLIPdxy = void (*)(
    const Tile& I, const Tile& J, int64_t C, const int64_t* ids, float b, float* W, const float* g_x, const float* g_y,
    float* d_I, float* d_J);

// A query's `slots` vectors q [slots, C], over tau, against rows of the bank [M, slots, C]. For each slot: m = max(s,
// lowest), z = sum exp(s - m); with an offset [slots], x = s - offset, nce = sum softplus(x) and dq = sum sigmoid(x) row;
// else dq = sum exp(s - m) row. dq [slots, C] may be null. work: 32 floats per slot.
template <typename B>
using BankNoise = void (*)(
    const float* q, const B* bank, const int64_t* index, int64_t draws, int64_t slots, int64_t C, const float* offset,
    float* work, float* m, float* z, float* nce, float* dq);

// out = normalize(m old + (1 - m) x); work: C floats
template <typename B, typename X>
using BankRow = void (*)(const B* old, const X* x, int64_t C, double m, float* work, B* out);

// tops [K] = the largest of n rows' scores, or lowest.
template <typename X>
using SinkhornTops = void (*)(const X* scores, int64_t n, int64_t K, float* tops);

// n rows of E = exp(scale (scores - tops - d)), d being the largest difference of a row, and t [K] = sum exp(scale d) E.
template <typename X>
using SinkhornBegin = void (*)(
    const X* scores, const float* tops, float* E, int64_t n, int64_t K, float scale, float* t);

// t [K] = sum over n rows of scale E / (E.v), and E <- E v / (E.v)
using SinkhornSums = void (*)(const float* E, int64_t n, int64_t K, float scale, const float* v, float* t);
using SinkhornEnd = void (*)(float* E, int64_t n, int64_t K, const float* v);

// A filter along an axis: output j is the sum of weights[j * taps + k] times pixel first[j] + k, over k < taps.
struct Filter {
  int64_t taps;
  int32_t* first;
  float* weights;
};

constexpr int64_t kStrip = 16;  // rows and columns of a view are padded to a multiple; so are a Filter's outputs

constexpr int64_t in_strips(int64_t n) { return (n + kStrip - 1) / kStrip * kStrip; }

// A view of an image, by the numbers of its row in the table.
struct View {
  const uint8_t *pixels, *end;                  // its image, and the end of the memory around it
  int64_t height, width, channel, row, column;  // of the image; strides
  const float* pose;                            // null: the image as it is
  int64_t top, left, h, w;                      // the crop
  Filter down, across;                          // from its h rows and w columns to size
  Operation operations[5];                      // in their order
  int n_operations;
  const float* factors;                         // four
  int64_t radius;                               // of the blur, 0 without
  const float* kernel;                          // its weights at distances 0 to radius, null: none
  bool solarize;
};

// What all views share.
struct Form {
  int64_t channels, size;
  bool channels_last;
  const float *mean, *inverse;  // subtracted, then multiplied by; null: neither
  bool clip;                    // the resized pixels to [0, 1]
  Border border;
};

// Floats of working memory: the view, between the ends of its columns; a strip of the crop, not yet resized across; a row
// between its ends; the channels' means; rows of the posed image.
constexpr int64_t augment_scratch(int64_t channels, int64_t size, int64_t radius, int64_t w, int64_t posed_rows) {
  const int64_t side = in_strips(size), strip = in_strips(w * channels) + kStrip;
  const int64_t view = channels * (side + 2 * radius) * side;
  return view + strip * kStrip + 4 * side + in_strips(channels) + posed_rows * (w + kStrip);
}

template <typename Y>
using Augment = void (*)(const View& view, const Form& form, float* scratch, Y* out);

// q.k, summed channel by channel as in the products.
using Logit = float (*)(const float* q, const float* k, int64_t C);

struct Kernels {
  const char* isa;
  Ema<float, float> ema_ff;
  Ema<float, bf16> ema_fb;
  Ema<bf16, bf16> ema_bb;
  Enqueue<float, float> enqueue_ff;
  Enqueue<float, bf16> enqueue_fb;
  Enqueue<bf16, float> enqueue_bf;
  Enqueue<bf16, bf16> enqueue_bb;
  Pack<float> pack_f;
  Pack<bf16> pack_b;
  Logit logit;
  InfoNCE<float> infonce_f;
  InfoNCE<bf16> infonce_b;
  InfoNCEdkeys infonce_dkeys;
  NTXent ntxent;
  NTXentdz ntxent_dz;
  CLIP clip;
  CLIPdxy clip_dxy;
  SigLIP siglip;
  SigLIPdxy siglip_dxy;
  BankNoise<float> bank_noise_f;
  BankNoise<bf16> bank_noise_b;
  BankRow<float, float> bank_row_ff;
  BankRow<float, bf16> bank_row_fb;
  BankRow<bf16, float> bank_row_bf;
  BankRow<bf16, bf16> bank_row_bb;
  SinkhornTops<float> sinkhorn_tops_f;
  SinkhornTops<bf16> sinkhorn_tops_b;
  SinkhornBegin<float> sinkhorn_begin_f;
  SinkhornBegin<bf16> sinkhorn_begin_b;
  SinkhornSums sinkhorn_sums;
  SinkhornEnd sinkhorn_end;
  Augment<float> augment_f;
  Augment<bf16> augment_b;
  Augment<uint8_t> augment_u;
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

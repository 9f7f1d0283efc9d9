#include <algorithm>
#include <cmath>

#include "../queue.h"
#include "host.h"

namespace contrastkit::cpu {
namespace {

using simd::bf16;

template <typename X, typename K>
void enqueue(const X* x, K* key, int64_t C, bool normalize) {
  using acc = Accumulator<X, float>;
  const simd::Kernels& k = kernels();
  constexpr bool x32 = std::is_same_v<X, float>, x16 = std::is_same_v<X, at::BFloat16>;
  constexpr bool k32 = std::is_same_v<K, float>, k16 = std::is_same_v<K, at::BFloat16>;
  if constexpr (x32 && k32) {
    k.enqueue_ff(x, key, C, normalize);
  } else if constexpr (x32 && k16) {
    k.enqueue_fb(x, reinterpret_cast<bf16*>(key), C, normalize);
  } else if constexpr (x16 && k32) {
    k.enqueue_bf(reinterpret_cast<const bf16*>(x), key, C, normalize);
  } else if constexpr (x16 && k16) {
    k.enqueue_bb(reinterpret_cast<const bf16*>(x), reinterpret_cast<bf16*>(key), C, normalize);
  } else {
    acc norm = 1;
    if (normalize) {
      acc squares = 0;
      for (int64_t c = 0; c < C; ++c) squares += acc(x[c]) * acc(x[c]);
      norm = std::sqrt(squares);
      norm = norm < acc(1e-12) ? acc(1e-12) : norm;
    }
    for (int64_t c = 0; c < C; ++c) key[c] = static_cast<K>(acc(x[c]) / norm);
  }
}

}  // namespace

void queue_push_(
    at::Tensor keys, at::Tensor pointer, const at::Tensor& x, std::optional<at::Tensor> n_valid, bool normalize) {
  check_queue(keys, pointer, x, n_valid);
  const int64_t N = x.size(0), K = keys.size(0), C = keys.size(1);
  const int64_t first = std::max<int64_t>(N - K, 0);  // only the last K rows of a larger batch remain
  const int64_t grain = std::max<int64_t>((1 << 15) / std::max<int64_t>(C, 1), 1);
  const at::Tensor dense = keys.contiguous(), rows = disjoint_copy(x, keys);
  int64_t* at = data<int64_t>(pointer);
  const int64_t start = ((*at % K) + K) % K;

  dispatch(rows.scalar_type(), [&](auto x_zero) {
    dispatch(dense.scalar_type(), [&](auto key_zero) {
      using X = decltype(x_zero);
      using Key = decltype(key_zero);
      const X* from = data<const X>(rows);
      Key* to = data<Key>(dense);
      at::parallel_for(first, N, grain, [&](int64_t i, int64_t end) {
        for (; i < end; ++i) enqueue(from + i * C, to + (start + i) % K * C, C, normalize);
      });
    });
  });
  *at = (start + N) % K;
  if (n_valid) {
    int64_t* valid = data<int64_t>(*n_valid);
    *valid = std::min(*valid, K - N) + N;  // at most K; *valid + N may overflow
  }
  finish_queue(keys, dense, pointer, n_valid);
}

}  // namespace contrastkit::cpu

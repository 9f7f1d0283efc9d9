#include "../queue.h"
#include "launch.h"

namespace contrastkit::cuda {
namespace {

constexpr int kWarp = 32, kWarps = 4;  // one warp per row, four rows per block

template <typename X, typename Key>
__global__ void enqueue(
    Key* keys, const int64_t* pointer, const X* x, int64_t first, int64_t N, int64_t K, int64_t C, bool normalize) {
  using acc = Accumulator<X, float>;
  const int64_t i = first + blockIdx.x * int64_t{kWarps} + threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  if (i >= N) return;
  x += i * C;
  const int64_t start = (*pointer % K + K) % K;
  Key* key = keys + (start + i) % K * C;

  acc norm = 1;
  if (normalize) {
    acc squares = 0;
    for (int64_t c = lane; c < C; c += kWarp) squares += acc(x[c]) * acc(x[c]);
    for (int d = kWarp / 2; d > 0; d /= 2) squares += __shfl_xor_sync(0xffffffffu, squares, d);
    norm = sqrt(squares);
    norm = norm < acc(1e-12) ? acc(1e-12) : norm;
  }
  for (int64_t c = lane; c < C; c += kWarp) key[c] = static_cast<Key>(acc(x[c]) / norm);
}

// A separate launch: all rows above must have read the pointer before.
__global__ void advance(int64_t* pointer, int64_t* n_valid, int64_t N, int64_t K) {
  *pointer = ((*pointer % K + K) % K + N) % K;
  if (n_valid != nullptr) *n_valid = (*n_valid < K - N ? *n_valid : K - N) + N;  // at most K; *n_valid + N may overflow
}

}  // namespace

void queue_push_(
    at::Tensor keys, at::Tensor pointer, const at::Tensor& x, std::optional<at::Tensor> n_valid, bool normalize) {
  check_queue(keys, pointer, x, n_valid);
  const int64_t N = x.size(0), K = keys.size(0), C = keys.size(1);
  if (N == 0) return;
  const at::Tensor dense = keys.contiguous(), rows = disjoint_copy(x, keys);
  const int64_t first = N > K ? N - K : 0;  // only the last K rows of a larger batch remain
  const auto stream = c10::cuda::getCurrentCUDAStream();
  int64_t* at = data<int64_t>(pointer);

  dispatch(rows.scalar_type(), [&](auto x_zero) {
    dispatch(dense.scalar_type(), [&](auto key_zero) {
      using X = decltype(x_zero);
      using Key = decltype(key_zero);
      launch(
          enqueue<X, Key>, (N - first + kWarps - 1) / kWarps, kWarps * kWarp, 0, stream,
          data<Key>(dense), at, data<const X>(rows), first, N, K, C,
          normalize);
    });
  });
  int64_t* valid = n_valid ? data<int64_t>(*n_valid) : nullptr;
  launch(advance, 1, 1, 0, stream, at, valid, N, K);
  finish_queue(keys, dense, pointer, n_valid);
}

}  // namespace contrastkit::cuda

#include <vector>

#include "../ema.h"
#include "launch.h"

namespace contrastkit::cuda {
namespace {

constexpr int kThreads = 256, kVector = 4;
constexpr int64_t kChunk = kThreads * kVector * 16;  // elements per block

// The list is a kernel argument: no copy to the device, nothing to keep alive. 4 KB always fit, and 32 KB
// since CUDA 12.1 on the architectures from Volta on.
#if CUDART_VERSION >= 12010
constexpr int kTensors = 960;
#else
constexpr int kTensors = 110;
#endif

struct List {
  void* a[kTensors];
  const void* p[kTensors];
  int64_t numel[kTensors];
  int first_block[kTensors];  // of each tensor
  int n;
};
static_assert(sizeof(List) <= (CUDART_VERSION >= 12010 ? 32000 : 4000));

template <typename T>
struct alignas(sizeof(T) * kVector) Vector {
  T at[kVector];
};

template <typename A, typename P>
__device__ A lerp(A a, P p, Accumulator<A, P> m, Accumulator<A, P> w) {
  using acc = Accumulator<A, P>;
  const acc d = acc(p) - acc(a);
  return static_cast<A>(m > acc(0.5) ? acc(a) + w * d : acc(p) - m * d);  // exact at m = 0
}

template <typename A, typename P>
__global__ void __launch_bounds__(kThreads) ema(const __grid_constant__ List list, double m_) {
  const Accumulator<A, P> m = m_, w = 1.0 - m_;  // the smaller of the two must not be a difference of floats
  int t = 0, last = list.n - 1;  // the last tensor that starts at or before this block
  while (t < last) {
    const int middle = (t + last + 1) / 2;
    if (list.first_block[middle] <= static_cast<int>(blockIdx.x)) t = middle; else last = middle - 1;
  }
  const int64_t from = (static_cast<int>(blockIdx.x) - list.first_block[t]) * kChunk;
  const int64_t rest = list.numel[t] - from, n = rest < kChunk ? rest : kChunk;
  A* a = static_cast<A*>(list.a[t]) + from;
  const P* p = static_cast<const P*>(list.p[t]) + from;

  const bool aligned = reinterpret_cast<uintptr_t>(a) % sizeof(Vector<A>) == 0 &&
                       reinterpret_cast<uintptr_t>(p) % sizeof(Vector<P>) == 0;
  const int64_t vectors = aligned ? n / kVector : 0;
  for (int64_t v = threadIdx.x; v < vectors; v += kThreads) {
    Vector<A> x = reinterpret_cast<Vector<A>*>(a)[v];
    const Vector<P> y = reinterpret_cast<const Vector<P>*>(p)[v];
    for (int l = 0; l < kVector; ++l) x.at[l] = lerp(x.at[l], y.at[l], m, w);
    reinterpret_cast<Vector<A>*>(a)[v] = x;
  }
  for (int64_t i = vectors * kVector + threadIdx.x; i < n; i += kThreads) a[i] = lerp(a[i], p[i], m, w);
}

}  // namespace

void ema_(at::TensorList averages, at::TensorList params, double m) {
  FlatPairs pairs(averages, params, m);
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const at::ScalarType dtypes[] = {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf};
  for (const at::ScalarType a_dtype : dtypes) {
    for (const at::ScalarType p_dtype : dtypes) {
      List list;
      list.n = 0;
      int64_t blocks = 0;
      const auto flush = [&] {
        if (list.n == 0) return;
        dispatch(a_dtype, [&](auto a_zero) {
          dispatch(p_dtype, [&](auto p_zero) {
            launch(ema<decltype(a_zero), decltype(p_zero)>, blocks, kThreads, 0, stream, list, m);
          });
        });
        list.n = 0;
        blocks = 0;
      };
      for (size_t t = 0; t < pairs.averages.size(); ++t) {
        const at::Tensor &a = pairs.averages[t], &p = pairs.params[t];
        if (a.scalar_type() != a_dtype || p.scalar_type() != p_dtype || a.numel() == 0) continue;
        if (list.n == kTensors) flush();
        list.a[list.n] = a.mutable_data_ptr();
        list.p[list.n] = p.const_data_ptr();
        list.numel[list.n] = a.numel();
        list.first_block[list.n++] = static_cast<int>(blocks);
        blocks += (a.numel() + kChunk - 1) / kChunk;
      }
      flush();
    }
  }
  pairs.finish();
}

}  // namespace contrastkit::cuda

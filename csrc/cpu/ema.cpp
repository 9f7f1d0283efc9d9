#include <ATen/ops/_foreach_lerp.h>

#include <algorithm>
#include <vector>

#include "../ema.h"
#include "host.h"

namespace contrastkit::cpu {
namespace {

using simd::bf16;

template <typename A, typename P>
void ema(A* a, const P* p, int64_t n, double m) {
  using acc = Accumulator<A, P>;
  const simd::Kernels& k = kernels();
  if constexpr (std::is_same_v<A, float> && std::is_same_v<P, float>) {
    k.ema_ff(a, p, n, m);
  } else if constexpr (std::is_same_v<A, float> && std::is_same_v<P, at::BFloat16>) {
    k.ema_fb(a, reinterpret_cast<const bf16*>(p), n, m);
  } else if constexpr (std::is_same_v<A, at::BFloat16> && std::is_same_v<P, at::BFloat16>) {
    k.ema_bb(reinterpret_cast<bf16*>(a), reinterpret_cast<const bf16*>(p), n, m);
  } else {
    const acc m_ = m, w = 1 - m;
    for (int64_t i = 0; i < n; ++i) {
      const acc d = acc(p[i]) - acc(a[i]);
      a[i] = m > 0.5 ? acc(a[i]) + w * d : acc(p[i]) - m_ * d;
    }
  }
}

constexpr int64_t kBeyondCaches = 1 << 23;  // elements: 32 MiB of averages

bool all_float(const std::vector<at::Tensor>& tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [](const at::Tensor& t) { return is(t, at::kFloat); });
}

}  // namespace

void ema_(at::TensorList averages, at::TensorList params, double m) {
  FlatPairs pairs(averages, params, m);
  const size_t n = pairs.averages.size();
  std::vector<int64_t> end(n);  // of each tensor in the concatenation of all
  int64_t total = 0;
  for (size_t t = 0; t < n; ++t) end[t] = total += pairs.averages[t].numel();

  // torch's own reaches the memory bandwidth there; for less data, its many small tasks are slow.
  if (total > kBeyondCaches && all_float(pairs.averages) && all_float(pairs.params)) {
    at::_foreach_lerp_(pairs.averages, pairs.params, 1 - m);
    return pairs.finish();
  }

  at::parallel_for(0, total, 1 << 15, [&](int64_t from, int64_t to) {
    size_t t = std::upper_bound(end.begin(), end.end(), from) - end.begin();
    for (; from < to; from = end[t++]) {
      const int64_t offset = from - (t ? end[t - 1] : 0), count = std::min(to, end[t]) - from;
      at::Tensor &a = pairs.averages[t], &p = pairs.params[t];
      dispatch(a.scalar_type(), [&](auto a_zero) {
        dispatch(p.scalar_type(), [&](auto p_zero) {
          using A = decltype(a_zero);
          using P = decltype(p_zero);
          A* to = data<A>(a) + offset;
          ema(to, data<const P>(p) + offset, count, m);
        });
      });
    }
  });
  pairs.finish();
}

}  // namespace contrastkit::cpu

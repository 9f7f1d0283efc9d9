#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "../common.h"
#include "simd/kernels.h"

namespace contrastkit::cpu {

// Those of the best instruction set that this CPU has; the variable CONTRASTKIT_ISA may ask for a lesser one.
const simd::Kernels& kernels();

template <typename T>
T* data(const at::Tensor& x) {
  if constexpr (std::is_const_v<T>) return static_cast<T*>(x.const_data_ptr());
  else return static_cast<T*>(x.mutable_data_ptr());
}

inline bool is(const at::Tensor& x, at::ScalarType dtype) { return x.scalar_type() == dtype; }
inline bool is(at::ScalarType x, at::ScalarType dtype) { return x == dtype; }

inline double temperature(const at::Tensor& tau) {
  TORCH_CHECK(tau.is_cpu(), "tau is on ", tau.device(), ", the other inputs on the CPU");
  double value = 0;
  dispatch(tau.scalar_type(), [&](auto zero) { value = *data<const decltype(zero)>(tau); });
  return value;
}

// log(1 + exp(x))
template <typename T>
T softplus(T x) {
  return x != x ? x : std::max(x, T(0)) + std::log1p(std::exp(-std::abs(x)));
}

// q.k, to the bit as the kernels' products have it: a positive that equals a negative must tie with it.
inline float logit(const float* q, const float* k, int64_t C) { return kernels().logit(q, k, C); }

inline double logit(const double* q, const double* k, int64_t C) {
  double sum = 0;
  for (int64_t c = 0; c < C; ++c) sum += q[c] * k[c];
  return sum;
}

// Rows [N, C] in float32 as tiles; packed is `right`, of the same shape.
class Tiles {
 public:
  Tiles(const at::Tensor& rows, const at::Tensor& right)
      : rows_(rows), N_(rows.size(0)), C_(rows.size(1)), step_(simd::kTile * simd::padded(C_)),
        packed_(rows.new_empty({size(), 2, step_})) {
    at::parallel_for(0, size(), 1, [&](int64_t t, int64_t end) {
      for (; t < end; ++t) {
        float *along = data<float>(packed_) + t * 2 * step_, *across = along + step_;
        kernels().pack_f(data<float>(right) + t * simd::kTile * C_, (*this)[t].n, C_, along, across);
      }
    });
  }

  int64_t size() const { return (N_ + simd::kTile - 1) / simd::kTile; }

  simd::Tile operator[](int64_t t) const {
    simd::Tile tile = unpacked(t * simd::kTile, N_);
    tile.along = data<float>(packed_) + t * 2 * step_;
    tile.across = tile.along + step_;
    return tile;
  }

  // From any row on, as a left matrix only.
  simd::Tile unpacked(int64_t first, int64_t last) const {
    return {first, std::min(simd::kTile, last - first), data<float>(rows_) + first * C_, nullptr, nullptr};
  }

 private:
  at::Tensor rows_;
  int64_t N_, C_, step_;
  at::Tensor packed_;
};

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> infonce(
    const at::Tensor& query, const at::Tensor& positive, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids, bool with_dquery);
at::Tensor infonce_dkeys(
    const at::Tensor& g, const at::Tensor& lse, const at::Tensor& query, const at::Tensor& keys, const at::Tensor& tau,
    const std::optional<at::Tensor>& exclude, const std::optional<at::Tensor>& n_valid,
    const std::optional<at::Tensor>& query_ids, const std::optional<at::Tensor>& key_ids);
std::tuple<at::Tensor, at::Tensor, at::Tensor> ntxent(
    const at::Tensor& z, const at::Tensor& tau, int64_t n, int64_t first, int64_t last);
at::Tensor ntxent_dz(
    const at::Tensor& g, const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& z, const at::Tensor& tau,
    int64_t n, int64_t first, int64_t last);
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> bank_loss(
    const at::Tensor& query, const at::Tensor& bank, const at::Tensor& index, const at::Tensor& tau,
    const std::optional<at::Tensor>& Z, bool with_dquery);
void bank_update_(at::Tensor bank, const at::Tensor& index, const at::Tensor& x, double m);
void queue_push_(
    at::Tensor keys, at::Tensor pointer, const at::Tensor& x, std::optional<at::Tensor> n_valid, bool normalize);
void ema_(at::TensorList averages, at::TensorList params, double m);
at::Tensor sinkhorn(const at::Tensor& scores, double epsilon, int64_t iterations);
std::tuple<at::Tensor, at::Tensor> sinkhorn_begin(const at::Tensor& scores, const at::Tensor& tops, double epsilon);
at::Tensor sinkhorn_sums(const at::Tensor& E, const at::Tensor& t, double scale);
void sinkhorn_end_(at::Tensor E, const at::Tensor& t);

}  // namespace contrastkit::cpu

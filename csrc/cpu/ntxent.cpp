#include <cmath>
#include <limits>

#include "../ntxent.h"
#include "tiles.h"

namespace contrastkit::cpu {
namespace {

using simd::kTile;
using simd::Tile;

int64_t other(int64_t row, int64_t n) { return row % (2 * n) < n ? row + n : row - n; }

// Calls f(I, J, both) for every tile I of rows first, ..., last - 1 and every tile J. If these are all rows, each pair
// occurs once and f processes both its tiles. No tile is processed by two calls at a time, and the order is fixed.
template <typename F>
void pairs(const Tiles& tiles, int64_t first, int64_t last, bool all, F&& f) {
  if (!all) {
    at::parallel_for(0, (last - first + kTile - 1) / kTile, 1, [&](int64_t t, int64_t end) {
      for (; t < end; ++t) {
        const Tile I = tiles.unpacked(first + t * kTile, last);
        for (int64_t J = 0; J < tiles.size(); ++J) f(I, tiles[J], false);
      }
    });
    return;
  }
  at::parallel_for(0, tiles.size(), 1, [&](int64_t t, int64_t end) {
    for (; t < end; ++t) f(tiles[t], tiles[t], false);
  });
  // A round-robin tournament: in each round every tile is paired with another one; if their number is odd, one is idle.
  const int64_t players = tiles.size() + tiles.size() % 2, circle = players - 1;
  for (int64_t round = 0; round < circle; ++round) {
    at::parallel_for(0, players / 2, 1, [&](int64_t match, int64_t end) {
      for (; match < end; ++match) {
        const int64_t I = match ? (round + match) % circle : circle, J = (round - match + circle) % circle;
        if (std::max(I, J) < tiles.size()) f(tiles[std::min(I, J)], tiles[std::max(I, J)], true);
      }
    });
  }
}

at::Tensor scratch_like(const at::Tensor& x) { return x.new_empty({at::get_num_threads(), kTile * kTile}); }

float* of_thread(const at::Tensor& scratch) { return data<float>(scratch) + at::get_thread_num() * kTile * kTile; }

// Rows of which a kernel may read a tile, starting at any row.
at::Tensor with_room(const at::Tensor& x) {
  const at::Tensor out = x.new_zeros({x.size(0) + kTile});
  out.narrow(0, 0, x.size(0)).copy_(x);
  return out;
}

// float64, for tests: calls f(j, s) for every negative j of a row.
template <typename F>
void negatives(const double* z, const double* right, int64_t N, int64_t C, int64_t n, int64_t row, F&& f) {
  for (int64_t j = 0; j < N; ++j)
    if (j != row && j != other(row, n)) f(j, logit(z + row * C, right + j * C, C));
}

template <typename T>
void finish(
    const at::Tensor& z, const at::Tensor& right, const at::Tensor& sums, int64_t n, int64_t first,
    const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& top1) {
  const int64_t C = z.size(1), rows = sums.size(1);
  at::parallel_for(0, loss.size(0), 64, [&](int64_t i, int64_t end) {
    for (; i < end; ++i) {
      const T m = data<T>(sums)[i], sum = data<T>(sums)[rows + i];
      const T s = logit(data<T>(z) + (first + i) * C, data<T>(right) + other(first + i, n) * C, C);
      const T value = softplus(m + std::log(sum) - s);
      data<T>(loss)[i] = value;
      data<T>(lse)[i] = s + value;
      data<bool>(top1)[i] = s >= m && sum == sum;
    }
  });
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor> ntxent(
    const at::Tensor& z, const at::Tensor& tau, int64_t n, int64_t first, int64_t last) {
  check_ntxent(z, tau, n, first, last);
  const bool wide = is(z, at::kDouble);
  const at::Tensor x = z.to(wide ? at::kDouble : at::kFloat).contiguous(), right = x.div(temperature(tau));
  const int64_t N = x.size(0), C = x.size(1), rows = last - first;
  const at::Tensor loss = x.new_empty({rows}), lse = x.new_empty({rows}), top1 = x.new_empty({rows}, at::kBool);
  if (wide) {
    const at::Tensor sums = x.new_empty({2, rows});
    double *m = data<double>(sums), *sum = m + rows;
    at::parallel_for(0, rows, 1, [&](int64_t i, int64_t end) {
      for (; i < end; ++i) {
        const auto each = [&](auto&& f) {
          negatives(data<double>(x), data<double>(right), N, C, n, first + i, f);
        };
        m[i] = std::numeric_limits<double>::lowest(), sum[i] = 0;
        each([&](int64_t, double s) { m[i] = std::max(m[i], s); });
        each([&](int64_t, double s) { sum[i] += std::exp(s - m[i]); });
      }
    });
    finish<double>(x, right, sums, n, first, loss, lse, top1);
    return {loss, lse, top1};
  }
  const at::Tensor sums = x.new_zeros({2, rows + kTile}), scratch = scratch_like(x);
  sums.select(0, 0).fill_(std::numeric_limits<float>::lowest());
  const auto of = [&](const Tile& tile) {
    float* m = data<float>(sums) + tile.first - first;
    return simd::Sums{m, m + sums.size(1)};
  };
  pairs(Tiles(x, right), first, last, rows == N, [&](const Tile& I, const Tile& J, bool both) {
    kernels().ntxent(I, J, C, n, of_thread(scratch), of(I), both ? of(J) : simd::Sums{nullptr, nullptr});
  });
  finish<float>(x, right, sums, n, first, loss, lse, top1);
  return {loss, lse, top1};
}

at::Tensor ntxent_dz(
    const at::Tensor& g, const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& z, const at::Tensor& tau,
    int64_t n, int64_t first, int64_t last) {
  check_ntxent_dz(g, loss, lse, z, tau, n, first, last);
  const at::Tensor x = z.to(lse.scalar_type()).contiguous(), right = x.div(temperature(tau));
  const at::Tensor weight = with_room(g.to(lse.scalar_type())), lses = with_room(lse), losses = loss.contiguous();
  const int64_t N = x.size(0), C = x.size(1), rows = last - first, Cp = simd::padded(C);
  const at::Tensor dz = x.new_zeros({rows + kTile, Cp});
  const auto add_positive = [&](auto zero) {
    using T = decltype(zero);
    const T *g = data<T>(weight), *L = data<T>(losses), *others = data<T>(right);
    T* to = data<T>(dz);
    const auto coefficient = [&](int64_t i) { return g[i] * std::expm1(-L[i]); };
    at::parallel_for(0, rows, 64, [&](int64_t i, int64_t end) {
      for (; i < end; ++i) {
        const int64_t p = other(first + i, n);
        const T w = coefficient(first + i) + coefficient(p);
        for (int64_t c = 0; c < C; ++c) to[i * Cp + c] += w * others[p * C + c];
      }
    });
  };
  if (is(x, at::kDouble)) {
    at::parallel_for(0, rows, 1, [&](int64_t i, int64_t end) {
      const double *g = data<double>(weight), *L = data<double>(lses);
      for (; i < end; ++i) {
        const int64_t row = first + i;
        negatives(data<double>(x), data<double>(right), N, C, n, row, [&](int64_t j, double s) {
          const double w = g[row] * std::exp(s - L[row]) + g[j] * std::exp(s - L[j]);
          for (int64_t c = 0; c < C; ++c) data<double>(dz)[i * Cp + c] += w * data<double>(right)[j * C + c];
        });
      }
    });
    add_positive(double{});
  } else {
    const at::Tensor scratch = scratch_like(x);
    const auto of = [&](const Tile& tile) { return data<float>(dz) + (tile.first - first) * Cp; };
    pairs(Tiles(x, right), first, last, rows == N, [&](const Tile& I, const Tile& J, bool both) {
      const float *g = data<float>(weight), *L = data<float>(lses);
      kernels().ntxent_dz(I, J, C, n, of_thread(scratch), g, L, of(I), both ? of(J) : nullptr);
    });
    add_positive(float{});
  }
  return dz.narrow(0, 0, rows).narrow(1, 0, C).contiguous();
}

}  // namespace contrastkit::cpu

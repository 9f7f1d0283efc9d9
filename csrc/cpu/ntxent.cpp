#include "../ntxent.h"
#include "softmax.h"

namespace contrastkit::cpu {
namespace {

int64_t other(int64_t row, int64_t n) { return row % (2 * n) < n ? row + n : row - n; }

// Calls f(I, J, both) for every tile I of rows first, ..., last - 1 and every tile J. If these are all rows, each pair
// occurs once and f processes both its tiles. No tile is processed by two calls at a time, and the order is fixed.
template <typename F>
void pairs(const Tiles& tiles, int64_t first, int64_t last, bool all, F&& f) {
  if (!all) return strip(tiles, first, last, [&](const Tile& I, const Tile& J) { f(I, J, false); });
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

// float64, for tests: calls f(j, s) for every negative j of a row.
template <typename F>
void negatives(const double* z, const double* right, int64_t N, int64_t C, int64_t n, int64_t row, F&& f) {
  for (int64_t j = 0; j < N; ++j)
    if (j != row && j != other(row, n)) f(j, logit(z + row * C, right + j * C, C));
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor> ntxent(
    const at::Tensor& z, const at::Tensor& tau, int64_t n, int64_t first, int64_t last) {
  check_ntxent(z, tau, n, first, last);
  const bool wide = is(z, at::kDouble);
  const at::Tensor x = z.to(wide ? at::kDouble : at::kFloat).contiguous(), right = x.div(number(tau));
  const int64_t N = x.size(0), C = x.size(1), rows = last - first;
  const at::Tensor loss = x.new_empty({rows}), lse = x.new_empty({rows}), top1 = x.new_empty({rows}, at::kBool);
  const auto positive = [&](int64_t i) { return other(first + i, n); };
  const at::Tensor own = x.narrow(0, first, rows);
  if (wide) {
    const at::Tensor sums = sums_of(x, rows, [&](int64_t i, auto&& f) {
      negatives(data<double>(x), data<double>(right), N, C, n, first + i, f);
    });
    finish<double>(own, right, sums, positive, loss, lse, top1);
    return {loss, lse, top1};
  }
  const at::Tensor sums = no_sums(x, rows);
  const Scratch scratch(x, kTile * kTile);
  pairs(Tiles(x, right), first, last, rows == N, [&](const Tile& I, const Tile& J, bool both) {
    const simd::Sums none{nullptr, nullptr};
    kernels().ntxent(
        I, J, C, n, scratch.of_thread(), of_tile(sums, I.first - first), both ? of_tile(sums, J.first - first) : none);
  });
  finish<float>(own, right, sums, positive, loss, lse, top1);
  return {loss, lse, top1};
}

at::Tensor ntxent_dz(
    const at::Tensor& g, const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& z, const at::Tensor& tau,
    int64_t n, int64_t first, int64_t last) {
  check_ntxent_dz(g, loss, lse, z, tau, n, first, last);
  const at::Tensor x = z.to(lse.scalar_type()).contiguous(), right = x.div(number(tau));
  const at::Tensor weight = with_room(g.to(lse.scalar_type())), lses = with_room(lse), losses = loss.contiguous();
  const int64_t N = x.size(0), C = x.size(1), rows = last - first, Cp = simd::padded(C);
  const at::Tensor dz = x.new_zeros({rows, Cp});
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
    const Scratch scratch(x, kTile * kTile);
    const auto of = [&](const Tile& tile) { return data<float>(dz) + (tile.first - first) * Cp; };
    const simd::Softmax of_z{data<float>(weight), data<float>(lses)};
    pairs(Tiles(x, right), first, last, rows == N, [&](const Tile& I, const Tile& J, bool both) {
      kernels().ntxent_dz(I, J, C, n, scratch.of_thread(), of_z, of(I), both ? of(J) : nullptr);
    });
    add_positive(float{});
  }
  return unpadded(dz, C);
}

}  // namespace contrastkit::cpu

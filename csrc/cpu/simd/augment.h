// A view, strip by strip of V rows: resized downwards, turned, resized across and turned back, so that both sums are
// over whole vectors; then coloured while it is in the cache, up to the first operation that needs the whole view.
#pragma once

#include "vec.h"

namespace contrastkit::simd::CONTRASTKIT_ISA {
namespace {

// ------------------------------------------------------------------------------------------------------------ geometry

template <int64_t n>
struct Constant {
  constexpr operator int64_t() const { return n; }
};

// Pixels of a row, V at a time. Those behind the last one may be any numbers.
struct Dense {
  const uint8_t* first;
  int64_t row;

  vec operator()(int64_t y, int64_t x) const { return loadv(first + y * row + x); }
};

struct AtTheEnd {  // of the memory
  const uint8_t *first, *end;
  int64_t row;

  vec operator()(int64_t y, int64_t x) const {
    const uint8_t* at = first + y * row + x;
    uint8_t pixels[V] = {};
    for (int l = 0; l < V && l < end - at; ++l) pixels[l] = at[l];
    return loadv(pixels);
  }
};

struct Strided {
  const uint8_t* first;
  int64_t row, column, length;

  vec operator()(int64_t y, int64_t x) const {
    vec v{};
    for (int l = 0; l < V && x + l < length; ++l) v[l] = first[y * row + (x + l) * column];
    return v;
  }
};

struct Posed {
  const float* rows;
  int64_t row, above;  // rows before the first one

  vec operator()(int64_t y, int64_t x) const { return loadv(rows + (y - above) * row + x); }
};

// Calls f with the number of taps, as a constant where it is small.
template <typename F>
void with_taps(int64_t taps, F&& f) {
  switch (taps) {
    case 1: return f(Constant<1>{});
    case 2: return f(Constant<2>{});
    case 3: return f(Constant<3>{});
    case 4: return f(Constant<4>{});
    case 5: return f(Constant<5>{});
    case 6: return f(Constant<6>{});
    default: return f(taps);
  }
}

// V rows of the crop, resized downwards: strip[x V + r].
template <typename Pixels>
void resize_down(const Filter& down, int64_t y, int64_t length, const Pixels& pixels, float* strip) {
  with_taps(down.taps, [&](auto taps) {
    for (int64_t x = 0; x < length; x += V) {
      vec rows[V];
#pragma GCC unroll 16
      for (int r = 0; r < V; ++r) {
        const int64_t first = down.first[y + r];
        const float* weights = down.weights + (y + r) * taps;
        rows[r] = weights[0] * pixels(first, x);
        for (int64_t k = 1; k < taps; ++k) rows[r] = fused(all(weights[k]), pixels(first + k, x), rows[r]);
      }
      transpose(rows);
#pragma GCC unroll 16
      for (int l = 0; l < V; ++l) storev(strip + (x + l) * V, rows[l]);
    }
  });
}

// x / 255, rounded as a division rounds it, in a fraction of its time (Markstein 1990).
inline vec over_255(vec x) {
#if defined(__AVX2__)
  const vec quotient = x * (1.0f / 255);
  return fused(fused(quotient, all(-255), x), all(1.0f / 255), quotient);
#else
  return x / 255.0f;
#endif
}

// Columns of a channel, `step` floats apart in the strip, resized across: V rows of the view in [0, 1], unless bicubic
// weights overshoot.
inline void resize_across(const Filter& across, int64_t size, const float* strip, int64_t step, float* out, int64_t row) {
  with_taps(across.taps, [&](auto taps) {
    for (int64_t x = 0; x < size; x += V) {
      vec columns[V];
#pragma GCC unroll 16
      for (int l = 0; l < V; ++l) {
        const float *from = strip + across.first[x + l] * step, *weights = across.weights + (x + l) * taps;
        columns[l] = weights[0] * loadv(from);
        for (int64_t k = 1; k < taps; ++k) columns[l] = fused(all(weights[k]), loadv(from + k * step), columns[l]);
      }
      transpose(columns);
#pragma GCC unroll 16
      for (int r = 0; r < V; ++r) storev(out + r * row + x, over_255(columns[r]));
    }
  });
}

// Row y of the crop of a posed channel: bilinear between four pixels, black outside.
inline void pose_row(const View& view, const uint8_t* channel, int64_t y, float* out) {
  const double h = view.height, w = view.width, v = (2 * (view.top + y) + 1) / h - 1;
  const float* m = view.pose;
  const auto at = [&](int64_t i, int64_t j) {
    const bool inside = 0 <= i && i < view.height && 0 <= j && j < view.width;
    return inside ? static_cast<double>(channel[i * view.row + j * view.column]) : 0.0;
  };
  const auto clamped = [](double x) { return x < -2 ? -2 : x > 1 << 30 ? 1 << 30 : x; };
  for (int64_t x = 0; x < view.w; ++x) {
    const double u = (2 * (view.left + x) + 1) / w - 1;
    const double j = clamped(((m[0] * u + m[1] * v + m[2] + 1) * w - 1) / 2);
    const double i = clamped(((m[3] * u + m[4] * v + m[5] + 1) * h - 1) / 2);
    const int64_t left = static_cast<int64_t>(j + 2) - 2, above = static_cast<int64_t>(i + 2) - 2;  // rounded down
    const double s = j - left, t = i - above;
    out[x] = (1 - t) * ((1 - s) * at(above, left) + s * at(above, left + 1)) +
             t * ((1 - s) * at(above + 1, left) + s * at(above + 1, left + 1));
  }
}

// --------------------------------------------------------------------------------------------- colour: C vectors a pixel

inline vec unit(vec x) { return min(max(x, vec{}), all(1)); }

inline vec luma(const vec (&x)[3]) { return fused(x[2], all(kBlue), fused(x[1], all(kGreen), x[0] * kRed)); }

// turn: of 6, in [0, 6]
inline void rotate_hue(vec (&x)[3], float turn) {
  const vec r = x[0], g = x[1], b = x[2];
  const vec top = max(max(r, g), b), span = top - min(min(r, g), b);
  const vec inverse = 1.0f / max(span, all(1e-12f));  // gray pixels: all differences are 0, and so is the hue
  vec hue = top == r ? (g - b) * inverse : top == g ? (b - r) * inverse + 2.0f : (r - g) * inverse + 4.0f;
  hue += turn;
  hue = hue >= 6.0f ? hue - 6.0f : hue;
  hue = hue < 0.0f ? hue + 6.0f : hue;
  x[0] = top - span * unit(2.0f - absolute(hue - 3.0f));
  x[1] = top - span * unit(absolute(hue - 2.0f) - 1.0f);
  x[2] = top - span * unit(absolute(hue - 4.0f) - 1.0f);
}

// Of saturation: no more than reaches 1, where the least channel is 0.
inline void scale_saturation(vec (&x)[3], float factor) {
  const vec top = max(max(x[0], x[1]), x[2]), span = top - min(min(x[0], x[1]), x[2]);
  const vec scale = min(all(factor), top / max(span, all(1e-12f)));
  for (int c = 0; c < 3; ++c) x[c] = unit(top - (top - x[c]) * scale);
}

// An operation with the numbers of its row: x <- unit(scale x + shift (luma x, the channel's mean, or 1)), or others.
struct Step {
  Operation operation;
  float scale, shift;
};

template <int C>
void apply_rare(const Step& step, const float* means, vec (&x)[C]) {
  if constexpr (C == 3) {
    if (step.operation == kSaturationHsv) return scale_saturation(x, step.scale);
    if (step.operation == kGray) {
      x[0] = x[1] = x[2] = luma(x);
      return;
    }
  }
  for (int c = 0; c < C; ++c) x[c] = unit(fused(x[c], all(step.scale), all(step.shift * means[c])));
}

template <int C>
void apply(const Step& step, const float* means, vec (&x)[C]) {
  vec shift = all(step.shift);
  if constexpr (C == 3) {
    if (step.operation == kHue) return rotate_hue(x, step.scale);
    if (step.operation == kSaturation) shift *= luma(x);
  }
  if (step.operation >= kContrastEach) return apply_rare(step, means, x);
  for (int c = 0; c < C; ++c) x[c] = unit(fused(x[c], all(step.scale), shift));
}

// Steps on rows of C planes each; returns the sum of the first `size` columns, of three planes that of their luma.
// means: of each plane, for a contrast about them, which can only be the first step.
template <int C>
double colour(
    const Step* steps, int n, const float* means, float* rows, int64_t plane, int64_t row, int64_t size, int64_t count) {
  double all = 0;
  for (int64_t y = 0; y < count; ++y, rows += row) {
    vec sum{};
    for (int64_t i = 0; i < size; i += V) {
      vec x[C];
      for (int c = 0; c < C; ++c) x[c] = loadv(rows + c * plane + i);
      for (int k = 0; k < n; ++k) apply<C>(steps[k], means, x);
      for (int c = 0; c < C; ++c) storev(rows + c * plane + i, x[c]);
      vec counted = x[0];
      if constexpr (C == 3) counted = luma(x);
      sum += lanes() < static_cast<int>(size - i) ? counted : vec{};
    }
    all += total(sum);
  }
  return all;
}

// --------------------------------------------------------------------------------------------------- blur, and the end

inline void put(float* y, vec x) { storev(y, x); }
inline void put(bf16* y, vec x) { storev(y, x); }
inline void put(uint8_t* y, vec x) {  // to nearest, ties to even
  const vec magic = vec{} + 12582912.0f;
  const ivec rounded = (ivec)(x * 255.0f + magic);
  for (int l = 0; l < V; ++l) y[l] = static_cast<uint8_t>(rounded[l]);
}

// Row y of channel c of the view.
template <typename Y>
void emit(const View& view, const Form& form, int64_t c, int64_t y, const float* row, Y* out) {
  const int64_t C = form.channels, size = form.size, step = form.channels_last ? C : 1;
  const vec mean = all(form.mean ? form.mean[c] : 0), inverse = all(form.mean ? form.inverse[c] : 1);
  const float edge = view.solarize ? 0.5f : __builtin_inff();
  Y* to = form.channels_last ? out + y * size * C + c : out + (c * size + y) * size;
  for (int64_t i = 0; i < size; i += V, to += V * step) {
    vec x = loadv(row + i);
    x = (unit(x >= edge ? 1.0f - x : x) - mean) * inverse;
    if (step == 1 && size - i >= V) {
      put(to, x);
      continue;
    }
    Y part[V];
    put(part, x);
    for (int64_t l = 0; l < V && l < size - i; ++l) to[l * step] = part[l];
  }
}

// A row of blurred pixels, whose k-th neighbours are k step before and behind.
inline void blur(const View& view, const float* x, int64_t step, int64_t length, float* out) {
  const int64_t R = view.radius;
  const auto columns = [&](auto blocks, int64_t i) {
    vec sums[blocks];
    for (int b = 0; b < blocks; ++b) sums[b] = view.kernel[0] * loadv(x + i + b * V);
    const float *before = x + i, *behind = x + i;
    for (int64_t k = 1; k <= R; ++k) {
      before -= step, behind += step;
      const vec weight = all(view.kernel[k]);
      for (int b = 0; b < blocks; ++b)
        sums[b] = fused(weight, loadv(before + b * V) + loadv(behind + b * V), sums[b]);
    }
    for (int b = 0; b < blocks; ++b) storev(out + i + b * V, sums[b]);
  };
  int64_t i = 0;
  for (; i + 4 * V <= length; i += 4 * V) columns(Constant<4>{}, i);
  for (; i < length; i += V) columns(Constant<1>{}, i);
}

// What lies k pixels beyond an end: `share` of the pixel that is `inside(k)` before it.
struct Ends {
  bool mirrored;
  float share;

  explicit Ends(const Form& form) : mirrored(form.border == kMirrored), share(form.border == kZero ? 0 : 1) {}
  int64_t inside(int64_t k) const { return mirrored ? k : 0; }
};

// Each row of a plane, in place; line: a row between its ends.
inline void blur_across(const View& view, const Form& form, float* x, int64_t rows, float* line) {
  const int64_t R = view.radius, row = in_strips(form.size), last = form.size - 1;
  const Ends ends(form);
  for (int64_t y = 0; y < rows; ++y, x += row) {
    for (int64_t i = 0; i < row; i += V) storev(line + R + i, loadv(x + i));
    for (int64_t k = 1; k <= R; ++k) {
      line[R - k] = ends.share * x[ends.inside(k)];
      line[R + last + k] = ends.share * x[last - ends.inside(k)];
    }
    blur(view, line + R, 1, row, x);
  }
}

// The columns of channel c, a plane with room for its ends; line: a row.
template <typename Y>
void blur_down(const View& view, const Form& form, int64_t c, float* x, float* line, Y* out) {
  const int64_t row = in_strips(form.size), last = form.size - 1;
  const Ends ends(form);
  for (int64_t k = 1; k <= view.radius; ++k)
    for (int64_t i = 0; i < row; i += V) {
      storev(x - k * row + i, ends.share * loadv(x + ends.inside(k) * row + i));
      storev(x + (last + k) * row + i, ends.share * loadv(x + (last - ends.inside(k)) * row + i));
    }
  for (int64_t y = 0; y <= last; ++y) {
    blur(view, x + y * row, row, row, line);
    emit(view, form, c, y, line, out);
  }
}

// ----------------------------------------------------------------------------------------------------------- the whole

// V rows of `length` pixels, each column bytes from the next.
inline void crop_down(const View& view, const uint8_t* first, int64_t column, int64_t length, int64_t y, float* strip) {
  const uint8_t* last = first + (view.down.first[y + V - 1] + view.down.taps - 1) * view.row;
  if (column != 1) resize_down(view.down, y, length, Strided{first, view.row, column, length}, strip);
  else if (view.end - last < length + V) resize_down(view.down, y, length, AtTheEnd{first, view.end, view.row}, strip);
  else resize_down(view.down, y, length, Dense{first, view.row}, strip);
}

inline void clip(float* x, int64_t row) {
  for (int r = 0; r < V; ++r)
    for (int64_t i = 0; i < row; i += V) storev(x + r * row + i, unit(loadv(x + r * row + i)));
}

// V rows of the crop, resized: planes of rows in [0, 1] at `out`.
inline void crop(const View& view, const Form& form, int64_t y, float* strip, float* posed, float* out) {
  const int64_t C = form.channels, row = in_strips(form.size), plane = (row + 2 * view.radius) * row;
  const uint8_t* first = view.pixels + view.top * view.row + view.left * view.column;
  if (!view.pose && C > 1 && view.channel == 1 && view.column == C) {  // all channels of a row at once
    crop_down(view, first, 1, view.w * C, y, strip);
    for (int64_t c = 0; c < C; ++c) resize_across(view.across, form.size, strip + c * V, C * V, out + c * plane, row);
    return;
  }
  for (int64_t c = 0; c < C; ++c) {
    if (view.pose) {
      const int64_t above = view.down.first[y], below = view.down.first[y + V - 1] + view.down.taps;
      const int64_t step = view.w + kStrip;
      for (int64_t i = above; i < below; ++i)
        pose_row(view, view.pixels + c * view.channel, i, posed + (i - above) * step);
      resize_down(view.down, y, view.w, Posed{posed, step, above}, strip);
    } else {
      crop_down(view, first + c * view.channel, view.column, view.w, y, strip);
    }
    resize_across(view.across, form.size, strip, V, out + c * plane, row);
  }
}

// Three planes together, others each alone.
inline double colour_all(
    const Step* steps, int n, const float* means, float* rows, int64_t plane, int64_t C, int64_t size, int64_t count) {
  const int64_t row = in_strips(size);
  if (C == 3) return colour<3>(steps, n, means, rows, plane, row, size, count);
  double all = 0;
  for (int64_t c = 0; c < C; ++c) all += colour<1>(steps, n, means + c, rows + c * plane, plane, row, size, count);
  return all / C;
}

// The first contrast in [k, n), n if there is none.
inline int next_contrast(const Step* steps, int k, int n) {
  while (k < n && steps[k].operation != kContrast && steps[k].operation != kContrastEach) ++k;
  return k;
}

inline Step step_of(Operation operation, const float* factors) {
  const float factor = operation == kGray ? 0 : factors[operation % 4];
  switch (operation) {
    case kBrightness: return {operation, factor, 0};
    case kAddend: return {operation, 1, factor};
    case kHue: return {operation, 6 * (factor - __builtin_floorf(factor)), 0};
    case kSaturationHsv: return {operation, factor > 0 ? factor : 0, 0};
    default: return {operation, factor, 1 - factor};
  }
}

template <typename Y>
void augment(const View& view, const Form& form, float* scratch, Y* out) {
  const int64_t C = form.channels, size = form.size, row = in_strips(size), plane = (row + 2 * view.radius) * row;
  float *x = scratch + view.radius * row, *strip = scratch + C * plane;
  float *line = strip + (in_strips(view.w * C) + kStrip) * kStrip, *means = line + 4 * row, *posed = means + in_strips(C);
  Step steps[5];
  const int n = view.n_operations;
  for (int k = 0; k < n; ++k) steps[k] = step_of(view.operations[k], view.factors);

  // Sweeps over the view, each up to a contrast, whose mean it finds. What a strip needs next is done while it is near.
  for (int from = 0, to = next_contrast(steps, 0, n), sweep = 0; sweep == 0 || from < n; ++sweep) {
    double sum = 0;
    for (int64_t y = 0; y < size; y += V) {
      float* rows = x + y * row;
      const int64_t count = size - y < V ? size - y : V;
      if (sweep == 0) crop(view, form, y, strip, posed, rows);
      for (int64_t c = 0; form.clip && sweep == 0 && c < C; ++c) clip(rows + c * plane, row);
      sum += colour_all(steps + from, to - from, means, rows, plane, C, size, count);
      for (int64_t c = 0; to == n && c < C; ++c) {
        if (view.kernel) blur_across(view, form, rows + c * plane, count, line);
        else for (int64_t r = 0; r < count; ++r) emit(view, form, c, y + r, rows + c * plane + r * row, out);
      }
    }
    from = to;
    const bool each = from < n && steps[from].operation == kContrastEach;
    if (from < n && !each) steps[from].shift *= static_cast<float>(sum / (size * size));
    for (int64_t c = 0; each && c < C; ++c)
      means[c] = static_cast<float>(colour<1>(nullptr, 0, nullptr, x + c * plane, plane, row, size, size) / (size * size));
    to = next_contrast(steps, from + 1, n);
  }
  for (int64_t c = 0; view.kernel && c < C; ++c) blur_down(view, form, c, x + c * plane, line, out);
}

}  // namespace
}  // namespace contrastkit::simd::CONTRASTKIT_ISA

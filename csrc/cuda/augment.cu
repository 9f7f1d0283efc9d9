// A block makes every gridDim.x-th view. Each pixel of the crop is summed over its neighbourhood at once; contrast's mean
// and the blur need the whole view, which lies in the block's part of the scratch meanwhile.
#include <algorithm>

#include "../augment.h"
#include "launch.h"
#include "warp.cuh"

namespace contrastkit::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int64_t kMaxBlocks = 256;  // bounds the scratch

__device__ float unit(float x) { return min(max(x, 0.f), 1.f); }

// The sum over the block, in a fixed order, in every thread.
__device__ double sum_of_block(double x, double* slots) {
  x = sum_of_lanes(x);
  if (threadIdx.x % kWarp == 0) slots[threadIdx.x / kWarp] = x;
  __syncthreads();
  double sum = slots[0];
  for (int w = 1; w < kWarps; ++w) sum += slots[w];
  __syncthreads();
  return sum;
}

// The pixels that make an output: weight(k) of pixel first + k, k < taps, over their sum.
struct Taps {
  Resize resize;
  int64_t first, taps;
  float centre, slope;  // of the weights, from pixel `first` on

  __device__ Taps(const Resize& how, int64_t output, int64_t length, int64_t size) : resize(how) {
    const double scale = static_cast<double>(length) / size, reach = resize.reach(length, size);
    const double middle = (output + 0.5) * scale - 0.5;
    const int64_t low = static_cast<int64_t>(floor(middle - reach)) + 1, high = static_cast<int64_t>(ceil(middle + reach)) - 1;
    first = low > 0 ? low : 0;
    taps = (high < length - 1 ? high : length - 1) - first + 1;
    centre = middle - first, slope = 1 / resize.unit(length, size);
  }
  __device__ float weight(int64_t k) const { return resize.weight(abs(k - centre) * slope); }
};

// An image, or a posed one: bilinear between four pixels, black outside.
struct Pixels {
  const uint8_t* at;
  Draws::Place place;
  const float* pose;

  __device__ float given(int64_t y, int64_t x) const {
    return 0 <= y && y < place.height && 0 <= x && x < place.width ? at[y * place.row + x * place.column] : 0;
  }
  __device__ float operator()(int64_t y, int64_t x) const {
    if (pose == nullptr) return at[y * place.row + x * place.column];
    const double h = place.height, w = place.width, u = (2 * x + 1) / w - 1, v = (2 * y + 1) / h - 1;
    const double j = ((pose[0] * u + pose[1] * v + pose[2] + 1) * w - 1) / 2;
    const double i = ((pose[3] * u + pose[4] * v + pose[5] + 1) * h - 1) / 2;
    if (!(-1 < i && i < h && -1 < j && j < w)) return 0;
    const int64_t above = static_cast<int64_t>(floor(i)), left = static_cast<int64_t>(floor(j));
    const float s = j - left, t = i - above;
    return (1 - t) * ((1 - s) * given(above, left) + s * given(above, left + 1)) +
           t * ((1 - s) * given(above + 1, left) + s * given(above + 1, left + 1));
  }
};

// A pixel of the view, in [0, 1].
__device__ float resized(const Pixels& pixels, const Taps& down, const Taps& across, int64_t top, int64_t left) {
  float sum = 0, weights = 0;
  for (int64_t i = 0; i < down.taps; ++i) {
    float line = 0, line_weights = 0;
    for (int64_t j = 0; j < across.taps; ++j) {
      const float weight = across.weight(j);
      line += weight * pixels(top + down.first + i, left + across.first + j);
      line_weights += weight;
    }
    sum += down.weight(i) * line;
    weights += down.weight(i) * line_weights;
  }
  const float pixel = sum / weights / 255;
  return down.resize.bicubic ? unit(pixel) : pixel;
}

__device__ float luma(const float* x, int64_t plane) { return x[0] * kRed + x[plane] * kGreen + x[2 * plane] * kBlue; }

__device__ void rotate_hue(float* x, int64_t plane, float turn) {
  const float r = x[0], g = x[plane], b = x[2 * plane];
  const float top = max(max(r, g), b), span = top - min(min(r, g), b);
  const float inverse = 1 / max(span, 1e-12f);  // gray pixels: all differences are 0, and so is the hue
  float hue = top == r ? (g - b) * inverse : top == g ? (b - r) * inverse + 2 : (r - g) * inverse + 4;
  hue += 6 * (turn - floor(turn));
  hue = hue >= 6 ? hue - 6 : hue;
  hue = hue < 0 ? hue + 6 : hue;
  x[0] = top - span * unit(2 - abs(hue - 3));
  x[plane] = top - span * unit(abs(hue - 2) - 1);
  x[2 * plane] = top - span * unit(abs(hue - 4) - 1);
}

// Of saturation: no more than reaches 1, where the least channel is 0.
__device__ void scale_saturation(float* x, int64_t plane, float factor) {
  const float top = max(max(x[0], x[plane]), x[2 * plane]), span = top - min(min(x[0], x[plane]), x[2 * plane]);
  const float scale = min(max(factor, 0.f), top / max(span, 1e-12f));
  for (int c = 0; c < 3; ++c) x[c * plane] = unit(top - (top - x[c * plane]) * scale);
}

// An operation on one pixel, whose C channels are `plane` apart.
__device__ void colour(int operation, float factor, float mean, int64_t C, float* x, int64_t plane) {
  if (operation == kHue) return rotate_hue(x, plane, factor);
  if (operation == kSaturationHsv) return scale_saturation(x, plane, factor);
  if (operation == kAddend) {
    for (int64_t c = 0; c < C; ++c) x[c * plane] = unit(x[c * plane] + factor);
    return;
  }
  float other = operation == kBrightness ? 0 : mean;
  if (operation == kSaturation || operation == kGray) other = luma(x, plane);
  for (int64_t c = 0; c < C; ++c)
    x[c * plane] = operation == kGray ? other : unit(x[c * plane] * factor + (1 - factor) * other);
}

// A contrast about the mean of one channel.
__device__ void contrast(float factor, float* x, int64_t plane, double* slots) {
  double sum = 0;
  for (int64_t p = threadIdx.x; p < plane; p += kThreads) sum += x[p];
  const float mean = sum_of_block(sum, slots) / plane;
  for (int64_t p = threadIdx.x; p < plane; p += kThreads) colour(kContrast, factor, mean, 1, x + p, plane);
}

// The weights of a Gaussian at distances 0 to the radius that is returned, in shared memory.
__device__ int64_t gaussian(double sigma, int64_t radius, float* kernel) {
  const double reach = ceil(min(6.2 * sigma, 1e9));  // exp(-6.2^2 / 2) is 2^-28
  if (reach < radius) radius = static_cast<int64_t>(reach);
  double sum = 1;
  for (int64_t k = 1; k <= radius; ++k) sum += 2 * exp(-(k / sigma) * (k / sigma) / 2);
  for (int64_t k = threadIdx.x; k <= radius; k += kThreads) kernel[k] = exp(-(k / sigma) * (k / sigma) / 2) / sum;
  __syncthreads();
  return radius;
}

// A line of n pixels, `step` apart.
struct Line {
  const float* first;
  int64_t step, n;
  Border border;

  __device__ float operator()(int64_t i) const {
    if (i < 0 || i >= n) {
      if (border == kZero) return 0;
      if (border == kMirrored) i = i < 0 ? -i : 2 * (n - 1) - i;
      else i = i < 0 ? 0 : n - 1;
    }
    return first[i * step];
  }
};

// The blur at position i.
__device__ float blurred(const Line& line, int64_t i, const float* kernel, int64_t radius) {
  float sum = kernel[0] * line(i);
  for (int64_t k = 1; k <= radius; ++k) sum += kernel[k] * (line(i - k) + line(i + k));
  return sum;
}

struct Form {
  int64_t m, size, radius;
  bool gray_first, channels_last;
  const float *mean, *std;
  Choices choices;
};

template <typename Y>
__device__ Y rounded(float x) {
  if constexpr (std::is_same_v<Y, uint8_t>) return static_cast<uint8_t>(rint(x * 255));
  else return static_cast<Y>(x);
}

template <typename Y>
__device__ void make(const Draws& draws, const Form& form, int64_t view, float* x, float* other, float* kernel, Y* out) {
  __shared__ double slots[kWarps];
  CUDA_KERNEL_ASSERT(draws.fault(view) == nullptr);
  const int64_t C = draws.channels, size = form.size, plane = size * size;
  const int64_t top = draws.box[4 * view], left = draws.box[4 * view + 1], h = draws.box[4 * view + 2], w = draws.box[4 * view + 3];
  const Draws::Place place = draws.place(view);
  for (int64_t p = threadIdx.x; p < plane; p += kThreads) {
    const int64_t column = draws.flip[view] ? size - 1 - p % size : p % size;
    const Resize& resize = form.choices.resize;
    const Taps down(resize, p / size, h, size), across(resize, column, w, size);
    for (int64_t c = 0; c < C; ++c) {
      const uint8_t* channel = draws.pixels + place.offset + c * place.channel;
      const Pixels pixels{channel, place, draws.pose == nullptr ? nullptr : draws.pose + 6 * view};
      x[c * plane + p] = resized(pixels, down, across, top, left);
    }
  }

  // A thread's pixels stay its own up to the blur.
  for (int k = -1; k < 5; ++k) {
    const bool gray = draws.gray[view] && k == (form.gray_first ? -1 : 4);
    const int64_t operation = gray ? kGray : k < 0 || k > 3 ? -1 : draws.jitter[4 * view + k];
    if (operation < 0) continue;
    const float factor = operation == kGray ? 0 : draws.factors[4 * view + operation % 4];
    if (operation == kContrastEach) {
      for (int64_t c = 0; c < C; ++c) contrast(factor, x + c * plane, plane, slots);
      continue;
    }
    float mean = 0;
    if (operation == kContrast) {
      double sum = 0;
      for (int64_t p = threadIdx.x; p < plane; p += kThreads)
        for (int64_t c = 0; c < C; ++c)
          sum += x[c * plane + p] * (C != 3 ? 1.f / C : c == 0 ? kRed : c == 1 ? kGreen : kBlue);
      mean = sum_of_block(sum, slots) / plane;
    }
    for (int64_t p = threadIdx.x; p < plane; p += kThreads) colour(operation, factor, mean, C, x + p, plane);
  }

  const bool blur = draws.sigma[view] > 0;
  const Border border = form.choices.border;
  int64_t radius = 0;
  if (blur) {
    __syncthreads();
    radius = gaussian(draws.sigma[view], form.radius, kernel);
    for (int64_t p = threadIdx.x; p < C * plane; p += kThreads)
      other[p] = blurred({x + p / size * size, 1, size, border}, p % size, kernel, radius);
    __syncthreads();
  }
  for (int64_t p = threadIdx.x; p < plane; p += kThreads) {
    for (int64_t c = 0; c < C; ++c) {
      const Line column{other + c * plane + p % size, size, size, border};
      float y = blur ? blurred(column, p / size, kernel, radius) : x[c * plane + p];
      if (draws.solarize[view]) y = y >= 0.5f ? 1 - y : y;
      y = unit(y);
      if (form.mean != nullptr) y = (y - form.mean[c]) / form.std[c];
      out[form.channels_last ? p * C + c : c * plane + p] = rounded<Y>(y);
    }
  }
  __syncthreads();  // the next view uses the same memory
}

template <typename Y>
__global__ void __launch_bounds__(kThreads) augment_views(const Draws draws, const Form form, float* scratch, Y* out) {
  const int64_t numbers = draws.channels * form.size * form.size;
  float* x = scratch + blockIdx.x * 2 * numbers;
  float* kernel = reinterpret_cast<float*>(dynamic_shared());
  for (int64_t view = blockIdx.x; view < form.m; view += gridDim.x)
    make(draws, form, view, x, x + numbers, kernel, out + view * numbers);
}

}  // namespace

at::Tensor augment(
    const at::Tensor& pixels, const at::Tensor& places, const at::Tensor& image, const at::Tensor& box,
    const at::Tensor& flip, const std::optional<at::Tensor>& pose, const at::Tensor& jitter, const at::Tensor& factors,
    const at::Tensor& gray, const at::Tensor& sigma, const at::Tensor& solarize, const std::optional<at::Tensor>& mean,
    const std::optional<at::Tensor>& std_, int64_t channels, int64_t size, int64_t radius, bool gray_first,
    at::ScalarType dtype, bool channels_last, std::string_view interpolation, bool antialias, std::string_view border) {
  const Table table = check_augment(
      pixels, places, image, box, flip, pose, jitter, factors, gray, sigma, solarize, mean, std_, channels, size,
      radius, dtype);
  const Choices choices = check_choices(interpolation, antialias, border);
  const int64_t m = table.m();
  const at::Tensor views = empty_views(pixels, m, channels, size, dtype, channels_last);
  if (m == 0) return views;
  const at::Tensor means = mean ? mean->contiguous() : at::Tensor(), stds = mean ? std_->contiguous() : at::Tensor();
  const Form form{m, size, radius, gray_first, channels_last, mean ? data<const float>(means) : nullptr,
                  mean ? data<const float>(stds) : nullptr, choices};
  const int64_t blocks = std::min(m, kMaxBlocks);
  const at::Tensor scratch =
      pixels.new_empty({blocks, 2, channels, size, size}, pixels.options().dtype(at::kFloat));
  const auto run = [&](auto* out) {
    launch(
        augment_views<std::remove_pointer_t<decltype(out)>>, blocks, kThreads, (radius + 1) * sizeof(float),
        c10::cuda::getCurrentCUDAStream(), table.draws(channels), form, data<float>(scratch), out);
  };
  if (dtype == at::kFloat) run(data<float>(views));
  else if (dtype == at::kBFloat16) run(data<at::BFloat16>(views));
  else run(data<uint8_t>(views));
  return views;
}

}  // namespace contrastkit::cuda

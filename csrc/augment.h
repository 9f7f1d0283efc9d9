// Argument checks of augment, and its table of draws, for every device.
#pragma once

#include <cmath>

#include "check.h"
#include "colours.h"

namespace contrastkit {

constexpr int64_t kMostSide = 1 << 13, kMostChannels = 1 << 13;

// n images and m views, whose rows have been checked where `fault` is null.
struct Draws {
  const uint8_t* pixels;
  int64_t bytes, channels, n;
  const int64_t *places, *image, *box, *jitter;
  const bool *flip, *gray, *solarize;
  const float *pose, *factors;  // pose may be null
  const double* sigma;

  // An image: uint8 at pixels[offset + c channel + y row + x column].
  struct Place {
    int64_t offset, height, width, channel, row, column;
  };
  C10_HOST_DEVICE Place place(int64_t i) const {
    const int64_t* p = places + 6 * image[i];
    return {p[0], p[1], p[2], p[3], p[4], p[5]};
  }

  // Whether a last pixel, `count` strides away, lies within `left` bytes, which become fewer.
  C10_HOST_DEVICE static bool step(int64_t count, int64_t stride, int64_t& left) {
    if (stride < 0 || (count > 0 && stride > left / count)) return false;
    left -= count * stride;
    return true;
  }

  // What is wrong with row i, null if nothing is.
  C10_HOST_DEVICE const char* fault(int64_t i) const {
    if (image[i] < 0 || image[i] >= n) return "no such image";
    const Place p = place(i);
    int64_t left = bytes - 1 - p.offset;
    if (p.offset < 0 || left < 0 || p.height < 1 || p.width < 1 || !step(channels - 1, p.channel, left) ||
        !step(p.height - 1, p.row, left) || !step(p.width - 1, p.column, left))
      return "its image is not within pixels";
    const int64_t top = box[4 * i], leftmost = box[4 * i + 1], h = box[4 * i + 2], w = box[4 * i + 3];
    if (top < 0 || leftmost < 0 || h < 1 || w < 1 || h > p.height || w > p.width || top > p.height - h ||
        leftmost > p.width - w)
      return "its box is not within its image";
    bool colours = gray[i], finite = true;
    for (int k = 0; k < 4; ++k) {
      const int64_t operation = jitter[4 * i + k];
      if (operation < -1 || operation >= kGray) return "jitter has no such operation";
      colours |= operation == kSaturation || operation == kHue || operation == kSaturationHsv;
      finite &= std::isfinite(factors[4 * i + k]);
    }
    if (colours && channels != 3) return "gray, saturation and hue are of three channels";
    for (int k = 0; pose != nullptr && k < 6; ++k) finite &= std::isfinite(pose[6 * i + k]);
    if (!finite || !std::isfinite(sigma[i]) || sigma[i] < 0) return "factors, pose and sigma must be finite, sigma not below 0";
    return nullptr;
  }
};

// How views are resized. A pixel's weight depends on its distance from the output's centre, in pixels of the coarser grid
// (antialiased), or of the crop; beyond `reach` it is 0. Bicubic is Keys's, a = -1/2, as of PIL and of TensorFlow 2.
struct Resize {
  bool bicubic, antialias;

  C10_HOST_DEVICE double unit(int64_t length, int64_t size) const {
    const double scale = static_cast<double>(length) / size;
    return antialias && scale > 1 ? scale : 1;
  }
  C10_HOST_DEVICE double reach(int64_t length, int64_t size) const { return (bicubic ? 2 : 1) * unit(length, size); }

  template <typename T>
  C10_HOST_DEVICE T weight(T distance) const {
    const T left = (bicubic ? 2 : 1) - distance;
    if (!bicubic || left <= 0) return left > 0 ? left : 0;
    if (distance < 1) return (T(1.5) * distance - T(2.5)) * distance * distance + 1;
    return ((T(2.5) - T(0.5) * distance) * distance - 4) * distance + 2;
  }
};

struct Choices {
  Resize resize;
  Border border;
};

inline Choices check_choices(std::string_view interpolation, bool antialias, std::string_view border) {
  const bool bicubic = interpolation == "bicubic";
  TORCH_CHECK_VALUE(
      bicubic || interpolation == "bilinear", "augment: interpolation must be bilinear or bicubic, got ", interpolation);
  const bool zero = border == "zero", repeated = border == "repeated";
  TORCH_CHECK_VALUE(
      zero || repeated || border == "mirrored", "augment: border must be mirrored, zero or repeated, got ", border);
  return {{bicubic, antialias}, zero ? kZero : repeated ? kRepeated : kMirrored};
}

// The arguments that are tensors, dense, and what they point to.
struct Table {
  at::Tensor pixels, places, image, box, flip, pose, jitter, factors, gray, sigma, solarize;

  int64_t m() const { return image.size(0); }

  Draws draws(int64_t channels) const {
    return {data<const uint8_t>(pixels), pixels.numel(), channels, places.size(0), data<const int64_t>(places),
            data<const int64_t>(image), data<const int64_t>(box), data<const int64_t>(jitter), data<const bool>(flip),
            data<const bool>(gray), data<const bool>(solarize), pose.defined() ? data<const float>(pose) : nullptr,
            data<const float>(factors), data<const double>(sigma)};
  }
};

inline Table check_augment(
    const at::Tensor& pixels, const at::Tensor& places, const at::Tensor& image, const at::Tensor& box,
    const at::Tensor& flip, const std::optional<at::Tensor>& pose, const at::Tensor& jitter, const at::Tensor& factors,
    const at::Tensor& gray, const at::Tensor& sigma, const at::Tensor& solarize, const std::optional<at::Tensor>& mean,
    const std::optional<at::Tensor>& std_, int64_t channels, int64_t size, int64_t radius, at::ScalarType dtype) {
  const char* op = "augment";
  const at::Device device = pixels.device();
  TORCH_CHECK_VALUE(
      1 <= channels && channels <= kMostChannels, op, ": channels must lie in [1, ", kMostChannels, "], got ", channels);
  TORCH_CHECK_VALUE(1 <= size && size <= kMostSide, op, ": size must lie in [1, ", kMostSide, "], got ", size);
  TORCH_CHECK_VALUE(0 <= radius && radius < size, op, ": radius must lie in [0, size), got ", radius);
  const bool known = dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kByte;
  TORCH_CHECK_VALUE(known, op, ": dtype must be float32, bfloat16 or uint8, got ", dtype_name(dtype));
  const bool whole = dtype == at::kByte;
  TORCH_CHECK_VALUE(mean.has_value() == std_.has_value(), op, ": mean and std come together");
  TORCH_CHECK_VALUE(!(whole && mean), op, ": dtype uint8 has no mean and std");
  check_dtype(op, "pixels", pixels, at::kByte, {"P"}, device);
  check_int64(op, "places", places, {"n", 6}, device);
  check_int64(op, "image", image, {"m"}, device);
  const int64_t m = image.size(0);
  check_int64(op, "box", box, {m, 4}, device);
  check_dtype(op, "flip", flip, at::kBool, {m}, device);
  if (pose) check_dtype(op, "pose", *pose, at::kFloat, {m, 2, 3}, device);
  check_int64(op, "jitter", jitter, {m, 4}, device);
  check_dtype(op, "factors", factors, at::kFloat, {m, 4}, device);
  check_dtype(op, "gray", gray, at::kBool, {m}, device);
  check_dtype(op, "sigma", sigma, at::kDouble, {m}, device);
  check_dtype(op, "solarize", solarize, at::kBool, {m}, device);
  if (mean) check_dtype(op, "mean", *mean, at::kFloat, {channels}, device);
  if (std_) check_dtype(op, "std", *std_, at::kFloat, {channels}, device);
  return {pixels.contiguous(), places.contiguous(), image.contiguous(), box.contiguous(), flip.contiguous(),
          pose ? pose->contiguous() : at::Tensor(), jitter.contiguous(), factors.contiguous(), gray.contiguous(),
          sigma.contiguous(), solarize.contiguous()};
}

inline at::Tensor empty_views(
    const at::Tensor& pixels, int64_t m, int64_t C, int64_t size, at::ScalarType dtype, bool channels_last) {
  const auto options = pixels.options().dtype(dtype);
  if (channels_last) return pixels.new_empty({m, size, size, C}, options).permute({0, 3, 1, 2});
  return pixels.new_empty({m, C, size, size}, options);
}

}  // namespace contrastkit

#include "../augment.h"

#include <memory>

#include "host.h"

namespace contrastkit::cpu {
namespace {

using simd::bf16;

// Working memory of a thread, kept from view to view.
class Scratch {
 public:
  // 64 bytes aligned; what it contained is lost.
  float* floats(int64_t n) {
    if (n + 16 > size_) memory_.reset(new float[size_ = n + 16]);
    const auto at = reinterpret_cast<uintptr_t>(memory_.get());
    return memory_.get() + (-at & 63) / sizeof(float);
  }

 private:
  std::unique_ptr<float[]> memory_;
  int64_t size_ = 0;
};

int64_t taps_of(const Resize& resize, int64_t length, int64_t size) {
  return std::min<int64_t>(length, std::ceil(2 * resize.reach(length, size)));
}

// The weights for an image that ends at the crop, as in torch.nn.functional.interpolate with antialias.
template <bool bicubic>
void fill(bool antialias, const simd::Filter& filter, int64_t length, int64_t size, bool flip) {
  const Resize resize{bicubic, antialias};
  const int64_t taps = filter.taps;
  const double scale = static_cast<double>(length) / size, reach = resize.reach(length, size);
  const double slope = 1 / resize.unit(length, size);
  for (int64_t j = 0; j < size; ++j) {
    const double centre = ((flip ? size - 1 - j : j) + 0.5) * scale - 0.5;
    const int64_t first = std::clamp<int64_t>(std::floor(centre - reach) + 1, 0, length - taps);
    float* weights = filter.weights + j * taps;
    double sum = 0;
    const auto weight = [&](int64_t k) { return resize.weight(std::abs(first + k - centre) * slope); };
    for (int64_t k = 0; k < taps; ++k) sum += weight(k);
    for (int64_t k = 0; k < taps; ++k) weights[k] = weight(k) / sum;
    filter.first[j] = first;
  }
  for (int64_t j = size; j < simd::in_strips(size); ++j) {  // of no consequence, but inside
    filter.first[j] = filter.first[size - 1];
    std::fill_n(filter.weights + j * taps, taps, 0.0f);
  }
}

// The distance up to which float32 can tell the Gaussian's weights from zero: exp(-6.2^2 / 2) is 2^-28.
int64_t reach_of(double sigma, int64_t radius) {
  return std::min<int64_t>(radius, std::ceil(std::min(6.2 * sigma, 1e9)));
}

// Its weights at distances 0 to radius.
void fill_gaussian(double sigma, int64_t radius, float* kernel) {
  const auto at = [&](int64_t k) { return std::exp(-(k / sigma) * (k / sigma) / 2); };
  double sum = 1;
  for (int64_t k = 1; k <= radius; ++k) sum += 2 * at(k);
  for (int64_t k = 0; k <= radius; ++k) kernel[k] = at(k) / sum;
}

struct Job {
  const Draws& draws;
  simd::Form form;
  Resize resize;
  int64_t radius;
  bool gray_first;

  template <typename Y>
  void run(int64_t i, simd::Augment<Y> kernel, Y* out) const;
};

template <typename Y>
void Job::run(int64_t i, simd::Augment<Y> augment, Y* out) const {
  static thread_local Scratch scratch;
  const int64_t C = form.channels, size = form.size, side = simd::in_strips(size);
  const Draws::Place place = draws.place(i);
  const int64_t* box = draws.box + 4 * i;

  simd::View view{};
  view.pixels = draws.pixels + place.offset, view.end = draws.pixels + draws.bytes;
  view.height = place.height, view.width = place.width;
  view.channel = place.channel, view.row = place.row, view.column = place.column;
  view.pose = draws.pose == nullptr ? nullptr : draws.pose + 6 * i;
  view.top = box[0], view.left = box[1], view.h = box[2], view.w = box[3];
  view.factors = draws.factors + 4 * i;
  view.solarize = draws.solarize[i];
  if (draws.gray[i] && gray_first) view.operations[view.n_operations++] = kGray;
  for (const int64_t* step = draws.jitter + 4 * i; step < draws.jitter + 4 * i + 4; ++step)
    if (*step >= 0) view.operations[view.n_operations++] = static_cast<Operation>(*step);
  if (draws.gray[i] && !gray_first) view.operations[view.n_operations++] = kGray;

  view.down.taps = taps_of(resize, view.h, size), view.across.taps = taps_of(resize, view.w, size);
  const int64_t posed = view.pose ? std::min(view.h, simd::kStrip * view.h / size + view.down.taps + 2) : 0;
  view.radius = reach_of(draws.sigma[i], radius);
  const int64_t work = simd::augment_scratch(C, size, view.radius, view.w, posed);
  float* memory = scratch.floats(work + (view.down.taps + view.across.taps + 3) * side);
  view.down.weights = memory + work, view.across.weights = view.down.weights + view.down.taps * side;
  float* kernel = view.across.weights + view.across.taps * side;
  view.down.first = reinterpret_cast<int32_t*>(kernel + side), view.across.first = view.down.first + side;
  const auto fill_one = resize.bicubic ? fill<true> : fill<false>;
  fill_one(resize.antialias, view.down, view.h, size, false);
  fill_one(resize.antialias, view.across, view.w, size, draws.flip[i]);
  if (draws.sigma[i] > 0) view.kernel = kernel, fill_gaussian(draws.sigma[i], view.radius, kernel);
  augment(view, form, memory, out + i * C * size * size);
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
  const Draws draws = table.draws(channels);
  const int64_t m = table.m();
  for (int64_t i = 0; i < m; ++i)
    if (const char* fault = draws.fault(i)) TORCH_CHECK_INDEX(false, "augment: row ", i, ": ", fault);

  at::Tensor means, inverses;
  if (mean) means = mean->contiguous(), inverses = std_->reciprocal().contiguous();
  const simd::Form form{channels, size, channels_last, mean ? data<const float>(means) : nullptr,
                        mean ? data<const float>(inverses) : nullptr, choices.resize.bicubic, choices.border};
  const Job job{draws, form, choices.resize, radius, gray_first};
  const at::Tensor views = empty_views(pixels, m, channels, size, dtype, channels_last);
  const int64_t grain = std::max<int64_t>((1 << 14) / (channels * size * size), 1);
  at::parallel_for(0, m, grain, [&](int64_t i, int64_t end) {
    for (; i < end; ++i) {
      if (dtype == at::kFloat) job.run(i, kernels().augment_f, data<float>(views));
      else if (dtype == at::kBFloat16) job.run(i, kernels().augment_b, data<bf16>(views));
      else job.run(i, kernels().augment_u, data<uint8_t>(views));
    }
  });
  return views;
}

}  // namespace contrastkit::cpu

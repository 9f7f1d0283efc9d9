// Of augment, for every device and instruction set; without inline functions, as csrc/cpu/simd/kernels.h explains.
#pragma once

namespace contrastkit {

// All but the last as in contrastkit/augment/draw.py; the factor of one is number `operation % 4` of its row.
enum Operation { kBrightness, kContrast, kSaturation, kHue, kAddend, kContrastEach, kSaturationHsv, kGray };

enum Border { kMirrored, kZero, kRepeated };  // of the blur

constexpr float kRed = 0.2989f, kGreen = 0.587f, kBlue = 0.114f;  // luma weights of torchvision and PIL (ITU-R 601)

}  // namespace contrastkit

// Of augment, for every device and instruction set; without inline functions, as csrc/cpu/simd/kernels.h explains.
#pragma once

namespace contrastkit {

enum Operation { kBrightness, kContrast, kSaturation, kHue, kGray };  // the first four as in contrastkit/augment/draw.py

constexpr float kRed = 0.2989f, kGreen = 0.587f, kBlue = 0.114f;  // luma weights of torchvision and PIL (ITU-R 601)

}  // namespace contrastkit

// What ops check of their arguments before they read memory. Errors are ValueErrors, as of the references.
#pragma once

#include <initializer_list>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>

#include "common.h"

namespace contrastkit {

// The size of a dimension, or a letter for any size.
struct Size {
  Size(int64_t n) : n(n) {}
  Size(const char* letter) : letter(letter) {}

  int64_t n = 0;
  const char* letter = nullptr;
};
using Shape = std::initializer_list<Size>;

inline bool fits(const at::Tensor& t, Shape shape) {
  if (t.dim() != static_cast<int64_t>(shape.size())) return false;
  const int64_t* size = t.sizes().data();
  for (const Size& wanted : shape)
    if (const int64_t n = *size++; wanted.letter == nullptr && wanted.n != n) return false;
  return true;
}

inline std::string text(Shape shape) {
  std::ostringstream out;
  for (const Size& size : shape) {
    out << (&size == shape.begin() ? "" : ", ");
    if (size.letter != nullptr) out << size.letter;
    else out << size.n;
  }
  return "[" + out.str() + "]";
}

// As torch's users write it.
inline std::string dtype_name(at::ScalarType dtype) { return std::string(c10::getDtypeNames(dtype).first); }

// dtypes: what to call those that are right, dtype_fits: whether the tensor's is one of them.
inline void check(
    const char* op, const char* name, const at::Tensor& t, std::string_view dtypes, bool dtype_fits, Shape shape,
    const at::Device& device) {
  TORCH_CHECK_VALUE(
      dtype_fits && fits(t, shape), op, ": ", name, " must be ", dtypes, " ", text(shape), ", got ",
      dtype_name(t.scalar_type()), t.sizes());
  TORCH_CHECK_VALUE(
      t.device() == device, op, ": ", name, " is on ", t.device(), " and the other inputs on ", device);
}

// Whether `dispatch` knows the dtype: not those of 8 bits.
inline bool is_floating(const at::Tensor& t) {
  return is(t, at::kFloat) || is(t, at::kDouble) || is(t, at::kBFloat16) || is(t, at::kHalf);
}

inline void check_floating(
    const char* op, const char* name, const at::Tensor& t, Shape shape, const at::Device& device) {
  check(op, name, t, "floating", is_floating(t), shape, device);
}

inline void check_int64(
    const char* op, const char* name, const std::optional<at::Tensor>& t, Shape shape, const at::Device& device) {
  if (t) check(op, name, *t, "int64", is(*t, at::kLong), shape, device);
}

// For results of another op, in the dtype of arithmetic.
inline void check_wide(const char* op, const char* name, const at::Tensor& t, Shape shape, const at::Device& device) {
  check(op, name, t, "float32 or float64", is(t, at::kFloat) || is(t, at::kDouble), shape, device);
}

inline void check_dtype(
    const char* op, const char* name, const at::Tensor& t, at::ScalarType dtype, Shape shape, const at::Device& device) {
  check(op, name, t, dtype_name(dtype), is(t, dtype), shape, device);
}

// A number may stay on the CPU.
inline void check_number(const char* op, const char* name, const at::Tensor& x, const at::Device& device) {
  check_floating(op, name, x, {}, x.is_cpu() ? x.device() : device);
}

inline void check_tau(const char* op, const at::Tensor& tau, const at::Device& device) {
  check_number(op, "tau", tau, device);
}

inline void check_momentum(const char* op, double m) {
  TORCH_CHECK_VALUE(0 <= m && m <= 1, op, ": momentum m must lie in [0, 1], got ", m);
}

}  // namespace contrastkit

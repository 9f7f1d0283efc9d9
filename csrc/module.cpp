// contrastkit._C has the record of its build; loading it registers the kernels of {cpu,cuda}/register.cpp.
#include <pybind11/pybind11.h>

#include "build_info.h"  // written by setup.py
#include "cpu/host.h"

// contrastkit/ops/extension.py reads this text from the file before loading it, so the compiler must not remove it.
extern "C" __attribute__((used)) const char contrastkit_built_for[] = "contrastkit built for torch " BUILD_TORCH;

PYBIND11_MODULE(_C, m) {
  namespace py = pybind11;
  py::dict build;
  build["torch"] = BUILD_TORCH;
  build["compiler"] = BUILD_COMPILER;
  build["isas"] = BUILD_ISAS;
  build["isa"] = contrastkit::cpu::kernels().isa;
  build["cuda"] = BUILD_CUDA;
  build["cuda_archs"] = BUILD_CUDA_ARCHS;
  m.attr("build") = build;
}

// contrastkit._C tells how it was built; loading it registers the kernels of {cpu,cuda}/register.cpp.
#include <pybind11/pybind11.h>

#include <string>

#include "build_info.h"  // written by setup.py
#include "cpu/ops.h"

// contrastkit/kernels.py reads this text from the file, before it dares to load it.
static const char built_for[] = "contrastkit built for torch " BUILD_TORCH;

PYBIND11_MODULE(_C, m) {
  namespace py = pybind11;
  py::dict build;
  build["torch"] = std::string(built_for).substr(std::string("contrastkit built for torch ").size());
  build["compiler"] = BUILD_COMPILER;
  build["isas"] = BUILD_ISAS;
  build["isa"] = contrastkit::cpu::kernels().isa;
  build["cuda"] = BUILD_CUDA;
  build["cuda_archs"] = BUILD_CUDA_ARCHS;
  m.attr("build") = build;
}

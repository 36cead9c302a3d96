// The Python module fastifo._C: one function per op and device. Pointers and streams arrive as
// integers; the tensors behind them were checked by fastifo/ops/<op>.py, the only caller.
#include <pybind11/pybind11.h>

#include <cstdint>

#include "draw.h"

namespace py = pybind11;

namespace {

using Address = std::uintptr_t;

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

void bind_draw(py::module_& m) {
  m.def(
      "draw_cpu",
      [](Address seed, Address update, Address out, int64_t members, int64_t size, int64_t purpose,
         int64_t high) {
        fastifo::draw_cpu(at<const int64_t>(seed), at<const int64_t>(update), at<int64_t>(out),
                          members, size, purpose, high);
      },
      py::call_guard<py::gil_scoped_release>());
#ifdef FASTIFO_HAS_CUDA
  m.def(
      "draw_cuda",
      [](Address seed, Address update, Address out, int64_t members, int64_t size, int64_t purpose,
         int64_t high, Address stream) {
        fastifo::draw_cuda(at<const int64_t>(seed), at<const int64_t>(update), at<int64_t>(out),
                           members, size, purpose, high, reinterpret_cast<cudaStream_t>(stream));
      },
      py::call_guard<py::gil_scoped_release>());
#endif
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled ops of fastifo. Call them through fastifo.ops, which checks the tensors.";
#ifdef FASTIFO_HAS_CUDA
  m.attr("has_cuda") = true;
#else
  m.attr("has_cuda") = false;
#endif
  m.attr("ops") = py::make_tuple("draw");
  bind_draw(m);
}

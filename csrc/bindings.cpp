// The Python module fastifo._C: a submodule per instruction set and one for CUDA, in each the same
// functions. Pointers and streams arrive as integers; the tensors behind them were checked by
// fastifo/ops/<op>.py, the only caller.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <type_traits>

#include "adam.h"
#include "advantage.h"
#include "binned_nll.h"
#include "draw.h"
#include "dual.h"
#include "gather.h"
#include "returns.h"

namespace py = pybind11;

namespace {

// What a parameter looks like from Python: a pointer is the integer of its address.
template <typename Argument>
using Seen = std::conditional_t<std::is_pointer_v<Argument>, std::uintptr_t, Argument>;

template <typename Argument>
Argument meant(Seen<Argument> seen) {
  if constexpr (std::is_pointer_v<Argument>) {
    return reinterpret_cast<Argument>(seen);
  } else {
    return seen;
  }
}

template <typename... Arguments>
void bind(py::module_& m, const char* name, void (*function)(Arguments...)) {
  m.def(
      name, [function](Seen<Arguments>... seen) { function(meant<Arguments>(seen)...); },
      py::call_guard<py::gil_scoped_release>());
}

// Binds every op as `space::<op>_<device>`, templates for both dtypes.
#define FASTIFO_BIND_FLOAT(m, op, function)       \
  bind(m, #op "_f32", &fastifo::function<float>); \
  bind(m, #op "_f64", &fastifo::function<double>)
#define FASTIFO_BIND(m, space, device)                                \
  bind(m, "draw", &fastifo::space draw_##device);                     \
  bind(m, "draw_windows", &fastifo::space draw_windows_##device);     \
  FASTIFO_BIND_FLOAT(m, gather, space gather_##device);               \
  FASTIFO_BIND_FLOAT(m, advantage, space advantage_##device);         \
  FASTIFO_BIND_FLOAT(m, smodice, space smodice_##device);             \
  FASTIFO_BIND_FLOAT(m, dilo, space dilo_##device);                   \
  FASTIFO_BIND_FLOAT(m, binned_nll, space binned_nll_##device);       \
  FASTIFO_BIND_FLOAT(m, binned_sample, space binned_sample_##device); \
  FASTIFO_BIND_FLOAT(m, binned_mode, space binned_mode_##device);     \
  FASTIFO_BIND_FLOAT(m, adam, space adam_##device);                   \
  FASTIFO_BIND_FLOAT(m, returns, space returns_##device)

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled ops of fastifo. Call them through fastifo.ops, which checks the tensors.";
  py::list isas;  // those that this machine has, the fastest first
#ifdef FASTIFO_X86
  py::module_ avx512 = m.def_submodule("avx512");
  FASTIFO_BIND(avx512, avx512::, cpu);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    isas.append("avx512");
  }
  py::module_ avx2 = m.def_submodule("avx2");
  FASTIFO_BIND(avx2, avx2::, cpu);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) isas.append("avx2");
#endif
  py::module_ plain = m.def_submodule("plain");
  FASTIFO_BIND(plain, plain::, cpu);
  isas.append("plain");
  m.attr("isas") = py::tuple(isas);
#ifdef FASTIFO_HAS_CUDA
  m.attr("has_cuda") = true;
  py::module_ cuda = m.def_submodule("cuda");
  FASTIFO_BIND(cuda, , cuda);
#else
  m.attr("has_cuda") = false;
#endif
}

// The Python module fastifo._C: a submodule per instruction set and one for CUDA, in each the same
// functions. Pointers and streams arrive as integers; the tensors behind them were checked by
// fastifo/ops/<op>.py, the only caller.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <type_traits>

#include "common/huge_pages.h"
#include "engine/act.h"
#include "engine/peaks.h"
#include "engine/train.h"
#include "ops/adam.h"
#include "ops/advantage.h"
#include "ops/binned_nll.h"
#include "ops/draw.h"
#include "ops/dual.h"
#include "ops/gather.h"
#include "ops/returns.h"

namespace py = pybind11;

namespace {

// What Python passes for a parameter: a pointer is the integer of its address.
template <typename Argument>
using Passed = std::conditional_t<std::is_pointer_v<Argument>, std::uintptr_t, Argument>;

template <typename Argument>
Argument unwrap(Passed<Argument> value) {
  if constexpr (std::is_pointer_v<Argument>) {
    return reinterpret_cast<Argument>(value);
  } else {
    return value;
  }
}

template <typename... Arguments>
void bind(py::module_& m, const char* name, void (*function)(Arguments...)) {
  m.def(
      name, [function](Passed<Arguments>... values) { function(unwrap<Arguments>(values)...); },
      py::call_guard<py::gil_scoped_release>());
}

// Binds a field that is a pointer.
template <typename Owner, typename Pointer>
void bind_pointer(py::class_<Owner>& owner, const char* name, Pointer Owner::* field) {
  owner.def_property(
      name, [field](const Owner& self) { return reinterpret_cast<std::uintptr_t>(self.*field); },
      [field](Owner& self, std::uintptr_t address) {
        self.*field = reinterpret_cast<Pointer>(address);
      });
}

void bind_net_plan(py::module_& m) {
  using fastifo::NetPlan;
  py::class_<NetPlan> net(m, "NetPlan");
  net.def(py::init<>()).def_readwrite("widths", &NetPlan::widths);
  net.def_readwrite("layer_norm", &NetPlan::layer_norm).def_readwrite("size", &NetPlan::size);
  net.def_readwrite("exact_output", &NetPlan::exact_output);
  bind_pointer(net, "weights", &NetPlan::weights);
  bind_pointer(net, "first", &NetPlan::first);
  bind_pointer(net, "second", &NetPlan::second);
  bind_pointer(net, "target", &NetPlan::target);
  bind_pointer(net, "packs", &NetPlan::packs);
  net.def_readwrite("packs_size", &NetPlan::packs_size);
}

void bind_source_plan(py::module_& m) {
  using fastifo::SourcePlan;
  py::class_<SourcePlan> source(m, "SourcePlan");
  source.def(py::init<>()).def_readwrite("purpose", &SourcePlan::purpose);
  source.def_readwrite("transitions", &SourcePlan::transitions);
  source.def_readwrite("reward_stride", &SourcePlan::reward_stride);
  source.def_readwrite("action_stride", &SourcePlan::action_stride);
  bind_pointer(source, "windows", &SourcePlan::windows);
  bind_pointer(source, "first", &SourcePlan::first);
  bind_pointer(source, "count", &SourcePlan::count);
  bind_pointer(source, "obs", &SourcePlan::obs);
  bind_pointer(source, "row", &SourcePlan::row);
  bind_pointer(source, "terminal", &SourcePlan::terminal);
  bind_pointer(source, "action", &SourcePlan::action);
  bind_pointer(source, "reward", &SourcePlan::reward);
}

void bind_plan(py::module_& m) {
  using fastifo::Plan;
  py::class_<Plan> plan(m, "Plan");
  plan.def(py::init<>()).def_readwrite("method", &Plan::method);
  plan.def_readwrite("precision", &Plan::precision).def_readwrite("kernel", &Plan::kernel);
  plan.def_readwrite("repacks", &Plan::repacks);
  plan.def_readwrite("members", &Plan::members).def_readwrite("batch", &Plan::batch);
  plan.def_readwrite("obs_dim", &Plan::obs_dim).def_readwrite("scale", &Plan::scale);
  plan.def_readwrite("sources", &Plan::sources).def_readwrite("mix_purpose", &Plan::mix_purpose);
  plan.def_readwrite("noise_purpose", &Plan::noise_purpose);
  plan.def_readwrite("policy_sources", &Plan::policy_sources);
  plan.def_readwrite("next_from", &Plan::next_from);
  plan.def_readwrite("policy", &Plan::policy).def_readwrite("scalar", &Plan::scalar);
  plan.def_readwrite("embedding", &Plan::embedding);
  plan.def_readwrite("target_period", &Plan::target_period);
  plan.def_readwrite("critic", &Plan::critic).def_readwrite("twin", &Plan::twin);
  plan.def_readwrite("log_std", &Plan::log_std);
  plan.def_readwrite("policy_decay_updates", &Plan::policy_decay_updates);
  plan.def_readwrite("action_dim", &Plan::action_dim).def_readwrite("bins", &Plan::bins);
  plan.def_readwrite("radius", &Plan::radius);
  plan.def_readwrite("numbers", &Plan::numbers).def_readwrite("flags", &Plan::flags);
  bind_pointer(plan, "seed", &Plan::seed);
  bind_pointer(plan, "mean", &Plan::mean);
  bind_pointer(plan, "deviation", &Plan::deviation);
  bind_pointer(plan, "taps", &Plan::taps);
  bind_pointer(plan, "norm", &Plan::norm);
  bind_pointer(plan, "policy_loss", &Plan::policy_loss);
}

void bind_names(py::module_& m) {
  m.def("metric_names", &fastifo::metric_names);
  m.attr("parts") = py::make_tuple(FASTIFO_PARTS);
  m.attr("max_member_threads") = fastifo::kMaxMemberThreads;
  m.attr("source_digest") = FASTIFO_SOURCE_DIGEST;
}

// Binds the native engine of one instruction set.
template <typename Train, typename Act>
void bind_engine(py::module_& m, Train* function, Act* act,
                 std::vector<std::string> (*bf16_kernels)()) {
  m.def("bf16_kernels", bf16_kernels);
  m.def(
      "act",
      [act](const std::vector<fastifo::Plan*>& plans, std::uintptr_t first, std::uintptr_t obs,
            std::uintptr_t episode, int64_t episodes, int64_t purpose, int64_t step,
            std::uintptr_t action) {
        act(plans, reinterpret_cast<const int64_t*>(first), reinterpret_cast<const void*>(obs),
            reinterpret_cast<const int64_t*>(episode), episodes, purpose, step,
            reinterpret_cast<void*>(action));
      },
      py::call_guard<py::gil_scoped_release>());
  m.def(
      "train",
      [function](const fastifo::Plan& plan, int64_t first, int64_t count, int64_t burst,
                 int64_t threads, std::uintptr_t metrics, std::uintptr_t seconds) {
        function(plan, first, count, burst, threads, reinterpret_cast<double*>(metrics),
                 reinterpret_cast<double*>(seconds));
      },
      py::call_guard<py::gil_scoped_release>());
}

template <typename Function>
void bind_peaks(py::module_& m, Function* peak_rate) {
  m.def("peak_rate", peak_rate, py::call_guard<py::gil_scoped_release>());
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
  bind_net_plan(m);
  bind_source_plan(m);
  bind_plan(m);
  bind_names(m);
  m.def(
      "advise_huge_pages",
      [](std::uintptr_t data, size_t bytes) {
        fastifo::advise_huge_pages(reinterpret_cast<void*>(data), bytes);
      },
      py::call_guard<py::gil_scoped_release>());
  py::list isas;  // those that this machine has, the fastest first
#ifdef FASTIFO_WITH_avx512
  py::module_ avx512 = m.def_submodule("avx512");
  FASTIFO_BIND(avx512, avx512::, cpu);
  bind_peaks(avx512, &fastifo::avx512::peak_rate);
  bind_engine(avx512, &fastifo::avx512::train_cpu, &fastifo::avx512::act_cpu,
              &fastifo::avx512::bf16_kernels);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    isas.append("avx512");
  }
#endif
#ifdef FASTIFO_WITH_avx2
  py::module_ avx2 = m.def_submodule("avx2");
  FASTIFO_BIND(avx2, avx2::, cpu);
  bind_peaks(avx2, &fastifo::avx2::peak_rate);
  bind_engine(avx2, &fastifo::avx2::train_cpu, &fastifo::avx2::act_cpu,
              &fastifo::avx2::bf16_kernels);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) isas.append("avx2");
#endif
  py::module_ plain = m.def_submodule("plain");
  FASTIFO_BIND(plain, plain::, cpu);
  bind_peaks(plain, &fastifo::plain::peak_rate);
  bind_engine(plain, &fastifo::plain::train_cpu, &fastifo::plain::act_cpu,
              &fastifo::plain::bf16_kernels);
  py::module_ fp64 = m.def_submodule("fp64");  // the engine in double
  bind_engine(fp64, &fastifo::fp64::train_cpu, &fastifo::fp64::act_cpu,
              &fastifo::fp64::bf16_kernels);
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

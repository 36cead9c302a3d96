// The launch functions of all ops as one C function, which kernels.py calls.
#include <map>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ops/adam.h"
#include "ops/advantage.h"
#include "ops/binned_nll.h"
#include "ops/draw.h"
#include "ops/dual.h"
#include "ops/gather.h"
#include "ops/returns.h"

void compare_loss(const char* name, int64_t in_double);
void fault(int64_t number, float* out);

namespace {

// One argument: a double in `number`, else `integer`, the address for a pointer. A vector is the
// address of its size, followed by its entries.
struct Argument {
  int64_t integer;
  double number;
};

template <typename T>
T unwrap(const Argument& argument) {
  if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<T>(argument.integer);
  } else if constexpr (std::is_same_v<T, double>) {
    return argument.number;
  } else if constexpr (std::is_same_v<T, std::vector<int64_t>>) {
    const auto* const entries = reinterpret_cast<const int64_t*>(argument.integer);
    return {entries + 1, entries + 1 + entries[0]};
  } else {
    return argument.integer;
  }
}

struct Kernel {
  void (*function)();
  void (*call)(void (*function)(), const Argument* arguments);
  int64_t parameters;
};

template <typename... Types, size_t... kIndices>
void call(void (*function)(Types...), const Argument* arguments, std::index_sequence<kIndices...>) {
  function(unwrap<std::decay_t<Types>>(arguments[kIndices])...);
}

template <typename... Types>
Kernel kernel(void (*function)(Types...)) {
  const auto call_it = [](void (*erased)(), const Argument* arguments) {
    call(reinterpret_cast<void (*)(Types...)>(erased), arguments,
         std::index_sequence_for<Types...>());
  };
  return {reinterpret_cast<void (*)()>(function), call_it, sizeof...(Types)};
}

#define BOTH(op)                                      \
  {#op "_f32", kernel(&fastifo::op##_cuda<float>)}, { \
    #op "_f64", kernel(&fastifo::op##_cuda<double>)   \
  }

const std::map<std::string, Kernel> kKernels = {
    {"compare_loss", kernel(&compare_loss)},
    {"fault", kernel(&fault)},
    {"draw", kernel(&fastifo::draw_cuda)},
    {"draw_windows", kernel(&fastifo::draw_windows_cuda)},
    BOTH(adam),
    BOTH(advantage),
    BOTH(binned_mode),
    BOTH(binned_nll),
    BOTH(binned_sample),
    BOTH(dilo),
    BOTH(gather),
    BOTH(returns),
    BOTH(smodice),
};

std::string message;

}  // namespace

// The number of its parameters, or -1 for a name that there is not.
extern "C" int64_t parameters_of(const char* name) {
  const auto found = kKernels.find(name);
  return found == kKernels.end() ? -1 : found->second.parameters;
}

// 0: no error, 1: a bad argument, 2: a failed launch.
extern "C" int launch_kernel(const char* name, const Argument* arguments) {
  const Kernel& kernel = kKernels.at(name);
  try {
    kernel.call(kernel.function, arguments);
    return 0;
  } catch (const std::invalid_argument& error) {
    message = error.what();
    return 1;
  } catch (const std::exception& error) {
    message = error.what();
    return 2;
  }
}

extern "C" const char* error_message() { return message.c_str(); }

extern "C" void use_order(int order, unsigned seed) {
  cuda_on_cpu::use_order(static_cast<cuda_on_cpu::Order>(order), seed);
}

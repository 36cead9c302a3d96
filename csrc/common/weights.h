// What the losses of advantage.cpp and dual.cpp share on the CPU: capped exponential weights and
// the numbers a log keeps of them.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/simd.h"

namespace fastifo {
namespace FASTIFO_ISA {

// weight = min(exp(exponent), cap): the exponent is capped, so that nothing overflows. Returns how
// many reached the cap.
template <typename T>
FASTIFO_INLINE int64_t capped_exp(const T* exponent, int64_t count, T cap, T* weight) {
  const T log_cap = std::log(cap);
  int64_t capped = 0;
  for (int64_t i = 0; i < count; ++i) capped += exponent[i] >= log_cap;
  const Vec<T> high = fill(log_cap);
  for (int64_t i = 0; i < count; i += kLanes<T>) {
    const int64_t left = count - i < kLanes<T> ? count - i : kLanes<T>;
    const Vec<T> x = load_some(exponent + i, left);
    const Vec<T> value = x >= high ? fill(cap) : exp(x);
    store_some(weight + i, value, left);
  }
  return capped;
}

// The advantage's mean and population deviation, the mean weight, the capped share; NaN for none.
template <typename T>
FASTIFO_INLINE void describe(const T* advantage, const T* weight, int64_t count, int64_t capped,
                             T* statistics) {
  const double size = static_cast<double>(count);
  double sum = 0.0, squares = 0.0, weights = 0.0;
  for (int64_t i = 0; i < count; ++i) {
    sum += static_cast<double>(advantage[i]);
    weights += static_cast<double>(weight[i]);
  }
  const double mean = sum / size;
  for (int64_t i = 0; i < count; ++i) {
    const double distance = static_cast<double>(advantage[i]) - mean;
    squares += distance * distance;
  }
  statistics[0] = static_cast<T>(mean);
  statistics[1] = static_cast<T>(std::sqrt(squares / size));
  statistics[2] = static_cast<T>(weights / size);
  statistics[3] = static_cast<T>(static_cast<double>(capped) / size);
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

// A layer with few outputs, at most 16: the weights of output n are element n of every line, its
// result is row n. Products are in single precision.
#pragma once

#include "engine/panels.h"

namespace fastifo {
namespace FASTIFO_ISA {

// One output: out(0, b) = sum over k of w(k) x(k, b) + bias, with ReLU if `relu`.
inline void forward_scalar(const Real* w, Real bias, bool relu, const Panels& x,
                           const Panels& out) {
  constexpr int kSums = 4;  // independent sums, to hide latency
  for (int64_t panel = 0; panel < x.panels(); ++panel) {
    for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
      Vec<Real> sum[kSums] = {fill(bias)};
      for (int64_t row = 0; row < x.rows; row += kSums) {
        for (int i = 0; i < kSums; ++i) {
          sum[i] += w[(row + i) * kPanel] * load(x.line(panel, row + i) + v);
        }
      }
      const Vec<Real> y = (sum[0] + sum[1]) + (sum[2] + sum[3]);
      store(out.line(panel, 0) + v, relu ? (y < Real(0) ? Vec<Real>{} : y) : y);
    }
  }
}

// Calls finish(row, panel, line) for every line of the gradient in the layer's input, the sum over
// outputs n of w(row, n) gradient(n, b).
template <typename Finish>
FASTIFO_INLINE void backward_scalar(const Real* w, int64_t rows, int64_t outputs,
                                    const Panels& gradient, const Finish& finish) {
  for (int64_t panel = 0; panel < gradient.panels(); ++panel) {
    for (int64_t row = 0; row < rows; ++row) {
      alignas(64) Real line[kPanel];
      for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
        Vec<Real> sum = load(gradient.line(panel, 0) + v) * w[row * kPanel];
        for (int64_t n = 1; n < outputs; ++n) {
          sum += load(gradient.line(panel, n) + v) * w[row * kPanel + n];
        }
        store(line + v, sum);
      }
      finish(row, panel, line);
    }
  }
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

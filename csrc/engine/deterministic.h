// The actions tanh(f) of a deterministic policy on panels, and the gradient in f.
#pragma once

#include "engine/panels.h"

namespace fastifo {
namespace FASTIFO_ISA {

// x within [-limit, limit]; a NaN stays.
FASTIFO_INLINE Vec<Real> clip(Vec<Real> x, Real limit) {
  const Vec<Real> high = fill(limit), low = -high;
  return x > high ? high : x < low ? low : x;
}

// Stores the first `count` lanes, and 0 in the others.
FASTIFO_INLINE void store_padded(Real* to, Vec<Real> value, int64_t count) {
  store(to, Vec<Real>{});
  store_some(to, value, count);
}

// Actions, and how they differ from those of the data. A view: each matrix is [dims, rows].
struct ActionPanels {
  int64_t dims;
  Panels action;
  Panels data;     // may be the same memory as `action`, which replaces it
  Panels error;    // action - data
  Real* distance;  // [rows] |action - data|^2

  // Writes the actions chosen(panel, dim, v), a vector that starts at lane v, of some rows, and 0
  // for those from `batch` on: a NaN there would reach the member that uses this memory next.
  template <typename Chosen>
  FASTIFO_INLINE void write(const Range& rows, int64_t batch, const Chosen& chosen) const {
    for (int64_t row = rows.first; row < rows.last; row += kLanes<Real>) {
      const int64_t panel = row / kPanel, v = row % kPanel;
      const int64_t count = std::clamp<int64_t>(batch - row, 0, kLanes<Real>);
      Vec<Real> total{};
      for (int64_t dim = 0; dim < dims; ++dim) {
        const Vec<Real> value = chosen(panel, dim, v);
        const Vec<Real> difference = value - load(data.line(panel, dim) + v);
        store(error.line(panel, dim) + v, difference);
        store_padded(action.line(panel, dim) + v, value, count);
        total += difference * difference;
      }
      store(distance + row, total);
    }
  }

  // out = slope(panel, dim, v) * (1 - action^2) for some rows, and 0 for those from `batch` on:
  // the gradient in f of a loss whose gradient in the action is `slope`.
  template <typename Slope>
  FASTIFO_INLINE void write_gradient(const Range& rows, int64_t batch, const Slope& slope,
                                     const Panels& out) const {
    for (int64_t row = rows.first; row < rows.last; row += kLanes<Real>) {
      const int64_t panel = row / kPanel, v = row % kPanel;
      const int64_t count = std::clamp<int64_t>(batch - row, 0, kLanes<Real>);
      for (int64_t dim = 0; dim < dims; ++dim) {
        const Vec<Real> value = load(action.line(panel, dim) + v);
        const Vec<Real> gradient = slope(panel, dim, v) * (Real(1) - value * value);
        store_padded(out.line(panel, dim) + v, gradient, count);
      }
    }
  }
};

}  // namespace FASTIFO_ISA
}  // namespace fastifo

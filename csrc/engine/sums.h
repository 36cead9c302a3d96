// Sums over the columns of panels (rows of the batch), always in the same order.
#pragma once

#include "engine/panels.h"

namespace fastifo {
namespace FASTIFO_ISA {

FASTIFO_INLINE Real sum_lanes(Vec<Real> sum) {
  Real total = Real(0);
  for (int i = 0; i < kLanes<Real>; ++i) total += sum[i];
  return total;
}

// The sum of x(row, b) * other(0, b) over all columns b.
FASTIFO_INLINE Real dot(const Panels& x, int64_t row, const Panels& other) {
  Vec<Real> sum{};
  for (int64_t panel = 0; panel < x.panels(); ++panel) {
    for (int64_t i = 0; i < kPanel; i += kLanes<Real>) {
      sum += load(x.line(panel, row) + i) * load(other.line(panel, 0) + i);
    }
  }
  return sum_lanes(sum);
}

// The sum of one row.
FASTIFO_INLINE Real row_sum(const Panels& values, int64_t row) {
  Vec<Real> sum{};
  for (int64_t panel = 0; panel < values.panels(); ++panel) {
    for (int64_t i = 0; i < kPanel; i += kLanes<Real>) sum += load(values.line(panel, row) + i);
  }
  return sum_lanes(sum);
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

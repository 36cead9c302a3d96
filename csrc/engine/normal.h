// The loss of a normal policy on panels. The mean is tanh of the net's output; one standard
// deviation per action dimension serves all observations.
#pragma once

#include "engine/panels.h"

namespace fastifo {
namespace FASTIFO_ISA {

// Limits of log_std, as in fastifo/nn/heads.py and fastifo/algos/iql.py.
constexpr double kLeastLogStd = -20.0, kNarrowLeastLogStd = -5.0, kLargestLogStd = 2.0;

// Returns the mean over rows of weight * -log density of the actions; `raw` is replaced by the
// gradient in it.
//
// raw: [dims, rows], the net's output, padded.  action: [dims, rows].  log_std: [dims].
// least: limit of log_std.  weight: [rows], 0 in the padding.  log_std_gradient: [dims].
inline double normal_loss(const Panels& raw, const Panels& action, const Real* log_std,
                          double least, const Real* weight, int64_t rows, int64_t dims,
                          Real* log_std_gradient) {
  const double log_root = 0.5 * std::log(2.0 * 3.14159265358979323846);
  const Real scale = Real(1) / static_cast<Real>(rows);
  double loss = 0.0;
  for (int64_t dim = 0; dim < dims; ++dim) {
    const Real s =
        std::clamp(log_std[dim], static_cast<Real>(least), static_cast<Real>(kLargestLogStd));
    const Real inverse = std::exp(-s), constant = s + static_cast<Real>(log_root);
    Vec<Real> cost{}, slope{};
    for (int64_t panel = 0; panel < raw.panels(); ++panel) {
      for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
        const Vec<Real> mean = tanh(load(raw.line(panel, dim) + v));
        const Vec<Real> z = (load(action.line(panel, dim) + v) - mean) * inverse;
        const Vec<Real> w = load(weight + panel * kPanel + v) * scale;
        cost += w * (Real(0.5) * z * z + constant);
        slope += w * (Real(1) - z * z);
        store(raw.line(panel, dim) + v, -w * z * inverse * (Real(1) - mean * mean));
      }
    }
    Real total = Real(0);
    for (int i = 0; i < kLanes<Real>; ++i) {
      loss += static_cast<double>(cost[i]);
      total += slope[i];
    }
    log_std_gradient[dim] = s == log_std[dim] ? total : Real(0);
  }
  return loss;
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

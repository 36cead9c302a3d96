// Inverse dynamics: every action weighs one; the policy reads pairs (fastifo/algos/bco.py).
#pragma once

#include "methods/bc.h"

namespace fastifo {

template <typename Real>
struct Inverse : BC<Real> {
  static constexpr const char* kMetrics[] = {"inverse_loss"};
  using BC<Real>::BC;
};

}  // namespace fastifo

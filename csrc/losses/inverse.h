// Inverse dynamics (fastifo/algos/bco.py): as BC, with a policy that reads pairs of observations.
#pragma once

#include "losses/bc.h"

namespace fastifo {

template <typename Real>
struct Inverse : BC<Real> {
  static constexpr const char* kName = "inverse";
  static constexpr const char* kMetrics[] = {"inverse_loss"};
  using BC<Real>::BC;
};

}  // namespace fastifo

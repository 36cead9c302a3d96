// Behaviour cloning: every action weighs one (fastifo/algos/bc.py).
#pragma once

#include "methods/batch.h"

namespace fastifo {

template <typename Real>
struct BC {
  static constexpr const char* kMetrics[] = {"policy_loss"};

  template <typename Numbers>
  BC(const Numbers&, int64_t) {}

  template <typename Team>
  FASTIFO_HOST_DEVICE void judge(const Team&, const Seen<Real>&, const Judged<Real>&) const {}
};

}  // namespace fastifo

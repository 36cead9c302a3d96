// Behaviour cloning (fastifo/algos/bc.py): every action has weight 1, set by the engine.
#pragma once

#include "losses/batch.h"

namespace fastifo {

template <typename Real>
struct BC {
  static constexpr const char* kName = "bc";
  static constexpr const char* kMetrics[] = {"policy_loss"};

  template <typename Numbers>
  BC(const Numbers&, int64_t) {}

  template <typename Team>
  FASTIFO_HOST_DEVICE void loss_and_weights(const Team&, const BatchView<Real>&,
                                            const LossOutputs<Real>&) const {}
};

}  // namespace fastifo

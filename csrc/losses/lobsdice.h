// LobsDICE: the dual of matching the expert's state transitions (fastifo/algos/lobsdice.py and,
// with a temperature, the op `smodice`). Source: Kim et al. 2022, arXiv:2202.13536, with the inner
// problem solved in closed form (authors' code).
#pragma once

#include "losses/smodice.h"

namespace fastifo {

// SMODICE's dual in KL at the temperature 1 + kl_weight; the weights are normalised.
template <typename Real>
struct LobsDICE {
  static constexpr const char* kName = "lobsdice";
  static constexpr const auto& kMetrics = SMODICE<Real>::kMetrics;

  SMODICE<Real> dual;

  template <typename Numbers>
  LobsDICE(const Numbers& plan, int64_t member) : dual(plan, member) {
    dual.config.temperature = static_cast<Real>(1.0 + plan.number("kl_weight", member));
    dual.config.chi2 = false;
    dual.config.normalizes = true;
  }

  // Sources: initial observations, background.
  template <typename Team>
  FASTIFO_HOST_DEVICE void loss_and_weights(const Team& team, const BatchView<Real>& batch,
                                            const LossOutputs<Real>& out) const {
    dual.loss_and_weights(team, batch, out);
  }
};

}  // namespace fastifo

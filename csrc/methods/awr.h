// Advantage-weighted regression on true rewards (fastifo/algos/awr.py).
#pragma once

#include "methods/advantage.h"

namespace fastifo {

template <typename Real>
struct AWR {
  static constexpr const char* kMetrics[] = {
      "value_loss",    "policy_loss", "value_mean_background", "advantage_mean",
      "advantage_std", "weight_mean", "clip_fraction"};
  Advantage<Real> advantage;

  template <typename Numbers>
  AWR(const Numbers& plan, int64_t member) : advantage(plan, member) {}

  template <typename Team>
  FASTIFO_HOST_DEVICE void judge(const Team& team, const Seen<Real>& seen,
                                 const Judged<Real>& out) const {
    const auto reward = [&](int64_t i) { return seen.reward[i]; };
    const Real scale = Real(1) / static_cast<Real>(seen.batch);

    // Value: mean squared one-step error towards the target copy.
    out.metrics[0] =
        advantage.value_loss(team, seen, 0, reward, [=](int64_t) { return scale; }, out.gradient);
    out.metrics[2] = mean_output(team, seen, 0);

    // Policy: weighted by exp(advantage / temperature).
    advantage.weigh(team, seen, reward, out.weight, out.metrics + 3);
  }
};

}  // namespace fastifo

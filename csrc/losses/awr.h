// Advantage-weighted regression on true rewards (fastifo/algos/awr.py). Source: Peng et al. 2019,
// arXiv:1910.00177, with the one-step targets of arXiv 2507.06701. One source: background.
#pragma once

#include "losses/advantage.h"

namespace fastifo {

template <typename Real>
struct AWR {
  static constexpr const char* kName = "awr";
  static constexpr const char* kMetrics[] = {
      "value_loss",    "policy_loss", "value_mean_background", "advantage_mean",
      "advantage_std", "weight_mean", "clip_fraction"};
  AdvantageLoss<Real> advantage;

  template <typename Numbers>
  AWR(const Numbers& plan, int64_t member)
      : advantage(AdvantageLoss<Real>::from_plan(plan, member)) {}

  template <typename Team>
  FASTIFO_HOST_DEVICE void loss_and_weights(const Team& team, const BatchView<Real>& batch,
                                            const LossOutputs<Real>& out) const {
    const auto reward = [&](int64_t i) { return batch.reward[i]; };
    const Transitions transitions{batch.output, batch.next_value, batch.terminal, reward};

    // Value: L = E_B[(y - v(s))^2], y = r + gamma vbar(s').
    const Real scale = Real(1) / static_cast<Real>(batch.batch);
    out.metrics[0] = advantage.value_loss(
        team, batch.rows(1), transitions, [=](int64_t) { return scale; }, out.gradient);
    out.metrics[2] = mean_output(team, batch, 0);

    // Policy: w = exp((y - v(s)) / temperature).
    advantage.weights(team, batch, 1, reward, out.weight, out.metrics + 3);
  }
};

}  // namespace fastifo

// SQIL with privileged expert actions (fastifo/algos/sqil.py), a baseline of arXiv 2507.06701.
// Sources: expert, background; the policy learns from both.
#pragma once

#include "losses/advantage.h"

namespace fastifo {

template <typename Real>
struct SQIL {
  static constexpr const char* kName = "sqil";
  static constexpr const char* kMetrics[] = {
      "value_loss",     "policy_loss",   "value_mean_expert", "value_mean_background",
      "advantage_mean", "advantage_std", "weight_mean",       "clip_fraction"};
  AdvantageLoss<Real> advantage;
  Real alpha, policy_alpha;

  template <typename Numbers>
  SQIL(const Numbers& plan, int64_t member)
      : advantage(AdvantageLoss<Real>::from_plan(plan, member)),
        alpha(static_cast<Real>(plan.number("alpha", member))),
        policy_alpha(static_cast<Real>(plan.number("policy_alpha", member))) {
    if (policy_alpha < Real(0)) policy_alpha = alpha;
  }

  template <typename Team>
  FASTIFO_HOST_DEVICE void loss_and_weights(const Team& team, const BatchView<Real>& batch,
                                            const LossOutputs<Real>& out) const {
    const int64_t stride = batch.stride;  // the background's first row
    const auto reward = [&](int64_t i) { return i < stride ? Real(1) : Real(0); };
    const Transitions transitions{batch.output, batch.next_value, batch.terminal, reward};

    // Value: L = (1 - alpha) E_E[(y - v(s))^2] + alpha E_B[(y - v(s))^2], r = 1 on expert rows.
    const Real size = static_cast<Real>(batch.batch);
    const Real expert = (Real(1) - alpha) / size, background = alpha / size;
    const auto scale = [&](int64_t i) { return i < stride ? expert : background; };
    out.metrics[0] = advantage.value_loss(team, batch.rows(2), transitions, scale, out.gradient);
    out.metrics[2] = mean_output(team, batch, 0);
    out.metrics[3] = mean_output(team, batch, 1);

    // Policy: w = exp((y - v(s)) / temperature) on both sources, mixed by policy_alpha.
    advantage.weights(team, batch, 2, reward, out.weight, out.metrics + 4);
    const Real expert_share = Real(2) * (Real(1) - policy_alpha);
    const Real background_share = Real(2) * policy_alpha;
    team.each(batch.rows(2),
              [&](int64_t i) { out.weight[i] *= i < stride ? expert_share : background_share; });
  }
};

}  // namespace fastifo

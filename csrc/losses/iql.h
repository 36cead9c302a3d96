// Implicit Q-learning (fastifo/algos/iql.py): the value's expectile loss with the policy's weights,
// and one critic's squared error. Source: Kostrikov et al. 2021, arXiv:2110.06169, Eqs. 5 to 7.
#pragma once

#include "losses/advantage.h"

namespace fastifo {

template <typename Real>
struct IQL {
  static constexpr const char* kName = "iql";
  static constexpr const char* kMetrics[] = {
      "value_loss",     "critic_loss",   "policy_loss", "value_mean_background", "critic_mean",
      "advantage_mean", "advantage_std", "weight_mean", "clip_fraction"};
  enum Metric { kValueLoss, kCriticLoss, kPolicyLoss, kValueMean, kCriticMean, kAdvantageMean };
  static constexpr bool kHasCritics = true;  // trained by engine/actor_critic.h
  OneStepTarget<Real> target;
  Real expectile, temperature, max_weight;
  Real critic_share;  // of one critic's error in the critics' loss

  template <typename Numbers>
  IQL(const Numbers& plan, int64_t member)
      : target(static_cast<Real>(plan.number("gamma", member)), plan.flag("absorbing")),
        expectile(static_cast<Real>(plan.number("expectile", member))),
        temperature(Real(1) / static_cast<Real>(plan.number("inverse_temperature", member))),
        max_weight(static_cast<Real>(plan.number("max_weight", member))),
        critic_share(plan.flag("sums_critic_errors") ? Real(1) : Real(0.5)) {}

  // The value's loss, its gradient in `value` and the policy's weights. Sets all metrics but
  // critic_loss and policy_loss.
  template <typename Team>
  FASTIFO_HOST_DEVICE void loss_and_weights(const Team& team, const Rows& rows,
                                            const Real* value,  // [rows] of the online net
                                            const Real* first,  // [rows] of the two target critics
                                            const Real* second,
                                            Real* gradient,  // [rows]
                                            Real* weight,    // [rows]
                                            double* metrics) const {
    const auto q = [&](int64_t i) { return second[i] < first[i] ? second[i] : first[i]; };
    const auto advantage = [&](int64_t i) { return q(i) - value[i]; };

    // Value: L_V = E[|expectile - 1(u < 0)| u^2], u = min(Q1, Q2)(s, a) - V(s) (Eq. 5).
    const Real scale = Real(1) / static_cast<Real>(rows.count());
    metrics[kValueLoss] = squared_loss(
        team, rows, advantage, SquaredCost<Real>::expectile(expectile),
        [=](int64_t) { return scale; }, gradient);
    metrics[kValueMean] = mean_of(team, rows, [&](int64_t i) { return value[i]; });
    metrics[kCriticMean] = mean_of(team, rows, q);
    weights(team, rows, value, first, second, weight, metrics);
  }

  // Policy: w = exp(inverse_temperature (Q - V)) (Eq. 7). Sets the metrics from kAdvantageMean on.
  template <typename Team>
  FASTIFO_HOST_DEVICE void weights(const Team& team, const Rows& rows, const Real* value,
                                   const Real* first, const Real* second, Real* weight,
                                   double* metrics) const {
    const auto advantage = [&](int64_t i) {
      return (second[i] < first[i] ? second[i] : first[i]) - value[i];
    };
    advantage_weights(team, rows, advantage, temperature, max_weight, weight,
                      metrics + kAdvantageMean);
  }

  // One critic's share of L_Q = E[(r + gamma V(s') - Q(s, a))^2] (Eq. 6), the mean or the sum over
  // two critics, and its gradient in `q`.
  template <typename Team>
  FASTIFO_HOST_DEVICE double critic_loss(const Team& team, const Rows& rows,
                                         const Real* q,           // [rows] of the online critic
                                         const Real* next_value,  // [rows]
                                         const Real* reward,      // [rows]
                                         const Real* terminal,    // [rows] 0 or 1
                                         Real* gradient) const {  // [rows]
    const Transitions transitions{q, next_value, terminal, [=](int64_t i) { return reward[i]; }};
    const auto error = [&](int64_t i) { return transitions.error(target, i); };
    const Real scale = critic_share / static_cast<Real>(rows.count());
    return squared_loss(
        team, rows, error, SquaredCost<Real>(), [=](int64_t) { return scale; }, gradient);
  }
};

}  // namespace fastifo

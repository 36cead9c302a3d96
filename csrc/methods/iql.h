// Implicit Q-learning (fastifo/algos/iql.py): the value's expectile loss with the policy's weights,
// and one critic's squared error. Source: Kostrikov et al. 2021, arXiv:2110.06169, Eqs. 5 to 7.
#pragma once

#include "methods/batch.h"

namespace fastifo {

template <typename Real>
struct IQL {
  static constexpr const char* kMetrics[] = {
      "value_loss",     "critic_loss",   "policy_loss", "value_mean_background", "critic_mean",
      "advantage_mean", "advantage_std", "weight_mean", "clip_fraction"};
  enum Metric {
    kValueLoss,
    kCriticLoss,
    kPolicyLoss,
    kValueMean,
    kCriticMean,
    kAdvantageMean,
    kAdvantageStd,
    kWeightMean,
    kClipFraction
  };
  Real gamma, expectile, inverse_temperature, max_weight, final_factor;

  template <typename Numbers>
  IQL(const Numbers& plan, int64_t member)
      : gamma(static_cast<Real>(plan.number("gamma", member))),
        expectile(static_cast<Real>(plan.number("expectile", member))),
        inverse_temperature(static_cast<Real>(plan.number("inverse_temperature", member))),
        max_weight(static_cast<Real>(plan.number("max_weight", member))),
        final_factor(plan.flag("absorbing") ? Real(1) / (Real(1) - gamma) : Real(1)) {}

  // Of both target critics the smaller counts. gradient: of the value's loss in `value`. weight: of
  // the policy's rows. All but the critic's and the policy's metrics are set.
  template <typename Team>
  FASTIFO_HOST_DEVICE void judge(const Team& team, int64_t rows, const Real* value,
                                 const Real* first, const Real* second, Real* gradient,
                                 Real* weight, double* metrics) const {
    const double size = static_cast<double>(rows);
    const Real scale = Real(1) / static_cast<Real>(rows), log_cap = std::log(max_weight);
    const auto q = [&](int64_t i) { return second[i] < first[i] ? second[i] : first[i]; };
    const auto advantage = [&](int64_t i) { return q(i) - value[i]; };

    // Value: expectile regression towards the critics.
    metrics[kValueLoss] = team.sum(rows, [&](int64_t i) {
      const Real u = advantage(i), share = u < Real(0) ? Real(1) - expectile : expectile;
      gradient[i] = -Real(2) * scale * share * u;
      return static_cast<double>(scale) * share * u * u;
    });
    metrics[kValueMean] = team.sum(rows, [&](int64_t i) { return double(value[i]); }) / size;
    metrics[kCriticMean] = team.sum(rows, [&](int64_t i) { return double(q(i)); }) / size;

    // Policy: weighted by exp(beta * advantage).
    const double mean = team.sum(rows, [&](int64_t i) { return double(advantage(i)); }) / size;
    metrics[kAdvantageMean] = mean;
    metrics[kAdvantageStd] = std::sqrt(team.sum(rows, [&](int64_t i) {
      const double distance = advantage(i) - mean;
      return distance * distance;
    }) / size);
    metrics[kWeightMean] = team.sum(rows, [&](int64_t i) {
      const Real exponent = inverse_temperature * advantage(i);
      weight[i] = exponent >= log_cap ? max_weight : std::exp(exponent);
      return static_cast<double>(weight[i]);
    }) / size;
    metrics[kClipFraction] = team.sum(rows, [&](int64_t i) {
      return inverse_temperature * advantage(i) >= log_cap ? 1.0 : 0.0;
    }) / size;
  }

  // One critic's half of their mean squared one-step error, with its gradient in `q`.
  template <typename Team>
  FASTIFO_HOST_DEVICE double judge_critic(const Team& team, int64_t rows, const Real* q,
                                          const Real* next_value, const Real* reward,
                                          const Real* terminal, Real* gradient) const {
    const Real scale = Real(0.5) / static_cast<Real>(rows);
    return team.sum(rows, [&](int64_t i) {
      const Real y =
          terminal[i] > Real(0) ? reward[i] * final_factor : reward[i] + gamma * next_value[i];
      const Real error = y - q[i];
      gradient[i] = -Real(2) * scale * error;
      return static_cast<double>(scale) * error * error;
    });
  }
};

}  // namespace fastifo

// One-step errors, squared value losses and exponential weights: what VfO, AWR, SQIL, IQL and the
// op `advantage` share. Source: arXiv 2507.06701; expectiles: Kostrikov et al. 2021,
// arXiv:2110.06169.
#pragma once

#include "losses/batch.h"

namespace fastifo {

// y = r + gamma v(s'), at a terminal r / (1 - gamma) if absorbing (the agent is imagined to collect
// the same reward forever), else r. Source: arXiv 2507.06701, termination rule of the appendix.
template <typename Real>
struct OneStepTarget {
  Real gamma, final_divisor;

  FASTIFO_HOST_DEVICE OneStepTarget(Real discount, bool absorbing)
      : gamma(discount), final_divisor(absorbing ? Real(1) - discount : Real(1)) {}

  FASTIFO_HOST_DEVICE Real operator()(Real reward, Real next_value, Real terminal) const {
    const Real bootstrapped = reward + gamma * next_value, final = reward / final_divisor;
    return terminal > Real(0) ? final : bootstrapped;
  }
};

// Rows of transitions. `reward` is an accessor, reward(row): some methods have constant rewards.
template <typename Real, typename Reward>
struct Transitions {
  const Real* value;       // [rows] v(s), of the online net
  const Real* next_value;  // [rows] v(s'), a constant
  const Real* terminal;    // [rows] 0 or 1
  Reward reward;

  // y - v(s)
  FASTIFO_HOST_DEVICE Real error(const OneStepTarget<Real>& target, int64_t i) const {
    return target(reward(i), next_value[i], terminal[i]) - value[i];
  }
};
template <typename Real, typename Reward>
Transitions(const Real*, const Real*, const Real*, Reward) -> Transitions<Real, Reward>;

// rho(u) = |expectile - 1(u < 0)| u^2, or u^2 (IQL, Eq. 5).
template <typename Real>
struct SquaredCost {
  Real above = Real(1), below = Real(1);  // the factor for u >= 0 and for u < 0

  FASTIFO_HOST_DEVICE static SquaredCost expectile(Real tau) { return {tau, Real(1) - tau}; }

  // rho'(u) / 2
  FASTIFO_HOST_DEVICE Real half_slope(Real u) const { return (u < Real(0) ? below : above) * u; }
};

// L = sum_i scale(i) rho(error(i)), with error = target - value and the target constant.
// gradient[i] = dL / dvalue_i.
template <typename Team, typename Real, typename Error, typename Scale>
FASTIFO_HOST_DEVICE double squared_loss(const Team& team, const Rows& rows, const Error& error,
                                        const SquaredCost<Real>& cost, const Scale& scale,
                                        Real* gradient) {
  const Sums<1> loss = team.template sums<1>(rows, [&](int64_t i) -> Sums<1> {
    const Real u = error(i), half_slope = cost.half_slope(u), share = scale(i);
    gradient[i] = Real(-2) * share * half_slope;
    return {
        {static_cast<double>(half_slope) * static_cast<double>(u) * static_cast<double>(share)}};
  });
  return loss[0];
}

// statistics[0], [1] = mean and population deviation of x(i), in two passes; NaN for no rows.
// Leaves x(i) in kept[i].
template <typename Team, typename Real, typename Value>
FASTIFO_HOST_DEVICE void mean_and_deviation(const Team& team, const Rows& rows, const Value& x,
                                            Real* kept, double* statistics) {
  const double mean = mean_of(team, rows, [&](int64_t i) {
    kept[i] = x(i);
    return kept[i];
  });
  statistics[0] = mean;
  statistics[1] = std::sqrt(mean_of(team, rows, [&](int64_t i) {
    const double distance = static_cast<double>(kept[i]) - mean;
    return distance * distance;
  }));
}

// weight[i] = min(exp(exponent(i)), max_weight): the exponent is capped, so nothing overflows; the
// paper has no cap. statistics[0], [1] = mean weight, share of rows at the cap.
template <typename Team, typename Real, typename Exponent>
FASTIFO_HOST_DEVICE void exponential_weights(const Team& team, const Rows& rows,
                                             const Exponent& exponent, Real max_weight,
                                             Real* weight, double* statistics) {
  const Sums<2> totals = team.capped_exp(rows, exponent, max_weight, weight);
  statistics[0] = totals[0] / static_cast<double>(rows.count());
  statistics[1] = totals[1] / static_cast<double>(rows.count());
}

// weight[i] = min(exp(A_i / temperature), max_weight); `weight` holds A before. statistics: the
// mean and deviation of A, the mean weight, the share of rows at the cap.
template <typename Team, typename Real, typename Advantage>
FASTIFO_HOST_DEVICE void advantage_weights(const Team& team, const Rows& rows,
                                           const Advantage& advantage, Real temperature,
                                           Real max_weight, Real* weight, double* statistics) {
  mean_and_deviation(team, rows, advantage, weight, statistics);
  exponential_weights(
      team, rows, [&](int64_t i) { return weight[i] / temperature; }, max_weight, weight,
      statistics + 2);
}

// The hyperparameters of VfO, AWR and SQIL, and the two phases that they share.
template <typename Real>
struct AdvantageLoss {
  OneStepTarget<Real> target;         // of the value
  OneStepTarget<Real> policy_target;  // in the policy's advantage
  Real temperature, max_weight;

  template <typename Numbers>
  static AdvantageLoss from_plan(const Numbers& plan, int64_t member) {
    const Real gamma = static_cast<Real>(plan.number("gamma", member));
    const bool absorbing = plan.flag("absorbing");
    return {{gamma, absorbing},
            {gamma, absorbing && plan.flag("advantage_absorbing")},
            static_cast<Real>(plan.number("temperature", member)),
            static_cast<Real>(plan.number("max_weight", member))};
  }

  // Value: L = sum_i scale(i) (y_i - v(s_i))^2. Writes its gradient in v.
  template <typename Team, typename Reward, typename Scale>
  FASTIFO_HOST_DEVICE double value_loss(const Team& team, const Rows& rows,
                                        const Transitions<Real, Reward>& transitions,
                                        const Scale& scale, Real* gradient) const {
    const auto error = [&](int64_t i) { return transitions.error(target, i); };
    return squared_loss(team, rows, error, SquaredCost<Real>(), scale, gradient);
  }

  // Policy: A = y - v(s), w = min(exp(A / temperature), max_weight), on the last `sources` sources.
  template <typename Team, typename Reward>
  FASTIFO_HOST_DEVICE void weights(const Team& team, const BatchView<Real>& batch, int64_t sources,
                                   const Reward& reward, Real* weight, double* statistics) const {
    const int64_t first = (batch.sources - sources) * batch.stride;
    const Transitions policy{
        batch.output + first,
        batch.online_next_value == nullptr ? batch.next_value + first : batch.online_next_value,
        batch.terminal + first, [&](int64_t i) { return reward(first + i); }};
    const auto advantage = [&](int64_t i) { return policy.error(policy_target, i); };
    advantage_weights(team, batch.rows(sources), advantage, temperature, max_weight, weight,
                      statistics);
  }
};

}  // namespace fastifo

// What the advantage-weighted methods share: the squared one-step error of the value and the
// policy's weights. Source: arXiv 2507.06701; the same numbers as the op in csrc/advantage.h.
#pragma once

#include "methods/batch.h"

namespace fastifo {

template <typename Real>
struct Advantage {
  Real gamma, temperature, max_weight;
  Real final_factor;         // of a terminal's reward in the value's target
  Real policy_final_factor;  // and in the advantage

  template <typename Numbers>
  Advantage(const Numbers& plan, int64_t member)
      : gamma(static_cast<Real>(plan.number("gamma", member))),
        temperature(static_cast<Real>(plan.number("temperature", member))),
        max_weight(static_cast<Real>(plan.number("max_weight", member))),
        final_factor(plan.flag("absorbing") ? Real(1) / (Real(1) - gamma) : Real(1)),
        policy_final_factor(plan.flag("advantage_absorbing") ? final_factor : Real(1)) {}

  // Target minus value.
  FASTIFO_HOST_DEVICE Real error(Real value, Real next_value, Real reward, Real terminal,
                                 Real factor) const {
    return (terminal > Real(0) ? reward * factor : reward + gamma * next_value) - value;
  }

  // The sum over one source's rows of scale(row) * error^2, with its gradient.
  template <typename Team, typename Reward, typename Scale>
  FASTIFO_HOST_DEVICE double value_loss(const Team& team, const Seen<Real>& seen, int64_t source,
                                        const Reward& reward, const Scale& scale,
                                        Real* gradient) const {
    const int64_t first = source * seen.stride;
    return team.sum(seen.batch, [&](int64_t row) {
      const int64_t i = first + row;
      const Real e =
          error(seen.output[i], seen.next_value[i], reward(i), seen.terminal[i], final_factor);
      gradient[i] = -Real(2) * scale(row) * e;
      return static_cast<double>(scale(row)) * e * e;
    });
  }

  // weight = min(exp(advantage / temperature), max_weight) on the rows of the last `count` sources;
  // metrics: the advantage's mean and deviation, the mean weight, the share of rows at the cap.
  template <typename Team, typename Reward>
  FASTIFO_HOST_DEVICE void weigh(const Team& team, const Seen<Real>& seen, const Reward& reward,
                                 Real* weight, double* metrics, int64_t count = 1) const {
    const int64_t first = (seen.sources - count) * seen.stride, rows = count * seen.batch;
    const Real log_cap = std::log(max_weight);
    const auto place = [&](int64_t row) {  // among the policy's rows
      return row / seen.batch * seen.stride + row % seen.batch;
    };
    const auto advantage = [&](int64_t row) {
      const int64_t own = place(row), i = first + own;
      const Real next =
          seen.own_next_value == nullptr ? seen.next_value[i] : seen.own_next_value[own];
      return error(seen.output[i], next, reward(i), seen.terminal[i], policy_final_factor);
    };
    const double size = static_cast<double>(rows);
    const double mean = team.sum(rows, advantage) / size;
    metrics[0] = mean;
    metrics[1] = std::sqrt(team.sum(rows, [&](int64_t row) {
      const double distance = advantage(row) - mean;
      return distance * distance;
    }) / size);
    metrics[2] = team.sum(rows, [&](int64_t row) {
      const Real exponent = advantage(row) / temperature;
      weight[place(row)] = exponent >= log_cap ? max_weight : std::exp(exponent);
      return static_cast<double>(weight[place(row)]);
    }) / size;
    metrics[3] = team.sum(rows, [&](int64_t row) {
      return advantage(row) / temperature >= log_cap ? 1.0 : 0.0;
    }) / size;
  }
};

// Mean of the scalar net's output over one source's rows.
template <typename Team, typename Real>
FASTIFO_HOST_DEVICE double mean_output(const Team& team, const Seen<Real>& seen, int64_t source) {
  const Real* output = seen.output + source * seen.stride;
  return team.sum(seen.batch, [&](int64_t row) { return static_cast<double>(output[row]); }) /
         static_cast<double>(seen.batch);
}

}  // namespace fastifo

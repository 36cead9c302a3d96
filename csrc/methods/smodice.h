// SMODICE's value (fastifo/algos/smodice.py); the same numbers as the op in csrc/dual.h. Sources:
// initial observations, background. Its gradient reaches the values of all three kinds of rows.
#pragma once

#include <limits>

#include "methods/dual.h"

namespace fastifo {

template <typename Real>
constexpr Real kSmallest = std::numeric_limits<Real>::min();  // a constant, for device code too

template <typename Real>
struct SMODICE {
  static constexpr const char* kMetrics[] = {
      "value_loss",   "policy_loss", "value_mean_background", "residual_mean",
      "residual_std", "weight_mean", "clip_fraction"};
  Real gamma, final_factor, max_weight, logit_clamp;
  bool chi2, normalizes;

  template <typename Numbers>
  SMODICE(const Numbers& plan, int64_t member)
      : gamma(static_cast<Real>(plan.number("gamma", member))),
        final_factor(plan.flag("absorbing") ? Real(1) / (Real(1) - gamma) : Real(1)),
        max_weight(static_cast<Real>(plan.number("max_weight", member))),
        logit_clamp(static_cast<Real>(plan.number("logit_clamp", member))),
        chi2(plan.flag("chi2")),
        normalizes(plan.flag("normalizes")) {}

  template <typename Team>
  FASTIFO_HOST_DEVICE void judge(const Team& team, const Seen<Real>& seen,
                                 const Judged<Real>& out) const {
    const int64_t rows = seen.batch, own = seen.stride;  // the background's first row
    const double size = static_cast<double>(rows);
    const Real cap = max_weight, log_cap = std::log(max_weight);
    Real* const delta = out.next_gradient + own;  // until that is known
    team.each(rows, [&](int64_t row) {
      const int64_t i = own + row;
      Real reward = seen.reward[i];
      reward = reward > logit_clamp ? logit_clamp : reward < -logit_clamp ? -logit_clamp : reward;
      const Real y =
          seen.terminal[i] > Real(0) ? reward * final_factor : reward + gamma * seen.next_value[i];
      delta[row] = y - seen.output[i];
    });
    describe_residual(team, delta, rows, out.metrics + 3);

    // Cost, weights, and the slope of the cost in delta.
    double cost = 0.0;
    Real* const slope = out.gradient + own;
    if (chi2) {
      cost = team.sum(rows, [&](int64_t row) {
        const double d = delta[row];
        return d + 0.5 * d * d;
      }) / size;
      team.each(rows, [&](int64_t row) {
        slope[row] = delta[row] + Real(1);
        out.weight[row] = slope[row] < Real(0) ? Real(0) : slope[row];  // a NaN stays
      });
      if (normalizes) {
        const Real mean = static_cast<Real>(
            team.sum(rows, [&](int64_t row) { return double(out.weight[row]); }) / size);
        const Real divisor = mean < kSmallest<Real> ? kSmallest<Real> : mean;
        team.each(rows, [&](int64_t row) { out.weight[row] /= divisor; });
      }
    } else {
      const double top = team.max(rows, [&](int64_t row) { return double(delta[row]); });
      const Real largest = std::isfinite(top) ? static_cast<Real>(top) : Real(0);
      team.each(rows, [&](int64_t row) { slope[row] = std::exp(delta[row] - largest); });
      const double mean = team.sum(rows, [&](int64_t row) { return double(slope[row]); }) / size;
      cost = static_cast<double>(largest) + std::log(mean);
      team.each(rows, [&](int64_t row) {
        slope[row] = static_cast<Real>(slope[row] / mean);
        const Real exponent = normalizes ? delta[row] - static_cast<Real>(cost) : delta[row];
        out.weight[row] = exponent >= log_cap ? cap : std::exp(exponent);
      });
    }
    out.metrics[6] = team.sum(rows, [&](int64_t row) {
      const bool capped = out.weight[row] >= cap;
      if (capped) out.weight[row] = cap;
      return capped ? 1.0 : 0.0;
    }) / size;
    out.metrics[5] = team.sum(rows, [&](int64_t row) { return double(out.weight[row]); }) / size;

    // Gradients in v(s), v(s') and v(s0).
    const Real initial = (Real(1) - gamma) / static_cast<Real>(rows);
    team.each(rows, [&](int64_t row) {
      const Real share = slope[row] / static_cast<Real>(rows);
      out.next_gradient[own + row] = seen.terminal[own + row] > Real(0) ? Real(0) : gamma * share;
      out.gradient[own + row] = -share;
      out.gradient[row] = initial;
    });
    out.metrics[0] = (1.0 - static_cast<double>(gamma)) * mean_output(team, seen, 0) + cost;
    out.metrics[2] = mean_output(team, seen, 1);
  }
};

}  // namespace fastifo

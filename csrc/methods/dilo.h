// DILO's value of successive observations (fastifo/algos/dilo.py), with its true gradient; the same
// numbers as the op in csrc/dual.h. Sources: expert, background.
#pragma once

#include "methods/dual.h"

namespace fastifo {

template <typename Real>
struct DILO {
  static constexpr const char* kMetrics[] = {
      "value_loss",    "policy_loss",  "value_mean_expert", "value_mean_background",
      "residual_mean", "residual_std", "weight_mean",       "clip_fraction"};
  Real gamma, beta, share, inverse_temperature, max_weight;

  template <typename Numbers>
  DILO(const Numbers& plan, int64_t member)
      : gamma(static_cast<Real>(plan.number("gamma", member))),
        beta(static_cast<Real>(plan.number("beta", member))),
        share(static_cast<Real>(plan.number("residual_share", member))),
        inverse_temperature(static_cast<Real>(plan.number("inverse_temperature", member))),
        max_weight(static_cast<Real>(plan.number("max_weight", member))) {
    if (share < Real(0)) share = Real(1) / (Real(1) + beta * (Real(1) - gamma));  // the paper's
  }

  template <typename Team>
  FASTIFO_HOST_DEVICE void judge(const Team& team, const Seen<Real>& seen,
                                 const Judged<Real>& out) const {
    const int64_t rows = seen.batch, own = seen.stride;  // the background's first row
    const Real size = static_cast<Real>(rows);
    const Real linear = (Real(1) - share) / size;

    // Value: f(y) = y w - (w - 1)^2 with w = max(y / 2 + 1, 0), whose slope is w.
    const auto residual = [&](int64_t i) { return gamma * seen.next_value[i] - seen.output[i]; };
    const auto source = [&](int64_t first, Real scale, bool background) {
      return team.sum(rows, [&](int64_t row) {
        const int64_t i = first + row;
        const Real y = residual(i), half = y / Real(2) + Real(1);
        const Real w = half < Real(0) ? Real(0) : half;  // a NaN stays
        const Real slope = scale * (background ? w - Real(1) : w);
        out.next_gradient[i] = gamma * slope;
        out.gradient[i] = (background ? linear : Real(0)) - slope;
        const Real cost = y * w - (w - Real(1)) * (w - Real(1)) - (background ? y : Real(0));
        return static_cast<double>(scale) * cost;
      });
    };
    const double cost =
        source(0, share * beta / size, false) + source(own, share * (Real(1) - beta) / size, true);
    out.metrics[2] = mean_output(team, seen, 0);
    out.metrics[3] = mean_output(team, seen, 1);
    out.metrics[0] = (1.0 - static_cast<double>(share)) * out.metrics[3] + cost;

    // Policy: weighted by the value itself.
    const Real log_cap = std::log(max_weight);
    const auto exponent = [&](int64_t row) { return inverse_temperature * seen.output[own + row]; };
    team.each(rows, [&](int64_t row) { out.weight[row] = residual(own + row); });
    describe_residual(team, out.weight, rows, out.metrics + 4);
    out.metrics[6] = team.sum(rows, [&](int64_t row) {
      const Real e = exponent(row);
      out.weight[row] = e >= log_cap ? max_weight : std::exp(e);
      return static_cast<double>(out.weight[row]);
    }) / rows;
    out.metrics[7] =
        team.sum(rows, [&](int64_t row) { return exponent(row) >= log_cap ? 1.0 : 0.0; }) / rows;
  }
};

}  // namespace fastifo

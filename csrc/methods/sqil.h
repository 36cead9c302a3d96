// SQIL with privileged expert actions (fastifo/algos/sqil.py). Sources: expert, background; the
// policy learns from both.
#pragma once

#include "methods/advantage.h"

namespace fastifo {

template <typename Real>
struct SQIL {
  static constexpr const char* kMetrics[] = {
      "value_loss",     "policy_loss",   "value_mean_expert", "value_mean_background",
      "advantage_mean", "advantage_std", "weight_mean",       "clip_fraction"};
  Advantage<Real> advantage;
  Real alpha, policy_alpha;

  template <typename Numbers>
  SQIL(const Numbers& plan, int64_t member)
      : advantage(plan, member),
        alpha(static_cast<Real>(plan.number("alpha", member))),
        policy_alpha(static_cast<Real>(plan.number("policy_alpha", member))) {
    if (policy_alpha < Real(0)) policy_alpha = alpha;
  }

  template <typename Team>
  FASTIFO_HOST_DEVICE void judge(const Team& team, const Seen<Real>& seen,
                                 const Judged<Real>& out) const {
    const Real size = static_cast<Real>(seen.batch);
    const auto reward = [&](int64_t i) { return i < seen.stride ? Real(1) : Real(0); };

    // Value: alpha mixes the sources' mean errors.
    const auto expert = [&](int64_t) { return (Real(1) - alpha) / size; };
    const auto background = [&](int64_t) { return alpha / size; };
    out.metrics[0] = advantage.value_loss(team, seen, 0, reward, expert, out.gradient) +
                     advantage.value_loss(team, seen, 1, reward, background, out.gradient);
    out.metrics[2] = mean_output(team, seen, 0);
    out.metrics[3] = mean_output(team, seen, 1);

    // Policy: both sources' rows, mixed as policy_alpha says.
    advantage.weigh(team, seen, reward, out.weight, out.metrics + 4, 2);
    team.each(seen.batch, [&](int64_t row) {
      out.weight[row] *= Real(2) * (Real(1) - policy_alpha);
      out.weight[seen.stride + row] *= Real(2) * policy_alpha;
    });
  }
};

}  // namespace fastifo

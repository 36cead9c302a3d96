// Value from Observations (fastifo/algos/vfo.py). Sources: expert, background, and rows of the
// policy's own where it has them. With rewards it is VfO-disc, without them VfO-bin.
#pragma once

#include "methods/advantage.h"

namespace fastifo {

template <typename Real>
struct VfO {
  static constexpr const char* kMetrics[] = {
      "value_loss",     "policy_loss",   "value_mean_expert", "value_mean_background",
      "advantage_mean", "advantage_std", "weight_mean",       "clip_fraction"};
  Advantage<Real> advantage;
  Real alpha;

  template <typename Numbers>
  VfO(const Numbers& plan, int64_t member)
      : advantage(plan, member), alpha(static_cast<Real>(plan.number("alpha", member))) {}

  template <typename Team>
  FASTIFO_HOST_DEVICE void judge(const Team& team, const Seen<Real>& seen,
                                 const Judged<Real>& out) const {
    const Real size = static_cast<Real>(seen.batch);
    const auto reward = [&](int64_t i) {
      if (seen.reward != nullptr) return seen.reward[i];
      return i < seen.stride ? Real(1) : Real(0);  // expert, or not
    };
    const auto picked = [&](int64_t row) { return seen.uniform[row] < alpha ? Real(1) : Real(0); };

    // Value: alpha mixes the sources' mean errors, or picks rows one by one.
    const auto expert = [&](int64_t row) {
      return (seen.uniform == nullptr ? Real(1) - alpha : Real(1) - picked(row)) / size;
    };
    const auto background = [&](int64_t row) {
      return (seen.uniform == nullptr ? alpha : picked(row)) / size;
    };
    out.metrics[0] = advantage.value_loss(team, seen, 0, reward, expert, out.gradient) +
                     advantage.value_loss(team, seen, 1, reward, background, out.gradient);
    out.metrics[2] = mean_output(team, seen, 0);
    out.metrics[3] = mean_output(team, seen, 1);

    // Policy: weighted by exp(advantage / temperature); of shared rows only the picked ones count.
    advantage.weigh(team, seen, reward, out.weight, out.metrics + 4);
    const bool separate = seen.sources == 3;
    if (separate) {
      Real* unused = out.gradient + 2 * seen.stride;
      team.each(seen.batch, [&](int64_t row) { unused[row] = Real(0); });
    } else if (seen.uniform != nullptr) {
      const double count = team.sum(seen.batch, [&](int64_t row) { return double(picked(row)); });
      const Real share = size / (count > 1.0 ? static_cast<Real>(count) : Real(1));
      team.each(seen.batch, [&](int64_t row) { out.weight[row] *= picked(row) * share; });
    }
  }
};

}  // namespace fastifo

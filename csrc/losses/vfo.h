// Value from Observations (fastifo/algos/vfo.py). Source: arXiv 2507.06701. Sources: expert,
// background, and a second draw from the background if the policy's rows are separate. With rewards
// it is VfO-disc, without them VfO-bin.
#pragma once

#include "losses/advantage.h"

namespace fastifo {

template <typename Real>
struct VfO {
  static constexpr const char* kName = "vfo";
  static constexpr const char* kMetrics[] = {
      "value_loss",     "policy_loss",   "value_mean_expert", "value_mean_background",
      "advantage_mean", "advantage_std", "weight_mean",       "clip_fraction"};
  AdvantageLoss<Real> advantage;
  Real alpha;

  template <typename Numbers>
  VfO(const Numbers& plan, int64_t member)
      : advantage(AdvantageLoss<Real>::from_plan(plan, member)),
        alpha(static_cast<Real>(plan.number("alpha", member))) {}

  template <typename Team>
  FASTIFO_HOST_DEVICE void loss_and_weights(const Team& team, const BatchView<Real>& batch,
                                            const LossOutputs<Real>& out) const {
    const Real size = static_cast<Real>(batch.batch);
    const int64_t stride = batch.stride;  // the background's first row
    // disc: r = d(s'); bin: r = 1 on expert rows, else 0.
    const auto reward = [&](int64_t i) {
      if (batch.reward != nullptr) return batch.reward[i];
      return i < stride ? Real(1) : Real(0);
    };
    const Transitions transitions{batch.output, batch.next_value, batch.terminal, reward};

    // Value: L = (1 - alpha) E_E[(y - v(s))^2] + alpha E_B[(y - v(s))^2], y = r + gamma vbar(s').
    // With `uniform` each row is the background's with probability alpha, else the expert's.
    const auto selected = [&](int64_t row) {
      return batch.uniform[row] < alpha ? Real(1) : Real(0);
    };
    const auto scale = [&](int64_t i) {
      const int64_t row = i < stride ? i : i - stride;
      const Real background = batch.uniform == nullptr ? alpha : selected(row);
      return (i < stride ? Real(1) - background : background) / size;
    };
    out.metrics[0] = advantage.value_loss(team, batch.rows(2), transitions, scale, out.gradient);
    out.metrics[2] = mean_output(team, batch, 0);
    out.metrics[3] = mean_output(team, batch, 1);

    // Policy: w = exp((y - v(s)) / temperature). Of rows shared with the value only the selected
    // ones count, and their weights' mean stays the same.
    advantage.weights(team, batch, 1, reward, out.weight, out.metrics + 4);
    if (batch.sources == 3) {
      Real* const unused = out.gradient + 2 * stride;
      team.each(batch.batch, [&](int64_t row) { unused[row] = Real(0); });
    } else if (batch.uniform != nullptr) {
      const Sums<1> count = team.template sums<1>(
          batch.batch, [&](int64_t row) -> Sums<1> { return {{double(selected(row))}}; });
      const Real share = size / (count[0] > 1.0 ? static_cast<Real>(count[0]) : Real(1));
      team.each(batch.batch, [&](int64_t row) { out.weight[row] *= selected(row) * share; });
    }
  }
};

}  // namespace fastifo

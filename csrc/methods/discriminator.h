// Expert or background? The first stage of VfO-disc (fastifo/algos/discriminator.py).
#pragma once

#include "methods/advantage.h"

namespace fastifo {

template <typename Real>
struct Discriminator {
  static constexpr const char* kMetrics[] = {"discriminator_loss", "prob_expert",
                                             "prob_background"};
  bool positive_unlabelled;
  Real prior;

  template <typename Numbers>
  Discriminator(const Numbers& plan, int64_t member)
      : positive_unlabelled(plan.flag("positive_unlabelled")),
        prior(static_cast<Real>(plan.number("pu_prior", member))) {}

  template <typename Team>
  FASTIFO_HOST_DEVICE void judge(const Team& team, const Seen<Real>& seen,
                                 const Judged<Real>& out) const {
    const double size = static_cast<double>(seen.batch);
    const Real* expert = seen.output;
    const Real* background = seen.output + seen.stride;
    const auto mean = [&](const Real* logit, const auto& of) {
      return team.sum(seen.batch, [&](int64_t row) { return double(of(logit[row])); }) / size;
    };
    const auto not_expert = [](Real x) { return softplus(-x); };
    const auto is_expert = [](Real x) { return softplus(x); };
    const auto prob = [](Real x) { return sigmoid(x); };

    // How much the expert's two terms count: as expert, and taken out of the background.
    Real as_expert = Real(1), taken_out = Real(0), as_background = Real(1);
    if (positive_unlabelled) {
      const double negative = mean(background, is_expert) - prior * mean(expert, is_expert);
      const bool counts = negative >= 0.0;
      as_expert = prior;
      taken_out = counts ? prior : Real(0);
      as_background = counts ? Real(1) : Real(0);
      out.metrics[0] = prior * mean(expert, not_expert) + (counts ? negative : 0.0);
    } else {
      out.metrics[0] = mean(expert, not_expert) + mean(background, is_expert);
    }
    out.metrics[1] = mean(expert, prob);
    out.metrics[2] = mean(background, prob);
    const Real scale = Real(1) / static_cast<Real>(seen.batch);
    team.each(seen.batch, [&](int64_t row) {
      const Real p = sigmoid(expert[row]);
      out.gradient[row] = scale * (as_expert * (p - Real(1)) - taken_out * p);
      out.gradient[seen.stride + row] = scale * as_background * sigmoid(background[row]);
    });
  }
};

}  // namespace fastifo

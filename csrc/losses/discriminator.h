// Classifies observations as the expert's or the background's: the first stage of VfO-disc, SMODICE
// and ORIL (fastifo/algos/discriminator.py). Source: arXiv 2507.06701; positive-unlabelled: Zolna
// et al. 2020, arXiv:2011.13885. Sources: expert, background.
#pragma once

#include "losses/batch.h"

namespace fastifo {

template <typename Real>
struct Discriminator {
  static constexpr const char* kName = "discriminator";
  static constexpr const char* kMetrics[] = {"discriminator_loss", "prob_expert",
                                             "prob_background"};
  enum Metric { kLoss, kExpert, kBackground };
  bool positive_unlabelled;
  Real prior;

  template <typename Numbers>
  Discriminator(const Numbers& plan, int64_t member)
      : positive_unlabelled(plan.flag("positive_unlabelled")),
        prior(static_cast<Real>(plan.number("pu_prior", member))) {}

  template <typename Team>
  FASTIFO_HOST_DEVICE void loss_and_weights(const Team& team, const BatchView<Real>& batch,
                                            const LossOutputs<Real>& out) const {
    const Real* const expert = batch.output;  // logits; d = sigmoid(logit)
    const Real* const background = batch.output + batch.stride;
    const double size = static_cast<double>(batch.batch);

    // -log d on the expert's rows and -log(1 - d) on the background's; d stays in `gradient`.
    const auto d_and_loss = [&](const Real* logit, Real sign, Real* d) {
      return team.template sums<2>(batch.batch, [&](int64_t i) -> Sums<2> {
        d[i] = sigmoid(logit[i]);
        return {{static_cast<double>(d[i]), static_cast<double>(softplus(sign * logit[i]))}};
      });
    };
    Real* const expert_gradient = out.gradient;
    Real* const background_gradient = out.gradient + batch.stride;
    const Sums<2> on_expert = d_and_loss(expert, Real(-1), expert_gradient);
    const Sums<2> on_background = d_and_loss(background, Real(1), background_gradient);
    out.metrics[kExpert] = on_expert[0] / size;
    out.metrics[kBackground] = on_background[0] / size;

    Real expert_share = Real(1), negative_share = Real(0), background_share = Real(1);
    if (positive_unlabelled) {
      // L = prior E_E[-log d] + max(0, E_B[-log(1 - d)] - prior E_E[-log(1 - d)]).
      const double expert_negative =
          mean_of(team, batch.batch, [&](int64_t i) { return softplus(expert[i]); });
      const double negative = on_background[1] / size - prior * expert_negative;
      const bool counts = negative >= 0.0;
      expert_share = prior;
      negative_share = counts ? prior : Real(0);
      background_share = counts ? Real(1) : Real(0);
      out.metrics[kLoss] = prior * (on_expert[1] / size) + (counts ? negative : 0.0);
    } else {
      // L = E_E[-log d] + E_B[-log(1 - d)].
      out.metrics[kLoss] = on_expert[1] / size + on_background[1] / size;
    }
    const Real scale = Real(1) / static_cast<Real>(batch.batch);
    team.each(batch.batch, [&](int64_t i) {
      const Real d = expert_gradient[i];
      expert_gradient[i] = scale * (expert_share * (d - Real(1)) - negative_share * d);
      background_gradient[i] *= scale * background_share;
    });
  }
};

}  // namespace fastifo

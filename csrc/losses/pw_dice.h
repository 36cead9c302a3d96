// PW-DICE: the dual of the primal Wasserstein distance between occupancies
// (fastifo/algos/pw_dice.py). Source: Yan et al. 2024, arXiv:2311.01331, with the KL regulariser.
// Nothing but the embedding is held constant: the gradient passes through lambda(s), lambda(s'),
// lambda(s0), u_1(s) and u_2(s_E).
#pragma once

#include "losses/smodice.h"

namespace fastifo {

template <typename Real>
struct PWDICE {
  static constexpr const char* kName = "pw_dice";
  static constexpr const char* kMetrics[] = {"value_loss",    "policy_loss",  "distance_mean",
                                             "residual_mean", "residual_std", "weight_mean",
                                             "clip_fraction"};
  static constexpr int64_t kOutputs = 3;  // lambda, u_1, u_2
  // Sources: initial observations, expert, background, a second draw of the background.
  enum Source : int64_t { kInitial, kExpert, kBackground, kPolicy };
  static constexpr Source kEmbeddedSources[] = {kBackground, kExpert};

  typename SMODICE<Real>::Config flow;
  Real coupling_temperature, distance_scale, ratio_scale, logit_clamp;

  template <typename Numbers>
  PWDICE(const Numbers& plan, int64_t member)
      : flow{static_cast<Real>(plan.number("gamma", member)),
             static_cast<Real>(plan.number("temperature", member)),
             static_cast<Real>(plan.number("max_weight", member)),
             false,
             false,
             true},
        coupling_temperature(static_cast<Real>(plan.number("coupling_temperature", member))),
        distance_scale(static_cast<Real>(plan.number("distance_scale", member))),
        ratio_scale(static_cast<Real>(plan.number("ratio_scale", member))),
        logit_clamp(static_cast<Real>(plan.number("logit_clamp", member))) {}

  template <typename Team>
  FASTIFO_HOST_DEVICE void loss_and_weights(const Team& team, const BatchView<Real>& batch,
                                            const LossOutputs<Real>& out) const {
    const int64_t step = batch.output_stride, policy = kPolicy * batch.stride;
    for (int64_t n = 0; n < kOutputs; ++n) {  // most outputs of most rows have no gradient
      team.each(batch.rows(kPolicy + 1), [&](int64_t i) { out.gradient[n * step + i] = Real(0); });
      Real* const next = out.next_gradient + n * step + policy;
      team.each(batch.batch, [&](int64_t i) { next[i] = Real(0); });
    }
    const double flow_loss = flow_loss_and_weights(team, batch, out);
    out.metrics[0] = coupling_loss(team, batch, out) + flow_loss;
  }

 private:
  // Flow, with delta = lambda(s) - gamma lambda(s') - u_1(s), at a terminal lambda - u_1:
  //   L = temperature log E[exp(delta / temperature)] - (1 - gamma) E[lambda(s0)]
  // which is SMODICE's loss for V = -lambda and R = -u_1. Policy: w = exp(delta / temperature) over
  // its mean, then the cap.
  template <typename Team>
  FASTIFO_HOST_DEVICE double flow_loss_and_weights(const Team& team, const BatchView<Real>& batch,
                                                   const LossOutputs<Real>& out) const {
    const int64_t step = batch.output_stride, policy = kPolicy * batch.stride;
    const Real *const lambda = batch.output + policy, *const next = batch.next_value + policy;
    Real *const gradient = out.gradient + policy, *const next_gradient = out.next_gradient + policy;
    // V is kept where the gradients in u_2 are, which are 0 on these rows.
    Real *const v = gradient + 2 * step, *const next_v = next_gradient + 2 * step;
    Real* const initial_v = out.gradient + 2 * step;
    team.each(batch.batch, [&](int64_t i) {
      v[i] = -lambda[i];
      next_v[i] = -next[i];
      initial_v[i] = -batch.output[i];
    });
    const double loss = SMODICE<Real>::compute_loss(
        team, flow,
        {v, next_v, batch.terminal + policy, initial_v, batch.batch, batch.batch, gradient,
         next_gradient, out.gradient, out.weight, out.metrics + 3},
        [&](int64_t i) { return -lambda[step + i]; });
    team.each(batch.batch, [&](int64_t i) {
      gradient[step + i] = gradient[i];  // delta contains V(s) and u_1(s) alike
      gradient[i] = -gradient[i];
      next_gradient[i] = -next_gradient[i];
      out.gradient[i] = -out.gradient[i];
      v[i] = next_v[i] = initial_v[i] = Real(0);
    });
    return loss;
  }

  // Coupling of s and s_E, rows in pairs, with d = scale |z(s) - z(s_E)|^2 - ratio_scale R(s) and
  // the gain g = (u_1(s) + u_2(s_E) - d(s, s_E)) / temperature:
  //   L = temperature log E[exp(g)] - E[u_2(s_E)]
  template <typename Team>
  FASTIFO_HOST_DEVICE double coupling_loss(const Team& team, const BatchView<Real>& batch,
                                           const LossOutputs<Real>& out) const {
    const int64_t first = kBackground * batch.stride;
    const int64_t at_1 = batch.output_stride + first;
    const int64_t at_2 = 2 * batch.output_stride + kExpert * batch.stride;
    const Real *const u_1 = batch.output + at_1, *const u_2 = batch.output + at_2;
    Real *const gradient_1 = out.gradient + at_1, *const gradient_2 = out.gradient + at_2;
    const Sums<2> sums = team.template sums<2>(batch.batch, [&](int64_t i) -> Sums<2> {
      const Real distance = distance_scale * batch.embedding_distance[i] -
                            ratio_scale * limited(batch.reward[first + i], logit_clamp);
      gradient_1[i] = (u_1[i] + u_2[i] - distance) / coupling_temperature;
      return {{static_cast<double>(distance), static_cast<double>(u_2[i])}};
    });
    const double rows = static_cast<double>(batch.batch);
    out.metrics[2] = sums[0] / rows;

    // The gradient in u_1 is the softmax of the gain, in u_2 that less 1 / rows.
    Real largest = team.max(batch.batch, [&](int64_t i) { return gradient_1[i]; });
    if (!std::isfinite(largest)) largest = Real(0);  // infinities and NaN then reach the loss
    const Sums<2> total = team.capped_exp(
        batch.batch, [&](int64_t i) { return gradient_1[i] - largest; }, kInfinity<Real>,
        gradient_1);
    team.each(batch.batch, [&](int64_t i) {
      gradient_1[i] = static_cast<Real>(static_cast<double>(gradient_1[i]) / total[0]);
      gradient_2[i] = gradient_1[i] - Real(1) / static_cast<Real>(batch.batch);
    });
    const double log_mean = static_cast<double>(largest) + std::log(total[0] / rows);
    return static_cast<double>(coupling_temperature) * log_mean - sums[1] / rows;
  }
};

}  // namespace fastifo

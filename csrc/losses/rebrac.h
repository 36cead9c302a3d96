// ReBRAC (fastifo/algos/rebrac.py): one critic's squared error, and the policy's loss in the
// smaller critic. Source: Tarasov et al. 2023, arXiv:2305.09836.
#pragma once

#include "losses/advantage.h"

namespace fastifo {

template <typename Real>
struct ReBRAC {
  static constexpr const char* kName = "rebrac";
  static constexpr const char* kMetrics[] = {"critic_loss", "policy_loss", "critic_mean",
                                             "next_distance"};
  enum Metric { kCriticLoss, kPolicyLoss, kCriticMean, kNextDistance };
  static constexpr bool kHasCritics = true;  // trained by engine/rebrac.h
  OneStepTarget<Real> target;
  Real policy_penalty, critic_penalty, policy_noise, noise_clip;
  bool normalizes_q;

  template <typename Numbers>
  ReBRAC(const Numbers& plan, int64_t member)
      : target(static_cast<Real>(plan.number("gamma", member)), plan.flag("absorbing")),
        policy_penalty(static_cast<Real>(plan.number("policy_penalty", member))),
        critic_penalty(static_cast<Real>(plan.number("critic_penalty", member))),
        policy_noise(static_cast<Real>(plan.number("policy_noise", member))),
        noise_clip(static_cast<Real>(plan.number("noise_clip", member))),
        normalizes_q(plan.flag("normalizes_q")) {}

  // One critic's part of L_Q = sum_i E[(y - Q_i(s, a))^2] with
  // y = r + gamma [min_i Qbar_i(s', a~') - critic_penalty |a~' - a'|^2], and its gradient in `q`.
  template <typename Team>
  FASTIFO_HOST_DEVICE double critic_loss(const Team& team, const Rows& rows,
                                         const Real* q,      // [rows] of the online critic
                                         const Real* first,  // [rows] of the two target critics
                                         const Real* second,
                                         const Real* next_distance,  // [rows] |a~' - a'|^2
                                         const Real* reward,         // [rows]
                                         const Real* terminal,       // [rows] 0 or 1
                                         Real* next_q,               // [rows] workspace
                                         Real* gradient) const {     // [rows]
    team.each(rows, [&](int64_t i) {
      next_q[i] = smaller(first[i], second[i]) - critic_penalty * next_distance[i];
    });
    const Transitions transitions{q, next_q, terminal, [=](int64_t i) { return reward[i]; }};
    const auto error = [&](int64_t i) { return transitions.error(target, i); };
    const Real scale = Real(1) / static_cast<Real>(rows.count());
    return squared_loss(
        team, rows, error, SquaredCost<Real>(), [=](int64_t) { return scale; }, gradient);
  }

  // L_pi = policy_penalty E[|pi(s) - a|^2] - E[Q] / E[|Q|] with Q = min_i Q_i(s, pi(s)), the
  // divisor constant (and 1 unless `normalizes_q`), and its gradient in one of the critics.
  template <typename Team>
  FASTIFO_HOST_DEVICE double policy_loss(const Team& team, const Rows& rows,
                                         const Real* q,           // [rows] of that critic
                                         const Real* other,       // [rows] of the other one
                                         const Real* distance,    // [rows] |pi(s) - a|^2
                                         Real* gradient) const {  // [rows]
    const Sums<3> total = team.template sums<3>(rows, [&](int64_t i) -> Sums<3> {
      const double least = static_cast<double>(smaller(q[i], other[i]));
      return {{least, std::fabs(least), static_cast<double>(distance[i])}};
    });
    const double count = static_cast<double>(rows.count());
    const double divisor = normalizes_q ? total[1] / count : 1.0;
    const Real slope = static_cast<Real>(-1.0 / (count * divisor));
    team.each(rows, [&](int64_t i) {  // equal critics share the gradient
      gradient[i] = q[i] < other[i] ? slope : q[i] == other[i] ? Real(0.5) * slope : Real(0);
    });
    return static_cast<double>(policy_penalty) * total[2] / count - total[0] / count / divisor;
  }

 private:
  FASTIFO_HOST_DEVICE static Real smaller(Real first, Real second) {
    return second < first ? second : first;
  }
};

}  // namespace fastifo

// The update of a member that has two critics of actions beside its value and its policy: IQL.
#pragma once

#include <type_traits>

#include "engine/head.h"
#include "engine/normal.h"
#include "engine/trace.h"
#include "methods/iql.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

// Called as `Worker` is. Of the two groups of lanes one has the value and one critic, the other the
// policy and the other critic.
template <int kParts>
class ActorCritic {
 public:
  ActorCritic(const Plan& plan, HalfKernel kernel, int lanes)
      : plan_(plan),
        kernel_(kernel),
        stride_(padded(plan.batch)),
        lanes_(lanes, {stride_, plan.scalar.size + plan.critic.size},
               {stride_, plan.policy.size + plan.twin.size}),
        width_(plan.obs_dim * std::max<int64_t>(1, static_cast<int64_t>(plan.scale.size()))),
        obs_(width_, stride_),
        next_obs_(width_, stride_),
        pair_(width_ + plan.action_dim, stride_),
        value_(plan.scalar.widths, stride_, lanes_.scalar(0).size),
        critic_(plan.critic.widths, stride_, lanes_.scalar(0).size),
        twin_(plan.twin.widths, stride_, lanes_.policy(0).size),
        policy_(plan.policy.widths, stride_, lanes_.policy(0).size),
        flat_((kArrays + lanes * kOwnArrays) * stride_),
        spread_(padded(plan.action_dim)),
        head_(plan, stride_) {
    for (int i = 0; i < lanes; ++i) lane_.push_back(std::make_unique<Lane>(plan, largest(plan)));
  }

  // The update after `update` updates of one member.
  void update(int place, int64_t member, int64_t update, double* metrics, double* seconds) {
    Lane& lane = *lane_[static_cast<size_t>(place)];
    Clock& clock = lane.clock;
    clock.start(seconds + (member * kMaxLanes + place) * kPartCount);
    const Group all = lanes_.all(place), values = lanes_.scalar(place), acts = lanes_.policy(place);
    const Net<kParts> value(plan_.scalar, kernel_, member), policy(plan_.policy, kernel_, member),
        critic(plan_.critic, kernel_, member), twin(plan_.twin, kernel_, member);
    const IQL<Real> method(plan_, member);

    sample(lane.sampler, member, update, all.share(stride_));
    clock.lap(kSampling);
    all.meet(clock);

    // Forward: what is only looked at first, then what will be stepped back through.
    const auto look = [&](const Net<kParts>& net, bool target, const Panels& x, const Trace& trace,
                          const Group& group, Real* out) {
      const Range rows = group.share(stride_);
      forward(net, target, x, trace, rows, lane.scratch);
      take_row(trace.output(net.depth() - 1), rows, out);
    };
    if (values.works()) {
      look(value, false, next_obs_, value_, values, array(kNext));
      look(value, false, obs_, value_, values, array(kValue));
      clock.lap(kScalar);
      look(critic, true, pair_, critic_, values, array(kFirst));
      clock.lap(kTarget);
    }
    if (acts.works()) {
      look(twin, true, pair_, twin_, acts, array(kSecond));
      clock.lap(kTarget);
      forward(policy, false, obs_, policy_, acts.share(stride_), lane.scratch);
      clock.lap(kPolicy);
    }
    all.meet(clock);

    // Each lane judges for itself, which costs less than to wait.
    Real* const gradient = array(kArrays) + place * kOwnArrays * stride_;
    Real* const weight = gradient + stride_;
    double found[std::size(IQL<Real>::kMetrics)] = {};
    method.judge(Alone(), plan_.batch, array(kValue), array(kFirst), array(kSecond), gradient,
                 weight, found);
    clock.lap(kHead);

    const auto factors = [&](double rate, double decay) {
      return adam_factors<Real>(update, rate, decay, plan_.number("polyak", member),
                                plan_.flag("decoupled_weight_decay"), kBeta1, kBeta2, kEps);
    };
    const auto scalar_factors =
        factors(plan_.number("scalar_rate", member), plan_.number("scalar_decay", member));
    const auto step_scalar = [&](const Net<kParts>& net, const Panels& x, const Trace& trace,
                                 const Group& group, auto follow) {
      put_row(gradient, group.share(stride_), plan_.batch, stride_, trace.output(net.depth() - 1));
      descend<decltype(follow)::value>(net, x, trace, scalar_factors, group, lane.scratch, clock);
    };
    const auto step_critic = [&](const Net<kParts>& net, const Trace& trace, const Group& group,
                                 Real* output) {
      look(net, false, pair_, trace, group, output);
      clock.lap(kScalar);
      group.meet(clock);
      const double loss = method.judge_critic(Alone(), plan_.batch, output, array(kNext),
                                              array(kReward), array(kTerminal), gradient);
      clock.lap(kHead);
      step_scalar(net, pair_, trace, group, Followed<Follow::kPart>());
      return loss;
    };
    if (values.works()) {
      step_scalar(value, obs_, value_, values, Followed<Follow::kNot>());
      const double loss = step_critic(critic, critic_, values, array(kFirstOnline));
      if (values.leads()) critic_loss_[0] = loss;
    }
    if (acts.works()) {
      judge_policy(lane.tile, member, weight, acts);
      clock.lap(kHead);
      if (plan_.bins == 0) acts.meet(clock);
      const double rate = policy_share(update) * plan_.number("policy_rate", member);
      const auto policy_factors = factors(rate, plan_.number("policy_decay", member));
      descend(policy, obs_, policy_, policy_factors, acts, lane.scratch, clock);
      if (plan_.bins == 0 && acts.leads()) step_log_std(member, policy_factors);
      const double loss = step_critic(twin, twin_, acts, array(kSecondOnline));
      if (acts.leads()) critic_loss_[1] = loss;
    }
    all.meet(clock);
    if (all.leads()) {
      found[IQL<Real>::kCriticLoss] = critic_loss_[0] + critic_loss_[1];
      found[IQL<Real>::kPolicyLoss] = head_.loss();
      for (size_t i = 0; i < std::size(found); ++i) metrics[i] += found[i];
    }
  }

 private:
  enum Array {
    kValue,
    kNext,
    kFirst,
    kSecond,
    kFirstOnline,
    kSecondOnline,
    kReward,
    kTerminal,
    kArrays
  };
  static constexpr int64_t kOwnArrays = 2;  // of a lane: gradient, weight

  template <Follow kFollow>
  using Followed = std::integral_constant<Follow, kFollow>;

  Real* array(Array which) const { return flat_.data() + which * stride_; }

  static int64_t largest(const Plan& plan) {
    int64_t widest = kBlock;
    for (const NetPlan* net : {&plan.policy, &plan.scalar, &plan.critic}) {
      for (int64_t width : net->widths) widest = std::max(widest, padded(width));
    }
    return widest * padded(plan.batch);
  }

  void sample(Sampler& sampler, int64_t member, int64_t update, const Range& rows) {
    const Panels pair = pair_;
    BatchSlot slot{{},
                   array(kTerminal),
                   array(kReward),
                   plan_.bins > 0 ? head_.bins() : nullptr,
                   pair.below(width_)};
    slot.to[0][0] = obs_;
    slot.to[0][1] = pair;
    slot.to[1][0] = next_obs_;
    sampler.draw(plan_.sources.front(), member, update, rows, slot);
  }

  double policy_share(int64_t update) const {
    if (plan_.policy_decay_updates == 0) return 1.0;
    const double done =
        static_cast<double>(update) / static_cast<double>(plan_.policy_decay_updates);
    return 0.5 * (1.0 + std::cos(3.14159265358979323846 * std::min(done, 1.0)));
  }

  // Loss of the policy's rows; the gradient takes its output's place. A normal policy's deviation
  // is learned from all rows: the leading lane takes them.
  void judge_policy(Tile<Real>& tile, int64_t member, const Real* weight, const Group& group) {
    const Panels out = policy_.output(static_cast<int>(plan_.policy.widths.size()) - 2);
    if (plan_.bins > 0) {
      head_.judge(tile, member, out, group.share(stride_), stride_, weight);
    } else if (group.leads()) {
      const Panels action = pair_;
      head_.take(normal_loss(out, action.below(width_), log_std(plan_.log_std.weights, member),
                             weight, plan_.batch, plan_.action_dim, spread_.data()));
    }
  }

  Real* log_std(void* numbers, int64_t member) const {
    return static_cast<Real*>(numbers) + member * plan_.log_std.size;
  }

  void step_log_std(int64_t member, const AdamFactors<Real>& factors) {
    for (int64_t i = 0; i < plan_.log_std.size; i += kPanel) {
      Net<kParts>::step_plain(
          log_std(plan_.log_std.weights, member) + i, log_std(plan_.log_std.first, member) + i,
          log_std(plan_.log_std.second, member) + i, spread_.data() + i, factors);
    }
  }

  const Plan& plan_;
  HalfKernel kernel_;
  int64_t stride_;
  Lanes lanes_;
  int64_t width_;
  Matrix obs_, next_obs_, pair_;
  Trace value_, critic_, twin_, policy_;
  Buffer flat_;    // kArrays of [stride], then kOwnArrays of each lane
  Buffer spread_;  // gradient of log_std
  Head head_;
  std::vector<std::unique_ptr<Lane>> lane_;
  double critic_loss_[2] = {};
};

}  // namespace
}  // namespace FASTIFO_ISA
}  // namespace fastifo

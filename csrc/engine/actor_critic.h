// One update of a member of IQL: value, two critics of observation and action, policy.
// Source: Kostrikov et al. 2021, arXiv:2110.06169.
#pragma once

#include "engine/activations.h"
#include "engine/head.h"
#include "engine/normal.h"
#include "losses/iql.h"
#include "losses/serial_team.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

// The memory of one update, used as `MemberUpdate` is. The member's threads form two groups: one
// for the value and the first critic, one for the policy and the second critic.
template <int kParts>
class ActorCritic {
 public:
  ActorCritic(const Plan& plan, Bf16Kernel kernel, int threads)
      : plan_(plan),
        kernel_(kernel),
        stride_(padded(plan.batch)),
        threads_(threads, {stride_, plan.scalar.size + plan.critic.size},
                 {stride_, plan.policy.size + plan.twin.size}),
        width_(plan.obs_dim * std::max<int64_t>(1, static_cast<int64_t>(plan.scale.size()))),
        obs_(width_, stride_),
        next_obs_(width_, stride_),
        pair_(width_ + plan.action_dim, stride_),
        value_(plan.scalar, stride_, threads_.scalar(0).size),
        critic_(plan.critic, stride_, threads_.scalar(0).size),
        twin_(plan.twin, stride_, threads_.policy(0).size),
        policy_(plan.policy, stride_, threads_.policy(0).size),
        arrays_((kArrays + threads * 2) * stride_),
        log_std_gradient_(padded(plan.action_dim)),
        head_(plan, stride_) {
    for (int i = 0; i < threads; ++i) {
      slot_.push_back(std::make_unique<ThreadSlot>(
          plan, largest_operand({&plan.policy, &plan.scalar, &plan.critic}, stride_)));
    }
  }

  // Makes update `update`, counted from 0, of one member. All of the member's threads call it
  // together.  metrics: the member's, added to.  seconds: as in train_cpu.
  void update(int thread, int64_t member, int64_t update, double* metrics, double* seconds) {
    ThreadSlot& slot = *slot_[static_cast<size_t>(thread)];
    slot.clock.start(seconds + (member * kMaxMemberThreads + thread) * kPartCount);
    Step step(*this, slot, thread, member, update);

    sample_batch(step);
    step.all.wait(slot.clock);
    forward_nets(step);
    step.all.wait(slot.clock);
    compute_value_loss(step);
    if (step.value_group.is_active()) update_value(step);
    if (plan_.flag("value_first")) evaluate_stepped_value(step);
    if (step.value_group.is_active()) {
      update_critic(step, step.critic, critic_, step.value_group, 0);
    }
    if (step.policy_group.is_active()) {
      update_policy(step);
      update_critic(step, step.twin, twin_, step.policy_group, 1);
    }
    step.all.wait(slot.clock);
    if (step.all.is_leader()) add_metrics(step, metrics);
  }

 private:
  using Method = IQL<Real>;
  enum Array {
    kValue,
    kNext,
    kTargetCritic,
    kTargetTwin,
    kCritic,
    kTwin,
    kReward,
    kTerminal,
    kArrays
  };

  // One thread's view of one update.
  struct Step {
    Step(ActorCritic& self, ThreadSlot& slot_, int thread, int64_t member_, int64_t update_)
        : slot(slot_),
          member(member_),
          update(update_),
          method(self.plan_, member),
          all(self.threads_.all(thread)),
          value_group(self.threads_.scalar(thread)),
          policy_group(self.threads_.policy(thread)),
          value(self.plan_.scalar, self.kernel_, member),
          critic(self.plan_.critic, self.kernel_, member),
          twin(self.plan_.twin, self.kernel_, member),
          policy(self.plan_.policy, self.kernel_, member),
          scalar_factors(net_factors(self.plan_, "scalar", member, update)),
          gradient(self.array(kArrays) + 2 * thread * self.stride_),
          weight(gradient + self.stride_) {}

    ThreadSlot& slot;
    int64_t member, update;
    Method method;
    ThreadGroup all, value_group, policy_group;
    Mlp<kParts> value, critic, twin, policy;
    AdamFactors<Real> scalar_factors;  // of the value and both critics
    Real* gradient;                    // [stride] in the output of the net that is updated
    Real* weight;                      // [stride] of the policy's loss
    double metrics[std::size(Method::kMetrics)] = {};
  };

  Real* array(Array which) const { return arrays_.data() + which * stride_; }

  // Batch: index i is Philox(seed, purpose, update, i). The critics read the encoded observation
  // followed by the action.
  void sample_batch(Step& step) {
    const Panels pair = pair_;
    BatchSlot slot{{}, array(kTerminal), array(kReward), head_.bins(), pair.from_row(width_)};
    slot.to[0][0] = obs_;
    slot.to[0][1] = pair;
    slot.to[1][0] = next_obs_;
    step.slot.sampler.draw(plan_.sources.front(), step.member, step.update, step.all.share(stride_),
                           slot);
    step.slot.clock.lap(kSampling);
  }

  // A net's scalar output for this thread's rows; the activations stay for the backward pass.
  void evaluate(Step& step, const Mlp<kParts>& net, bool target, const Panels& x,
                const Activations& activations, const ThreadGroup& group, Real* out) {
    const Range rows = group.share(stride_);
    forward(net, target, x, activations, rows, step.slot.scratch);
    read_row(activations.output(net.depth() - 1), rows, out);
  }

  // Forward: V(s'), V(s), both target critics Q(s, a), and the policy. V(s) comes after V(s'),
  // because its activations are needed for the backward pass.
  void forward_nets(Step& step) {
    Clock& clock = step.slot.clock;
    if (step.value_group.is_active()) {
      evaluate(step, step.value, false, next_obs_, value_, step.value_group, array(kNext));
      evaluate(step, step.value, false, obs_, value_, step.value_group, array(kValue));
      clock.lap(kScalar);
      evaluate(step, step.critic, true, pair_, critic_, step.value_group, array(kTargetCritic));
      clock.lap(kTarget);
    }
    if (step.policy_group.is_active()) {
      evaluate(step, step.twin, true, pair_, twin_, step.policy_group, array(kTargetTwin));
      clock.lap(kTarget);
      forward(step.policy, false, obs_, policy_, step.policy_group.share(stride_),
              step.slot.scratch);
      clock.lap(kPolicy);
    }
  }

  // Value loss and policy weights, with A = min(Q1, Q2) - V(s) of the target critics: expectile
  // loss of A (Eq. 5), w = min(exp(inverse_temperature * A), max_weight) (Eq. 7). Every thread
  // computes them for all rows, which is cheaper than waiting for another.
  void compute_value_loss(Step& step) {
    step.method.loss_and_weights(SerialTeam(), plan_.batch, array(kValue), array(kTargetCritic),
                                 array(kTargetTwin), step.gradient, step.weight, step.metrics);
    step.slot.clock.lap(kHead);
  }

  // Backward and Adam of a net with scalar output, from `step.gradient`.
  template <TargetUpdate kTargetUpdate>
  void update_scalar(Step& step, const Mlp<kParts>& net, const Panels& x,
                     const Activations& activations, const ThreadGroup& group) {
    write_row(step.gradient, group.share(stride_), plan_.batch, stride_,
              activations.output(net.depth() - 1));
    backward_and_step<kTargetUpdate>(net, x, activations, step.scalar_factors, group,
                                     step.slot.scratch, step.slot.clock);
  }

  void update_value(Step& step) {
    update_scalar<TargetUpdate::kNone>(step, step.value, obs_, value_, step.value_group);
  }

  // V(s') and V(s) after the value's step, and the policy's weights with that V(s).
  void evaluate_stepped_value(Step& step) {
    step.all.wait(step.slot.clock);  // every thread has read the old V(s)
    if (step.value_group.is_active()) {
      evaluate(step, step.value, false, next_obs_, value_, step.value_group, array(kNext));
      evaluate(step, step.value, false, obs_, value_, step.value_group, array(kValue));
      step.slot.clock.lap(kScalar);
    }
    step.all.wait(step.slot.clock);
    step.method.weights(SerialTeam(), plan_.batch, array(kValue), array(kTargetCritic),
                        array(kTargetTwin), step.weight, step.metrics);
    step.slot.clock.lap(kHead);
  }

  // Critic: a share of the mean of (r + discount * V(s') - Q(s, a))^2 (Eq. 6); then the target
  // moves, target += polyak * (critic - target).
  void update_critic(Step& step, const Mlp<kParts>& net, const Activations& activations,
                     const ThreadGroup& group, int index) {
    Real* const q = array(index == 0 ? kCritic : kTwin);
    evaluate(step, net, false, pair_, activations, group, q);
    step.slot.clock.lap(kScalar);
    group.wait(step.slot.clock);
    const double loss = step.method.critic_loss(SerialTeam(), plan_.batch, q, array(kNext),
                                                array(kReward), array(kTerminal), step.gradient);
    step.slot.clock.lap(kHead);
    update_scalar<TargetUpdate::kPolyak>(step, net, pair_, activations, group);
    if (group.is_leader()) critic_loss_[index] = loss;
  }

  // Policy: mean(w * -log p(a | s)) (Eq. 7), for a deterministic head the squared error. The normal
  // head's gradient in log_std sums over all rows, so the leading thread computes that loss.
  void update_policy(Step& step) {
    ThreadSlot& slot = step.slot;
    const ThreadGroup& group = step.policy_group;
    const Panels out = policy_.output(step.policy.depth() - 1);
    const Panels action = pair_.view().from_row(width_);
    const bool is_normal = plan_.log_std.size > 0;
    if (!is_normal) {
      head_.compute_loss(slot.tile, step.member, out, group.share(stride_), stride_, step.weight,
                         action);
    } else if (group.is_leader()) {
      const double least = plan_.flag("narrow_log_std") ? kNarrowLeastLogStd : kLeastLogStd;
      head_.set_loss(normal_loss(out, action, log_std(plan_.log_std.weights, step), least,
                                 step.weight, plan_.batch, plan_.action_dim,
                                 log_std_gradient_.data()));
    }
    slot.clock.lap(kHead);
    if (is_normal) group.wait(slot.clock);
    const AdamFactors<Real> policy_factors =
        net_factors(plan_, "policy", step.member, step.update, rate_share(step.update));
    backward_and_step(step.policy, obs_, policy_, policy_factors, group, slot.scratch, slot.clock);
    if (is_normal && group.is_leader()) update_log_std(step, policy_factors);
  }

  // Cosine decay of the policy's learning rate, from 1 to 0 over `policy_decay_updates`.
  double rate_share(int64_t update) const {
    if (plan_.policy_decay_updates == 0) return 1.0;
    const double done =
        static_cast<double>(update) / static_cast<double>(plan_.policy_decay_updates);
    return 0.5 * (1.0 + std::cos(3.14159265358979323846 * std::min(done, 1.0)));
  }

  // A member's part of log_std or of its moments.
  Real* log_std(void* numbers, const Step& step) const {
    return static_cast<Real*>(numbers) + step.member * plan_.log_std.size;
  }

  void update_log_std(const Step& step, const AdamFactors<Real>& policy_factors) {
    const State state{log_std(plan_.log_std.weights, step), log_std(plan_.log_std.first, step),
                      log_std(plan_.log_std.second, step), nullptr};
    for (int64_t i = 0; i < plan_.log_std.size; i += kPanel) {
      state.at(i).step<TargetUpdate::kNone>(log_std_gradient_.data() + i, policy_factors);
    }
  }

  void add_metrics(Step& step, double* metrics) const {
    step.metrics[Method::kCriticLoss] = critic_loss_[0] + critic_loss_[1];
    step.metrics[Method::kPolicyLoss] = head_.loss();
    for (size_t i = 0; i < std::size(step.metrics); ++i) metrics[i] += step.metrics[i];
  }

  const Plan& plan_;
  Bf16Kernel kernel_;
  int64_t stride_;
  MemberThreads threads_;
  int64_t width_;                 // of an encoded observation
  Matrix obs_, next_obs_, pair_;  // pair: observation and action
  Activations value_, critic_, twin_, policy_;
  Buffer arrays_;            // kArrays of [stride], then each thread's gradient and weight
  Buffer log_std_gradient_;  // [action_dim]
  Head head_;
  std::vector<std::unique_ptr<ThreadSlot>> slot_;  // one per thread
  double critic_loss_[2] = {};
};

}  // namespace
}  // namespace FASTIFO_ISA
}  // namespace fastifo

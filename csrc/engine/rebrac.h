// One update of a member of ReBRAC: two critics and, in every second update, the policy, whose
// gradient passes through the action that the critics read.
// Source: Tarasov et al. 2023, arXiv:2305.09836.
#pragma once

#include "engine/activations.h"
#include "engine/deterministic.h"
#include "losses/rebrac.h"
#include "losses/serial_team.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

// The memory of one update, used as `MemberUpdate` is. Of the member's threads some work on the
// first critic and the others on the second; all of them divide the rows of the policy.
template <int kParts>
class ReBRACUpdate {
 public:
  ReBRACUpdate(const Plan& plan, Bf16Kernel kernel, int threads)
      : plan_(plan),
        kernel_(kernel),
        stride_(padded(plan.batch)),
        threads_(threads, {stride_, plan.critic.size}, {stride_, plan.twin.size}),
        width_(plan.obs_dim * std::max<int64_t>(1, static_cast<int64_t>(plan.scale.size()))),
        obs_(width_, stride_),
        next_obs_(width_, stride_),
        pair_(width_ + plan.action_dim, stride_),
        next_pair_(width_ + plan.action_dim, stride_),
        next_action_(plan.action_dim, stride_),
        noise_(plan.action_dim, stride_),
        error_(plan.action_dim, stride_),
        critic_(plan.critic, stride_, threads_.scalar(0).size),
        twin_(plan.twin, stride_, threads_.policy(0).size),
        policy_(plan.policy, stride_, threads),
        arrays_((kArrays + threads * 2) * stride_) {
    for (int i = 0; i < threads; ++i) {
      slot_.push_back(std::make_unique<ThreadSlot>(
          plan, largest_operand({&plan.policy, &plan.critic}, stride_)));
    }
  }

  // Makes update `update`, counted from 0, of one member. All of the member's threads call it
  // together.  metrics: the member's, added to.  seconds: as in train_cpu.
  void update(int thread, int64_t member, int64_t update, double* metrics, double* seconds) {
    ThreadSlot& slot = *slot_[static_cast<size_t>(thread)];
    slot.clock.start(seconds + (member * kMaxMemberThreads + thread) * kPartCount);
    Step step(*this, slot, thread, member, update);

    sample_batch(step);
    choose_next_action(step);
    step.all.wait(slot.clock);
    each_critic(step, [&](const Critic& critic) { evaluate_pairs(step, critic); });
    step.all.wait(slot.clock);
    each_critic(step, [&](const Critic& critic) { update_critic(step, critic); });
    if (step.trains_policy) update_policy(step);
    if (step.all.is_leader()) step.next_distance = mean(array(kNextDistance));
    step.all.wait(slot.clock);  // then the other threads draw the next batch
    if (step.all.is_leader()) add_metrics(step, metrics);
  }

 private:
  using Method = ReBRAC<Real>;
  enum Array {
    kNextCritic,  // of the two target critics at the next pair
    kNextTwin,
    kCritic,
    kTwin,
    kNextDistance,
    kDistance,
    kReward,
    kTerminal,
    kArrays
  };

  // What is kept of a critic in one update.
  struct CriticMemory {
    CriticMemory(const NetPlan& net, int64_t columns, int threads)
        : activations(net, columns, threads), pair_gradient(net.widths.front(), columns) {}

    Activations activations;
    Matrix pair_gradient;           // of the policy's loss in the pair that the critic reads
    double loss = 0.0, mean = 0.0;  // of the step, and of Q(s, a) before it
  };

  // One of the two critics, as seen by a thread that works on it.
  struct Critic {
    Mlp<kParts> net;
    CriticMemory& memory;
    ThreadGroup group;
    Real *q, *other, *next_q;  // [stride] of this critic, the other one, this one's target
  };

  // One thread's view of one update.
  struct Step {
    Step(ReBRACUpdate& self, ThreadSlot& slot_, int thread, int64_t member_, int64_t update_)
        : slot(slot_),
          member(member_),
          update(update_),
          method(self.plan_, member),
          all(self.threads_.all(thread)),
          rows(all.share(self.stride_)),
          critic_group(self.threads_.scalar(thread)),
          twin_group(self.threads_.policy(thread)),
          policy(self.plan_.policy, self.kernel_, member),
          trains_policy((update + 1) % self.plan_.target_period == 0),
          gradient(self.array(kArrays) + 2 * thread * self.stride_),
          next_q(gradient + self.stride_) {}

    ThreadSlot& slot;
    int64_t member, update;
    Method method;
    ThreadGroup all;
    Range rows;  // this thread's part, where all threads share the work
    ThreadGroup critic_group, twin_group;
    Mlp<kParts> policy;
    bool trains_policy;          // and refreshes the targets
    Real* gradient;              // [stride] in a critic's output
    Real* next_q;                // [stride] workspace of the critics' loss
    double next_distance = 0.0;  // mean |a~' - a'|^2, for the leader's metrics
  };

  Real* array(Array which) const { return arrays_.data() + which * stride_; }
  // The actions of some pairs.
  Panels action_of(const Matrix& pair) const { return pair.view().from_row(width_); }

  // Calls work(critic) for the critics that this thread works on.
  template <typename Work>
  void each_critic(Step& step, const Work& work) {
    const auto call = [&](const NetPlan& plan, CriticMemory& memory, const ThreadGroup& group,
                          Array q, Array other, Array next_q) {
      if (!group.is_active()) return;
      work(Critic{Mlp<kParts>(plan, kernel_, step.member), memory, group, array(q), array(other),
                  array(next_q)});
    };
    call(plan_.critic, critic_, step.critic_group, kCritic, kTwin, kNextCritic);
    call(plan_.twin, twin_, step.twin_group, kTwin, kCritic, kNextTwin);
  }

  // Batch: index i is Philox(seed, purpose, update, i). The critics read the encoded observation
  // followed by the action.
  void sample_batch(Step& step) {
    BatchSlot slot{{}, array(kTerminal), array(kReward), nullptr, action_of(pair_), next_action_};
    slot.to[0][0] = obs_;
    slot.to[0][1] = pair_;
    slot.to[1][0] = next_obs_;
    slot.to[1][1] = next_pair_;
    step.slot.sampler.draw(plan_.sources.front(), step.member, step.update, step.rows, slot);
    step.slot.sampler.normal(step.member, step.update, step.rows, noise_);
    step.slot.clock.lap(kSampling);
  }

  // a~' = clip(pibar(s') + clip(noise)) and |a~' - a'|^2, where a' is the data's next action.
  void choose_next_action(Step& step) {
    forward(step.policy, true, next_obs_, policy_, step.rows, step.slot.scratch);
    const Panels noise = noise_, raw = policy_.output(step.policy.depth() - 1);
    const Real limit = step.method.noise_clip, deviation = step.method.policy_noise;
    const ActionPanels next{plan_.action_dim, action_of(next_pair_), next_action_, error_,
                            array(kNextDistance)};
    next.write(step.rows, plan_.batch, [&](int64_t panel, int64_t dim, int64_t v) {
      const Vec<Real> move = clip(deviation * load(noise.line(panel, dim) + v), limit);
      return clip(tanh(load(raw.line(panel, dim) + v)) + move, Real(1));
    });
    step.slot.clock.lap(kTarget);
  }

  // A critic's output for the rows of this thread; the activations stay for the backward pass.
  void evaluate(Step& step, const Critic& critic, bool target, const Panels& x, Real* out) {
    const Range rows = critic.group.share(stride_);
    const Activations& activations = critic.memory.activations;
    forward(critic.net, target, x, activations, rows, step.slot.scratch);
    read_row(activations.output(critic.net.depth() - 1), rows, out);
    step.slot.clock.lap(target ? kTarget : kScalar);
  }

  // Forward: Qbar(s', a~') and Q(s, a).
  void evaluate_pairs(Step& step, const Critic& critic) {
    evaluate(step, critic, true, next_pair_, critic.next_q);
    evaluate(step, critic, false, pair_, critic.q);
  }

  // Writes the gradient in a critic's output where its backward pass starts.
  void write_gradient(const Step& step, const Critic& critic) const {
    write_row(step.gradient, critic.group.share(stride_), plan_.batch, stride_,
              critic.memory.activations.output(critic.net.depth() - 1));
  }

  // Critic: backward and Adam of E[(y - Q(s, a))^2]; in every second update its target moves,
  // target += polyak * (critic - target).
  void update_critic(Step& step, const Critic& critic) {
    const double loss = step.method.critic_loss(
        SerialTeam(), plan_.batch, critic.q, array(kNextCritic), array(kNextTwin),
        array(kNextDistance), array(kReward), array(kTerminal), step.next_q, step.gradient);
    if (critic.group.is_leader()) {
      critic.memory.loss = loss;
      critic.memory.mean = mean(critic.q);
    }
    write_gradient(step, critic);
    step.slot.clock.lap(kHead);
    const AdamFactors<Real> adam = net_factors(plan_, "critic", step.member, step.update);
    const auto update = [&]<TargetUpdate kTargetUpdate>() {
      backward_and_step<kTargetUpdate>(critic.net, pair_, critic.memory.activations, adam,
                                       critic.group, step.slot.scratch, step.slot.clock);
    };
    if (step.trains_policy) {
      update.template operator()<TargetUpdate::kPolyak>();
    } else {
      update.template operator()<TargetUpdate::kNone>();
    }
  }

  // Policy: L = policy_penalty E[|pi(s) - a|^2] - E[Q] / E[|Q|], Q = min_i Q_i(s, pi(s)) of the
  // critics after their step. pi(s) replaces a in `pair_`.
  void update_policy(Step& step) {
    Clock& clock = step.slot.clock;
    forward(step.policy, false, obs_, policy_, step.rows, step.slot.scratch);
    clock.lap(kPolicy);
    step.all.wait(clock);  // for the critics' weight gradients, which read `pair_`
    const Panels out = policy_.output(step.policy.depth() - 1);
    const ActionPanels actions{plan_.action_dim, action_of(pair_), action_of(pair_), error_,
                               array(kDistance)};
    actions.write(step.rows, plan_.batch, [&](int64_t panel, int64_t dim, int64_t v) {
      return tanh(load(out.line(panel, dim) + v));
    });
    clock.lap(kPolicy);
    step.all.wait(clock);
    each_critic(step,
                [&](const Critic& critic) { evaluate(step, critic, false, pair_, critic.q); });
    step.all.wait(clock);
    each_critic(step, [&](const Critic& critic) { backward_to_action(step, critic); });
    step.all.wait(clock);
    const Real share = Real(2) * step.method.policy_penalty / static_cast<Real>(plan_.batch);
    const Panels first = action_of(critic_.pair_gradient), second = action_of(twin_.pair_gradient);
    const auto slope = [&](int64_t panel, int64_t dim, int64_t v) {
      return load(first.line(panel, dim) + v) + load(second.line(panel, dim) + v) +
             share * load(actions.error.line(panel, dim) + v);
    };
    actions.write_gradient(step.rows, plan_.batch, slope, out);
    clock.lap(kHead);
    backward_and_step<TargetUpdate::kPolyak>(
        step.policy, obs_, policy_,
        net_factors(plan_, "policy", step.member, step.update / plan_.target_period), step.all,
        step.slot.scratch, clock);
  }

  // The policy's loss, and its gradient in the pair through one critic.
  void backward_to_action(Step& step, const Critic& critic) {
    const double loss = step.method.policy_loss(SerialTeam(), plan_.batch, critic.q, critic.other,
                                                array(kDistance), step.gradient);
    if (step.all.is_leader()) policy_loss(step) = static_cast<Real>(loss);
    write_gradient(step, critic);
    step.slot.clock.lap(kHead);
    const BackwardPass<kParts> pass{critic.net, pair_, critic.memory.activations,
                                    step.slot.scratch};
    pass.backward_to_input(critic.group.share(stride_), critic.memory.pair_gradient);
    step.slot.clock.lap(kBackward);
  }

  // Of the policy's last step, kept for the updates in which it makes none.
  Real& policy_loss(const Step& step) const {
    return static_cast<Real*>(plan_.policy_loss)[step.member];
  }

  double mean(const Real* x) const {
    return mean_of(SerialTeam(), plan_.batch, [&](int64_t i) { return x[i]; });
  }

  // Reads nothing that the other threads' next update writes before all of them wait again.
  void add_metrics(const Step& step, double* metrics) const {
    metrics[Method::kCriticLoss] += critic_.loss + twin_.loss;
    metrics[Method::kPolicyLoss] += static_cast<double>(policy_loss(step));
    metrics[Method::kCriticMean] += critic_.mean;
    metrics[Method::kNextDistance] += step.next_distance;
  }

  const Plan& plan_;
  Bf16Kernel kernel_;
  int64_t stride_;
  MemberThreads threads_;
  int64_t width_;                             // of an encoded observation
  Matrix obs_, next_obs_, pair_, next_pair_;  // a pair is an observation and an action
  Matrix next_action_;                        // of the data
  Matrix noise_, error_;                      // [action_dim, stride]
  CriticMemory critic_, twin_;
  Activations policy_;
  Buffer arrays_;  // kArrays of [stride], then each thread's gradient and next_q
  std::vector<std::unique_ptr<ThreadSlot>> slot_;  // one per thread
};

}  // namespace
}  // namespace FASTIFO_ISA
}  // namespace fastifo

// One update of a member that has a policy, a scalar net (value or discriminator) or both: every
// method but IQL, ReBRAC and discriminators with a gradient penalty.
#pragma once

#include "engine/embedding.h"
#include "engine/head.h"
#include "losses/list.h"
#include "losses/serial_team.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

constexpr int64_t kTargetChunk = 256;  // rows at a time: two layers of 512 units fit in L2
constexpr int kMaxMetrics = 16;

// The memory of one update. Row r of source s has index s * stride + r; the policy's rows are the
// last `policy_rows`. Methods whose gradient reaches the next value have the next observations as
// further rows of the scalar net, `next_shift` after the first. Output n of that net lies n *
// `scalar_rows` after output 0.
template <typename Method, int kParts>
class MemberUpdate {
 public:
  MemberUpdate(const Plan& plan, Bf16Kernel kernel, int threads)
      : plan_(plan),
        kernel_(kernel),
        sources_(static_cast<int64_t>(plan.sources.size())),
        stride_(padded(plan.batch)),
        rows_(sources_ * stride_),
        next_shift_(plan.next_from < 0 ? 0 : rows_ - plan.next_from * stride_),
        scalar_rows_(rows_ + next_shift_),
        policy_rows_(plan.policy_sources * stride_),
        threads_(threads, {scalar_rows_, plan.scalar.size}, {policy_rows_, plan.policy.size}),
        scalar_pair_(plan.flag("scalar_pair")),
        policy_pair_(plan.flag("policy_pair")),
        width_(plan.obs_dim * std::max<int64_t>(1, static_cast<int64_t>(plan.scale.size()))),
        obs_((scalar_pair_ || policy_pair_ ? 2 : 1) * width_, scalar_rows_),
        next_obs_(width_, rows_),
        policy_obs_(width_, scalar_pair_ ? policy_rows_ : kBlock),
        action_(plan.action_dim, plan.bins > 0 ? 0 : policy_rows_),
        scalar_(plan.scalar, scalar_rows_, threads_.scalar(0).size, kParts),
        policy_(plan.policy, policy_rows_, threads_.policy(0).size, kParts),
        arrays_((kArrays + threads * (kOutputs + 1)) * scalar_rows_),
        head_(plan, policy_rows_) {
    for (int i = 0; i < threads; ++i) {
      slot_.push_back(std::make_unique<ThreadSlot>(
          plan, largest_operand({&plan.policy, &plan.scalar, &plan.embedding},
                                std::max({scalar_rows_, kTargetChunk, kEmbeddingChunk}))));
      chunk_.push_back(std::make_unique<Activations>(plan.scalar, kTargetChunk, 0, kParts));
      embedding_.push_back(std::make_unique<PairEmbedding>(plan.embedding, kParts));
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
    compute_losses(step);
    backward_and_adam(step);
    step.all.wait(slot.clock);
    if (step.all.is_leader()) add_metrics(step, metrics);
  }

 private:
  static constexpr int64_t kOutputs = output_count<Method>();
  enum Array { kNext, kOnlineNext, kReward, kTerminal, kUniform, kDistance, kOutput };
  static constexpr int64_t kArrays = kOutput + kOutputs;

  // One thread's view of one update.
  struct Step {
    Step(MemberUpdate& self, ThreadSlot& slot_, int thread_, int64_t member_, int64_t update_)
        : slot(slot_),
          thread(thread_),
          member(member_),
          update(update_),
          all(self.threads_.all(thread)),
          scalar_group(self.threads_.scalar(thread)),
          policy_group(self.threads_.policy(thread)),
          scalar(self.plan_.scalar, self.kernel_, member),
          policy(self.plan_.policy, self.kernel_, member),
          updates_scalar(scalar.depth() > 0 && scalar_group.is_active()),
          updates_policy(policy.depth() > 0 && policy_group.is_active()),
          gradient(self.arrays_.data() + (kArrays + (kOutputs + 1) * thread) * self.scalar_rows_),
          weight(gradient + kOutputs * self.scalar_rows_) {}

    ThreadSlot& slot;
    int thread;
    int64_t member, update;
    ThreadGroup all, scalar_group, policy_group;
    Mlp<kParts> scalar, policy;
    bool updates_scalar, updates_policy;  // whether this thread works on that net
    Real* gradient;                       // [kOutputs, scalar_rows] in the scalar net's outputs
    Real* weight;                         // [policy_rows] of the policy's loss
    double metrics[kMaxMetrics] = {};
  };

  Real* array(Array which) const { return arrays_.data() + which * scalar_rows_; }

  // The observations that the policy reads: a copy without the next ones if the value reads pairs.
  Panels policy_input() const {
    return scalar_pair_ ? policy_obs_.view() : obs_.view().part(rows_ - policy_rows_, policy_rows_);
  }

  // Batch: index i of a source is Philox(seed, purpose, update, i); observations are encoded as
  // tanh(scale * (obs - mean) / deviation) on their way into panels.
  void sample_batch(Step& step) {
    for (int64_t s = 0; s < sources_; ++s) {
      const Range rows = step.all.share(rows_).within(s * stride_, stride_);
      if (rows.count() > 0) sample_source(step, s, rows);
    }
    if (step.all.is_leader() && plan_.mix_purpose >= 0) {
      step.slot.sampler.uniform(step.member, step.update, array(kUniform));
    }
    step.slot.clock.lap(kSampling);
  }

  void sample_source(Step& step, int64_t s, const Range& rows) {
    const SourcePlan& source = plan_.sources[static_cast<size_t>(s)];
    const int64_t first = s * stride_, policy_first = first - (rows_ - policy_rows_);
    const bool in_policy = policy_first >= 0 && !plan_.policy.widths.empty();
    BatchSlot slot{
        {},
        array(kTerminal) + first,
        source.reward == nullptr ? nullptr : array(kReward) + first,
        in_policy && plan_.bins > 0 ? head_.bins() + policy_first * plan_.action_dim : nullptr,
        in_policy && plan_.bins == 0 ? action_.view().part(policy_first, stride_) : Panels{}};
    const Panels obs = obs_.view().part(first, stride_);
    slot.to[0][0] = obs;
    if (next_shift_ > 0 && s >= plan_.next_from) {
      const Panels next = obs_.view().part(first + next_shift_, stride_);
      slot.to[1][0] = next;
      if (scalar_pair_) {
        slot.to[1][1] = obs.from_row(width_);
        slot.to[2][0] = next.from_row(width_);
        if (in_policy) slot.to[0][1] = policy_obs_.view().part(policy_first, stride_);
      }
    } else if (policy_pair_ || scalar_pair_) {
      slot.to[1][0] = obs.from_row(width_);
    } else if (plan_.scalar.target != nullptr) {
      slot.to[1][0] = next_obs_.view().part(first, stride_);
    }
    step.slot.sampler.draw(source, step.member, step.update, rows, slot);
  }

  // Forward: V(s), V_target(s') and the policy's logits. V(s') of the online net only where the
  // advantage bootstraps from it.
  void forward_nets(Step& step) {
    Clock& clock = step.slot.clock;
    if (step.updates_scalar) {
      const Range rows = step.scalar_group.share(scalar_rows_);
      forward(step.scalar, false, obs_, scalar_, rows, step.slot.scratch);
      const Panels output = scalar_.output(step.scalar.depth() - 1);
      for (int64_t n = 0; n < kOutputs; ++n) {
        read_row(output.from_row(n), rows, array(kOutput) + n * scalar_rows_);
      }
      if (plan_.flag("online_next_value")) {
        const Range policy_rows = step.scalar_group.share(policy_rows_);
        forward_only(step, false, rows_ - policy_rows_, policy_rows, array(kOnlineNext));
      }
      clock.lap(kScalar);
      if constexpr (requires { Method::kEmbeddedSources; }) {
        embed_pairs(step);
        clock.lap(kTarget);
      }
    }
    if (step.scalar.depth() > 0 && plan_.scalar.target != nullptr) {
      forward_only(step, true, 0, step.all.share(rows_), array(kNext));
      clock.lap(kTarget);
    }
    if (step.updates_policy) {
      forward(step.policy, false, policy_input(), policy_, step.policy_group.share(policy_rows_),
              step.slot.scratch);
      clock.lap(kPolicy);
    }
  }

  // The distances between the embeddings of two sources' rows.
  void embed_pairs(Step& step) {
    const auto source = [&](int index) {
      return obs_.view().part(Method::kEmbeddedSources[index] * stride_, stride_);
    };
    embedding_[static_cast<size_t>(step.thread)]->squared_distance(
        Mlp<kParts>(plan_.embedding, kernel_, step.member), source(0), source(1),
        step.scalar_group.share(stride_), step.slot.scratch, array(kDistance));
  }

  // The scalar net, or its target, on the next observations of some rows, counted from row `first`.
  // Keeps no activations.
  void forward_only(Step& step, bool target, int64_t first, const Range& rows, Real* out) {
    const Activations& activations = *chunk_[static_cast<size_t>(step.thread)];
    for (int64_t row = rows.first; row < rows.last; row += kTargetChunk) {
      const Range chunk{0, std::min(kTargetChunk, rows.last - row)};
      forward(step.scalar, target, next_obs_.view().part(first + row, chunk.count()), activations,
              chunk, step.slot.scratch);
      read_row(activations.output(step.scalar.depth() - 1), chunk, out + row);
    }
  }

  // Losses: the method's batch loss gives the gradient in V(s), and in V(s') where it reaches that
  // far, and the policy's weights w (csrc/losses). The policy's loss is mean(w * -log p(a | s)), or
  // with a deterministic head the mean of w times the squared error. Every thread computes the
  // batch loss of all rows, which is cheaper than waiting for another.
  void compute_losses(Step& step) {
    const Method method(plan_, step.member);
    std::fill_n(step.weight, policy_rows_, Real(1));
    method.loss_and_weights(SerialTeam(), batch_view(),
                            {step.gradient, next_shift_ > 0 ? step.gradient + next_shift_ : nullptr,
                             step.weight, step.metrics});
    if (step.updates_policy) {
      head_.compute_loss(step.slot.tile, step.member, policy_.output(step.policy.depth() - 1),
                         step.policy_group.share(policy_rows_), stride_, step.weight, action_);
    }
    step.slot.clock.lap(kHead);
  }

  BatchView<Real> batch_view() const {
    const bool has_rewards = plan_.sources.back().reward != nullptr;
    return {sources_,
            plan_.batch,
            stride_,
            array(kOutput),
            next_shift_ > 0 ? array(kOutput) + next_shift_ : array(kNext),
            plan_.flag("online_next_value") ? array(kOnlineNext) : nullptr,
            has_rewards ? array(kReward) : nullptr,
            array(kTerminal),
            plan_.mix_purpose >= 0 ? array(kUniform) : nullptr,
            scalar_rows_,
            plan_.embedding.widths.empty() ? nullptr : array(kDistance)};
  }

  // Backward and Adam (common/adam_step.h). Every `target_period` updates the target becomes a copy
  // of the scalar net.
  void backward_and_adam(Step& step) {
    const auto factors = [&](const char* net) {
      return net_factors(plan_, net, step.member, step.update);
    };
    ThreadSlot& slot = step.slot;
    if (step.updates_scalar) {
      const Panels output = scalar_.output(step.scalar.depth() - 1);
      for (int64_t n = 0; n < kOutputs; ++n) {
        write_row(step.gradient + n * scalar_rows_, step.scalar_group.share(scalar_rows_),
                  plan_.batch, stride_, output.from_row(n));
      }
      backward_and_step(step.scalar, obs_, scalar_, factors("scalar"), step.scalar_group,
                        slot.scratch, slot.clock);
      if (plan_.scalar.target != nullptr && (step.update + 1) % plan_.target_period == 0) {
        step.scalar_group.wait(slot.clock);
        if (step.scalar_group.is_leader()) step.scalar.copy_to_target();
      }
    }
    if (step.updates_policy) {
      backward_and_step(step.policy, policy_input(), policy_, factors("policy"), step.policy_group,
                        slot.scratch, slot.clock);
    }
  }

  // The policy's loss comes from the head, all other metrics from the batch loss.
  void add_metrics(const Step& step, double* metrics) const {
    constexpr int kPolicyLoss =
        std::max(metric_index<Method>("policy_loss"), metric_index<Method>("inverse_loss"));
    for (int i = 0; i < static_cast<int>(std::size(Method::kMetrics)); ++i) {
      metrics[i] += i == kPolicyLoss ? head_.loss() : step.metrics[i];
    }
  }

  const Plan& plan_;
  Bf16Kernel kernel_;
  int64_t sources_, stride_, rows_;
  int64_t next_shift_;  // from a row to its next observation's row; 0 if those are not rows
  int64_t scalar_rows_, policy_rows_;
  MemberThreads threads_;
  bool scalar_pair_, policy_pair_;  // the net reads two successive observations
  int64_t width_;                   // of an encoded observation
  Matrix obs_, next_obs_, policy_obs_;
  Matrix action_;  // of the policy's rows, for a head without bins
  Activations scalar_, policy_;
  Buffer arrays_;  // kArrays of [scalar_rows], then each thread's gradients and weight
  Head head_;
  std::vector<std::unique_ptr<ThreadSlot>> slot_;          // one per thread
  std::vector<std::unique_ptr<Activations>> chunk_;        // one per thread, for `forward_only`
  std::vector<std::unique_ptr<PairEmbedding>> embedding_;  // one per thread
};

}  // namespace
}  // namespace FASTIFO_ISA
}  // namespace fastifo

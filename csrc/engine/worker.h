// The update of a member that has a policy, a value or both: every method but IQL.
#pragma once

#include <string_view>

#include "engine/head.h"
#include "engine/trace.h"
#include "methods/batch.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

constexpr int64_t kTargetChunk = 256;  // rows at once: two layers of 512 stay in the second level
constexpr int kMaxMetrics = 16;

// Numbers that the largest operand of any product has, in as many parts.
int64_t largest_operand(const Plan& plan, int64_t rows) {
  int64_t widest = kBlock;
  for (const NetPlan* net : {&plan.policy, &plan.scalar}) {
    for (int64_t width : net->widths) widest = std::max(widest, padded(width));
  }
  return widest * std::max(rows, kTargetChunk);
}

template <typename Method>
constexpr int place_of(const char* name) {
  for (int i = 0; i < static_cast<int>(std::size(Method::kMetrics)); ++i) {
    if (std::string_view(Method::kMetrics[i]) == name) return i;
  }
  return -1;
}

// The memory of one update, and the update, which all lanes call at the same time.
template <typename Method, int kParts>
class Worker {
 public:
  Worker(const Plan& plan, HalfKernel kernel, int lanes)
      : plan_(plan),
        kernel_(kernel),
        sources_(static_cast<int64_t>(plan.sources.size())),
        stride_(padded(plan.batch)),
        rows_(sources_ * stride_),
        next_shift_(plan.next_from < 0 ? 0 : rows_ - plan.next_from * stride_),
        scalar_rows_(rows_ + next_shift_),
        policy_rows_(plan.policy_sources * stride_),
        lanes_(lanes, {scalar_rows_, plan.scalar.size}, {policy_rows_, plan.policy.size}),
        scalar_pair_(plan.flag("scalar_pair")),
        policy_pair_(plan.flag("policy_pair")),
        width_(plan.obs_dim * std::max<int64_t>(1, static_cast<int64_t>(plan.scale.size()))),
        obs_((scalar_pair_ || policy_pair_ ? 2 : 1) * width_, scalar_rows_),
        next_obs_(width_, rows_),
        own_obs_(width_, scalar_pair_ ? policy_rows_ : kBlock),
        scalar_(plan.scalar.widths, scalar_rows_, lanes_.scalar(0).size),
        policy_(plan.policy.widths, policy_rows_, lanes_.policy(0).size),
        flat_((kArrays + lanes * 2) * scalar_rows_),
        head_(plan, policy_rows_) {
    for (int i = 0; i < lanes; ++i) {
      lane_.push_back(std::make_unique<Lane>(plan, largest_operand(plan, scalar_rows_)));
      ahead_.push_back(std::make_unique<Trace>(plan.scalar.widths, kTargetChunk, 1));
    }
  }

  // The update after `update` updates of one member.
  void update(int place, int64_t member, int64_t update, double* metrics, double* seconds) {
    Lane& lane = *lane_[static_cast<size_t>(place)];
    Clock& clock = lane.clock;
    clock.start(seconds + (member * kMaxLanes + place) * kPartCount);
    const Group all = lanes_.all(place), values = lanes_.scalar(place), acts = lanes_.policy(place);
    const Net<kParts> scalar(plan_.scalar, kernel_, member), policy(plan_.policy, kernel_, member);
    const Method method(plan_, member);
    const bool has_values = scalar.depth() > 0 && values.works();
    const bool has_acts = policy.depth() > 0 && acts.works();

    // Batch.
    for (int64_t s = 0; s < sources_; ++s) {
      const Range rows = all.share(rows_).within(s * stride_, stride_);
      if (rows.count() > 0) sample(lane.sampler, s, member, update, rows);
    }
    if (all.leads() && plan_.mix_purpose >= 0) {
      lane.sampler.uniform(member, update, array(kUniform));
    }
    clock.lap(kSampling);
    all.meet(clock);

    // Forward.
    const Panels obs = obs_;
    const Panels own_obs =
        scalar_pair_ ? own_obs_.all() : obs.part(rows_ - policy_rows_, policy_rows_);
    if (has_values) {
      const Range rows = values.share(scalar_rows_);
      forward(scalar, false, obs, scalar_, rows, lane.scratch);
      take_row(scalar_.output(scalar.depth() - 1), rows, array(kOutput));
      if (plan_.flag("own_next_value")) {
        const Range own = values.share(policy_rows_);
        look_ahead(place, scalar, false, rows_ - policy_rows_, own, array(kOwnNext));
      }
      clock.lap(kScalar);
    }
    if (scalar.depth() > 0 && plan_.scalar.target != nullptr) {
      look_ahead(place, scalar, true, 0, all.share(rows_), array(kNext));
      clock.lap(kTarget);
    }
    if (has_acts) {
      forward(policy, false, own_obs, policy_, acts.share(policy_rows_), lane.scratch);
      clock.lap(kPolicy);
    }
    all.meet(clock);

    // Loss: each lane judges for itself, which costs less than to wait.
    Real* const gradient = flat_.data() + (kArrays + 2 * place) * scalar_rows_;
    Real* const weight = gradient + scalar_rows_;
    std::fill_n(weight, policy_rows_, Real(1));
    double found[kMaxMetrics] = {};
    method.judge(Alone(), seen(),
                 {gradient, next_shift_ > 0 ? gradient + next_shift_ : nullptr, weight, found});
    if (has_acts) {
      head_.judge(lane.tile, member, policy_.output(policy.depth() - 1), acts.share(policy_rows_),
                  stride_, weight);
    }
    clock.lap(kHead);

    // Backward and Adam.
    const auto factors = [&](const char* rate, const char* decay) {
      return adam_factors<Real>(update, plan_.number(rate, member), plan_.number(decay, member),
                                1.0, plan_.flag("decoupled_weight_decay"), kBeta1, kBeta2, kEps);
    };
    if (has_values) {
      put_row(gradient, values.share(scalar_rows_), plan_.batch, stride_,
              scalar_.output(scalar.depth() - 1));
      descend(scalar, obs, scalar_, factors("scalar_rate", "scalar_decay"), values, lane.scratch,
              clock);
      if (plan_.scalar.target != nullptr && (update + 1) % plan_.target_period == 0) {
        values.meet(clock);
        if (values.leads()) scalar.renew_target();
      }
    }
    if (has_acts) {
      descend(policy, own_obs, policy_, factors("policy_rate", "policy_decay"), acts, lane.scratch,
              clock);
    }
    all.meet(clock);
    if (all.leads()) {
      constexpr int kPolicyLoss =
          std::max(place_of<Method>("policy_loss"), place_of<Method>("inverse_loss"));
      for (int i = 0; i < static_cast<int>(std::size(Method::kMetrics)); ++i) {
        metrics[i] += i == kPolicyLoss ? head_.loss() : found[i];
      }
    }
  }

 private:
  enum Array { kOutput, kNext, kOwnNext, kReward, kTerminal, kUniform, kArrays };

  Real* array(Array which) const { return flat_.data() + which * scalar_rows_; }

  void sample(Sampler& sampler, int64_t s, int64_t member, int64_t update, const Range& rows) {
    const SourcePlan& source = plan_.sources[static_cast<size_t>(s)];
    const int64_t at = s * stride_, own = at - (rows_ - policy_rows_);  // among the policy's rows
    const bool acts = own >= 0 && !plan_.policy.widths.empty();
    BatchSlot slot{{},
                   array(kTerminal) + at,
                   source.reward == nullptr ? nullptr : array(kReward) + at,
                   acts ? head_.bins() + own * plan_.action_dim : nullptr,
                   {}};
    const Panels here = obs_.all().part(at, stride_);
    slot.to[0][0] = here;
    if (next_shift_ > 0 && s >= plan_.next_from) {
      const Panels next = obs_.all().part(at + next_shift_, stride_);
      slot.to[1][0] = next;
      if (scalar_pair_) {
        slot.to[1][1] = here.below(width_);
        slot.to[2][0] = next.below(width_);
        if (acts) slot.to[0][1] = own_obs_.all().part(own, stride_);
      }
    } else if (policy_pair_) {
      slot.to[1][0] = here.below(width_);
    } else if (plan_.scalar.target != nullptr) {
      slot.to[1][0] = next_obs_.all().part(at, stride_);
    }
    sampler.draw(source, member, update, rows, slot);
  }

  // The scalar net on the next observations of some rows, counted from `from`.
  void look_ahead(int place, const Net<kParts>& net, bool target, int64_t from, const Range& rows,
                  Real* out) {
    for (int64_t done = rows.first; done < rows.last; done += kTargetChunk) {
      const Range chunk{0, std::min(kTargetChunk, rows.last - done)};
      const Trace& trace = *ahead_[static_cast<size_t>(place)];
      forward(net, target, next_obs_.all().part(from + done, chunk.count()), trace, chunk,
              lane_[static_cast<size_t>(place)]->scratch);
      take_row(trace.output(net.depth() - 1), chunk, out + done);
    }
  }

  Seen<Real> seen() const {
    const bool rewarded = plan_.sources.back().reward != nullptr;
    return {sources_,
            plan_.batch,
            stride_,
            array(kOutput),
            next_shift_ > 0 ? array(kOutput) + next_shift_ : array(kNext),
            plan_.flag("own_next_value") ? array(kOwnNext) : nullptr,
            rewarded ? array(kReward) : nullptr,
            array(kTerminal),
            plan_.mix_purpose >= 0 ? array(kUniform) : nullptr};
  }

  const Plan& plan_;
  HalfKernel kernel_;
  int64_t sources_, stride_, rows_;
  int64_t next_shift_;  // from a row to its next among the scalar net's rows; 0: it is not there
  int64_t scalar_rows_, policy_rows_;
  Lanes lanes_;
  bool scalar_pair_, policy_pair_;
  int64_t width_;
  Matrix obs_, next_obs_, own_obs_;
  Trace scalar_, policy_;
  Buffer flat_;  // kArrays of [scalar_rows], then each lane's gradient and weight
  Head head_;
  std::vector<std::unique_ptr<Lane>> lane_;
  std::vector<std::unique_ptr<Trace>> ahead_;  // of each lane
};

}  // namespace
}  // namespace FASTIFO_ISA
}  // namespace fastifo

// The update of one member, and the threads that make many.
#include "engine/train.h"

#include <string_view>

#include "engine/actor_critic.h"
#include "engine/head.h"
#include "engine/trace.h"
#include "methods/awr.h"
#include "methods/bc.h"
#include "methods/dilo.h"
#include "methods/discriminator.h"
#include "methods/inverse.h"
#include "methods/iql.h"
#include "methods/smodice.h"
#include "methods/sqil.h"
#include "methods/vfo.h"

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
        lanes_(lanes, !plan.policy.widths.empty() && !plan.scalar.widths.empty()),
        sources_(static_cast<int64_t>(plan.sources.size())),
        stride_(padded(plan.batch)),
        rows_(sources_ * stride_),
        next_shift_(plan.next_from < 0 ? 0 : rows_ - plan.next_from * stride_),
        scalar_rows_(rows_ + next_shift_),
        policy_rows_(plan.policy_sources * stride_),
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
  Lanes lanes_;
  int64_t sources_, stride_, rows_;
  int64_t next_shift_;  // from a row to its next among the scalar net's rows; 0: it is not there
  int64_t scalar_rows_, policy_rows_;
  bool scalar_pair_, policy_pair_;
  int64_t width_;
  Matrix obs_, next_obs_, own_obs_;
  Trace scalar_, policy_;
  Buffer flat_;  // kArrays of [scalar_rows], then each lane's gradient and weight
  Head head_;
  std::vector<std::unique_ptr<Lane>> lane_;
  std::vector<std::unique_ptr<Trace>> ahead_;  // of each lane
};

template <typename Method, int kParts>
struct WorkerOf {
  using type = Worker<Method, kParts>;
};
template <int kParts>
struct WorkerOf<IQL<Real>, kParts> {
  using type = ActorCritic<kParts>;
};

// A thread's registers while it works: subnormal numbers are slow and never matter here, and the
// matrix unit has to know its tiles.
class Processor {
 public:
#if defined(FASTIFO_X86)
  explicit Processor(const std::string& kernel)
      : before_(_mm_getcsr()), tiles_(kernel == "matrix") {
    _mm_setcsr(before_ | 0x8040u);
#if defined(FASTIFO_MATRIX_UNIT)
    if (tiles_) configure_matrix_unit();
#endif
  }
  ~Processor() {
    _mm_setcsr(before_);
#if defined(FASTIFO_MATRIX_UNIT)
    if (tiles_) release_matrix_unit();
#endif
  }
  Processor(const Processor&) = delete;
  Processor& operator=(const Processor&) = delete;

 private:
  unsigned before_;
  [[maybe_unused]] bool tiles_;
#else
  explicit Processor(const std::string&) {}
#endif
};

HalfKernel half_kernel(const std::string& name) {
#if defined(FASTIFO_MATRIX_UNIT)
  if (name == "matrix") return half_product_matrix;
  if (name == "dot") return half_product_dot;
#endif
  if (!name.empty() && name != "widened") {  // no stream here: see draw.cpp
    throw std::invalid_argument("kernel: not in this build");
  }
  return half_product_widened;
}

// Bursts of updates in the order (burst, member), each taken by the next free thread once the
// member's burst before it is done.
template <typename Method, int kParts>
void train(const Plan& plan, int64_t first, int64_t count, int64_t burst, int64_t threads,
           double* metrics, double* seconds) {
  using Making = typename WorkerOf<Method, kParts>::type;
  const HalfKernel kernel = half_kernel(plan.kernel);
  constexpr int64_t kMetricCount = static_cast<int64_t>(std::size(Method::kMetrics));
  const int lanes = static_cast<int>(std::clamp<int64_t>(threads / plan.members, 1, kMaxLanes));
  const int64_t teams = std::clamp<int64_t>(threads / lanes, 1, plan.members);
  const int64_t bursts = (count + burst - 1) / burst, units = bursts * plan.members;

  for (int64_t member = 0; plan.repacks && member < plan.members; ++member) {
    Net<kParts>(plan.policy, kernel, member).repack(false);
    Net<kParts>(plan.scalar, kernel, member).repack(plan.scalar.target != nullptr);
  }
  struct Done {
    std::atomic<int64_t> bursts{0};
  };
  const std::unique_ptr<Done[]> done(new Done[static_cast<size_t>(plan.members)]);
  std::atomic<int64_t> next{0};
  const auto run = [&](Making& worker, int lane, int64_t unit) {
    const int64_t member = unit % plan.members, begin = unit / plan.members * burst;
    for (int64_t i = begin; i < std::min(begin + burst, count); ++i) {
      worker.update(lane, member, first + i, metrics + member * kMetricCount, seconds);
    }
  };
  const auto work_alone = [&] {
    const Processor processor(plan.kernel);
    Making worker(plan, kernel, 1);
    for (int64_t unit = next++; unit < units; unit = next++) {
      std::atomic<int64_t>& mine = done[static_cast<size_t>(unit % plan.members)].bursts;
      int64_t turns = 0;
      while (mine.load(std::memory_order_acquire) < unit / plan.members) relax(turns);
      run(worker, 0, unit);
      mine.store(unit / plan.members + 1, std::memory_order_release);
    }
  };
  // With many lanes every member has a team of its own.
  const auto work_together = [&](Making& worker, int lane, int64_t team) {
    const Processor processor(plan.kernel);
    for (int64_t unit = team; unit < units; unit += plan.members) run(worker, lane, unit);
  };

  std::vector<std::unique_ptr<Making>> shared;
  for (int64_t i = 0; lanes > 1 && i < teams; ++i) {
    shared.push_back(std::make_unique<Making>(plan, kernel, lanes));
  }
  const auto work = [&](int64_t thread) {
    if (lanes == 1) {
      work_alone();
    } else {
      const int64_t team = thread / lanes;
      work_together(*shared[static_cast<size_t>(team)], static_cast<int>(thread % lanes), team);
    }
  };
  const int64_t helpers = teams * lanes - 1;
  const std::unique_ptr<std::thread[]> helper(new std::thread[static_cast<size_t>(helpers)]);
  for (int64_t i = 0; i < helpers; ++i) {
    helper[static_cast<size_t>(i)] = std::thread(work, i + 1);
  }
  work(0);
  for (int64_t i = 0; i < helpers; ++i) helper[static_cast<size_t>(i)].join();
}

// In the plan's precision.
template <typename Method>
void train_in(const Plan& plan, int64_t first, int64_t count, int64_t burst, int64_t threads,
              double* metrics, double* seconds) {
  if constexpr (sizeof(Real) == sizeof(float)) {
    if (plan.precision == "bf16") {
      return train<Method, 1>(plan, first, count, burst, threads, metrics, seconds);
    }
    if (plan.precision == "fp32x") {
      return train<Method, 2>(plan, first, count, burst, threads, metrics, seconds);
    }
  }
  train<Method, 0>(plan, first, count, burst, threads, metrics, seconds);
}

}  // namespace

void train_cpu(const Plan& plan, int64_t first, int64_t count, int64_t burst, int64_t threads,
               double* metrics, double* seconds) {
  switch (method_kind(plan.method)) {
    case MethodKind::kBC:
      return train_in<BC<Real>>(plan, first, count, burst, threads, metrics, seconds);
    case MethodKind::kAWR:
      return train_in<AWR<Real>>(plan, first, count, burst, threads, metrics, seconds);
    case MethodKind::kVfO:
      return train_in<VfO<Real>>(plan, first, count, burst, threads, metrics, seconds);
    case MethodKind::kDiscriminator:
      return train_in<Discriminator<Real>>(plan, first, count, burst, threads, metrics, seconds);
    case MethodKind::kInverse:
      return train_in<Inverse<Real>>(plan, first, count, burst, threads, metrics, seconds);
    case MethodKind::kSQIL:
      return train_in<SQIL<Real>>(plan, first, count, burst, threads, metrics, seconds);
    case MethodKind::kSMODICE:
      return train_in<SMODICE<Real>>(plan, first, count, burst, threads, metrics, seconds);
    case MethodKind::kDILO:
      return train_in<DILO<Real>>(plan, first, count, burst, threads, metrics, seconds);
    case MethodKind::kIQL:  // its targets move in every update, which the packs do not follow
      if (plan.precision != "fp32" && plan.precision != "fp64") {
        throw std::invalid_argument("precision: expected fp32 for iql");
      }
      return train<IQL<Real>, 0>(plan, first, count, burst, threads, metrics, seconds);
  }
}

std::vector<std::string> half_kernels() {
  std::vector<std::string> found;
#if defined(FASTIFO_MATRIX_UNIT)
  if (has_matrix_unit()) found.emplace_back("matrix");
  if (has_half_dot()) found.emplace_back("dot");
#endif
  found.emplace_back("widened");
  return found;
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

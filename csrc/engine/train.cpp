// Distributes the updates of all members over threads.
#include "engine/train.h"

#include <new>
#include <stdexcept>

#include "engine/actor_critic.h"
#include "engine/member_update.h"
#include "engine/penalty.h"
#include "engine/rebrac.h"
#include "losses/list.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

// Whether the loss trains critics of actions.
template <typename Loss>
constexpr bool kHasCritics = requires { Loss::kHasCritics; };

// The class that updates a member.
template <typename Loss, int kParts>
struct UpdaterOf {
  using type = MemberUpdate<Loss, kParts>;
};
template <int kParts>
struct UpdaterOf<IQL<Real>, kParts> {
  using type = ActorCritic<kParts>;
};
template <int kParts>
struct UpdaterOf<ReBRAC<Real>, kParts> {
  using type = ReBRACUpdate<kParts>;
};

// Sets up the calling thread's processor state and restores it: subnormal numbers count as 0,
// because they are slow and never matter here, and AMX gets its tile shape.
class ProcessorState {
 public:
#if defined(FASTIFO_X86)
  explicit ProcessorState(const std::string& kernel)
      : saved_(_mm_getcsr()), uses_amx_(kernel == "amx") {
    constexpr unsigned kFlushToZero = 0x8000u, kDenormalsAreZero = 0x0040u;
    _mm_setcsr(saved_ | kFlushToZero | kDenormalsAreZero);
#if defined(FASTIFO_BF16_UNITS)
    if (uses_amx_) configure_amx();
#endif
  }
  ~ProcessorState() {
    _mm_setcsr(saved_);
#if defined(FASTIFO_BF16_UNITS)
    if (uses_amx_) release_amx();
#endif
  }
  ProcessorState(const ProcessorState&) = delete;
  ProcessorState& operator=(const ProcessorState&) = delete;

 private:
  unsigned saved_;
  [[maybe_unused]] bool uses_amx_;
#else
  explicit ProcessorState(const std::string&) {}
#endif
};

Bf16Kernel bf16_kernel(const std::string& name) {
#if defined(FASTIFO_BF16_UNITS)
  if (name == "amx") return kAmxKernel;
  if (name == "avx512bf16") return bf16_tile_avx512bf16;
#endif
  if (!name.empty() && name != "emulated") {  // no stream for the message, see ops/draw.cpp
    throw std::invalid_argument("kernel: expected one that this build has, found " + name);
  }
  return bf16_tile_emulated;
}

// Updates [first, first + count) of every member, in bursts. A unit of work is one burst of one
// member; units are numbered burst by burst, so that members advance together.
template <typename Method, int kParts, typename Updater>
class Training {
 public:
  Training(const Plan& plan, int64_t first, int64_t count, int64_t burst, int64_t threads,
           double* metrics, double* seconds)
      : plan_(plan),
        kernel_(bf16_kernel(plan.kernel)),
        first_(first),
        count_(count),
        burst_(burst),
        units_((count + burst - 1) / burst * plan.members),
        team_size_(
            static_cast<int>(std::clamp<int64_t>(threads / plan.members, 1, kMaxMemberThreads))),
        teams_(std::clamp<int64_t>(threads / team_size_, 1, plan.members)),
        metrics_(metrics),
        seconds_(seconds),
        done_(new Done[static_cast<size_t>(plan.members)]) {
    for (int64_t member = 0; plan.repacks && member < plan.members; ++member) {
      Mlp<kParts>(plan.policy, kernel_, member).repack(false);
      Mlp<kParts>(plan.scalar, kernel_, member).repack(plan.scalar.target != nullptr);
      Mlp<kParts>(plan.embedding, kernel_, member).repack(false);
    }
    for (int64_t i = 0; team_size_ > 1 && i < teams_; ++i) {
      team_updater_.push_back(std::make_unique<Updater>(plan, kernel_, team_size_));
    }
  }

  // Helper threads wait until it is known how many the system granted: a team must be complete,
  // whereas threads that work alone may be fewer than planned.
  void run() {
    std::atomic<Start> start{Start::kUndecided};
    HelperThreads helpers(teams_ * team_size_ - 1);
    const bool complete = helpers.start([&](int64_t thread) {
      int64_t spins = 0;
      while (start.load(std::memory_order_acquire) == Start::kUndecided) relax(spins);
      if (start.load(std::memory_order_acquire) == Start::kCancelled) return;
      try {
        work(thread);
      } catch (const std::bad_alloc&) {  // before it took a unit, so the others do its share
      }
    });
    const bool runs = complete || team_size_ == 1;
    start.store(runs ? Start::kGranted : Start::kCancelled, std::memory_order_release);
    if (!runs) {
      throw std::runtime_error(
          "threads: the system refused to start as many as requested; lower OMP_NUM_THREADS");
    }
    work(0);
  }

 private:
  static constexpr int64_t kMetricCount = static_cast<int64_t>(std::size(Method::kMetrics));
  enum class Start { kUndecided, kGranted, kCancelled };
  struct Done {
    std::atomic<int64_t> bursts{0};
  };

  void work(int64_t thread) {
    const ProcessorState state(plan_.kernel);
    if (team_size_ == 1) {
      work_alone();
    } else {
      work_in_team(static_cast<int>(thread % team_size_), thread / team_size_);
    }
  }

  // Takes one unit after another. Waits until the member's previous burst is done.
  void work_alone() {
    Updater updater(plan_, kernel_, 1);
    for (int64_t unit = next_unit_++; unit < units_; unit = next_unit_++) {
      std::atomic<int64_t>& done = done_[static_cast<size_t>(unit % plan_.members)].bursts;
      int64_t spins = 0;
      while (done.load(std::memory_order_acquire) < unit / plan_.members) relax(spins);
      run_unit(updater, 0, unit);
      done.store(unit / plan_.members + 1, std::memory_order_release);
    }
  }

  // One team per member: team `team` trains the member of that index.
  void work_in_team(int thread, int64_t team) {
    Updater& updater = *team_updater_[static_cast<size_t>(team)];
    for (int64_t unit = team; unit < units_; unit += plan_.members) {
      run_unit(updater, thread, unit);
    }
  }

  void run_unit(Updater& updater, int thread, int64_t unit) {
    const int64_t member = unit % plan_.members, begin = unit / plan_.members * burst_;
    for (int64_t i = begin; i < std::min(begin + burst_, count_); ++i) {
      updater.update(thread, member, first_ + i, metrics_ + member * kMetricCount, seconds_);
    }
  }

  const Plan& plan_;
  Bf16Kernel kernel_;
  int64_t first_, count_, burst_, units_;
  int team_size_;  // threads per member
  int64_t teams_;
  double *metrics_, *seconds_;
  std::unique_ptr<Done[]> done_;  // [members]
  std::atomic<int64_t> next_unit_{0};
  std::vector<std::unique_ptr<Updater>> team_updater_;  // [teams_], or empty without teams
};

template <typename Method, int kParts>
void train(const Plan& plan, int64_t first, int64_t count, int64_t burst, int64_t threads,
           double* metrics, double* seconds) {
  if constexpr (std::is_same_v<Method, Discriminator<Real>>) {
    if (plan.mix_purpose >= 0) {  // it draws uniform numbers for its gradient penalty
      using Training = Training<Method, kParts, PenaltyUpdate<kParts>>;
      return Training(plan, first, count, burst, threads, metrics, seconds).run();
    }
  }
  using Updater = typename UpdaterOf<Method, kParts>::type;
  Training<Method, kParts, Updater>(plan, first, count, burst, threads, metrics, seconds).run();
}

// Trains in the plan's precision.
template <typename Method>
void train_in(const Plan& plan, int64_t first, int64_t count, int64_t burst, int64_t threads,
              double* metrics, double* seconds) {
  if constexpr (kHasCritics<Method>) {  // targets move at every update, and their packs would not
    if (plan.precision != "fp32" && plan.precision != "fp64") {
      throw std::invalid_argument("precision: expected fp32 or fp64 for this method, found " +
                                  plan.precision);
    }
  } else if constexpr (sizeof(Real) == sizeof(float)) {
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
  const bool known = visit_loss(Losses<Real>(), plan.method.c_str(), [&]<typename Loss>() {
    train_in<Loss>(plan, first, count, burst, threads, metrics, seconds);
  });
  if (!known) refuse_method(plan.method);
}

std::vector<std::string> bf16_kernels() {
  std::vector<std::string> names;
#if defined(FASTIFO_BF16_UNITS)
  if (has_amx()) names.emplace_back("amx");
  if (has_avx512bf16()) names.emplace_back("avx512bf16");
#endif
  names.emplace_back("emulated");
  return names;
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

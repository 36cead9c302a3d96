// The threads that make the updates of many members.
#include "engine/train.h"

#include <new>
#include <stdexcept>

#include "engine/actor_critic.h"
#include "engine/worker.h"
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

// Threads beside the caller's, joined at the end whatever happens.
class Helpers {
 public:
  explicit Helpers(int64_t count)
      : count_(count), threads_(new std::thread[static_cast<size_t>(count)]) {}
  ~Helpers() {
    for (int64_t i = 0; i < started_; ++i) threads_[static_cast<size_t>(i)].join();
  }
  Helpers(const Helpers&) = delete;
  Helpers& operator=(const Helpers&) = delete;

  // Each calls work(1), work(2), ...; false where the system refused one.
  template <typename Work>
  bool start(const Work& work) {
    try {
      for (; started_ < count_; ++started_) {
        threads_[static_cast<size_t>(started_)] = std::thread(work, started_ + 1);
      }
    } catch (const std::exception&) {  // no thread, or no memory for one
      return false;
    }
    return true;
  }

 private:
  int64_t count_, started_ = 0;
  std::unique_ptr<std::thread[]> threads_;
};

enum class Start { kLater, kNow, kNever };

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
  // Helpers begin once it is known how many could be started. With a lane each, fewer do as well.
  std::atomic<Start> start{Start::kLater};
  Helpers helpers(teams * lanes - 1);
  const bool all = helpers.start([&](int64_t thread) {
    int64_t turns = 0;
    while (start.load(std::memory_order_acquire) == Start::kLater) relax(turns);
    if (start.load(std::memory_order_acquire) == Start::kNever) return;
    try {
      work(thread);
    } catch (const std::bad_alloc&) {  // before it took anything: the others do its share
    }
  });
  start.store(all || lanes == 1 ? Start::kNow : Start::kNever, std::memory_order_release);
  if (!all && lanes > 1) {
    throw std::runtime_error(
        "the system refuses as many threads as were asked for; lower OMP_NUM_THREADS");
  }
  work(0);
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

// The threads that share one member: synchronisation, division of the work, memory of each thread.
#pragma once

#include <atomic>
#include <chrono>
#include <limits>
#include <memory>
#include <thread>

#include "engine/mlp.h"
#include "engine/sample.h"
#include "engine/train.h"

#if defined(FASTIFO_X86)
#include <xmmintrin.h>
#endif
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

constexpr int64_t kSpins = 4000;  // checks before a waiting thread gives up its core: near 100 us

inline void pause() {
#if defined(FASTIFO_X86)
  _mm_pause();
#endif
}

// One iteration of a wait loop: spins at first, then yields.
inline void relax(int64_t& spins) {
  if (++spins > kSpins) {
    std::this_thread::yield();
  } else {
    pause();
  }
}

// A barrier whose threads spin for a while and then sleep, so that on a busy machine the late
// thread gets the core. The word that waiting threads poll has a separate cache line.
class alignas(64) Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}

  void wait() {
    if (threads_ == 1) return;
    const int round = round_.load();
    if (arrived_.fetch_add(1) + 1 == threads_) {
      arrived_.store(0);
      round_.store(round + 1);
      if (asleep_.load() > 0) wake();
      return;
    }
    for (int64_t spin = 0; spin < kSpins; ++spin) {
      if (round_.load() != round) return;
      pause();
    }
    ++asleep_;
    while (round_.load() == round) sleep(round);
    --asleep_;
  }

 private:
#if defined(__linux__)
  // Not std::atomic::wait, which is inline library code: see `Buffer`.
  void sleep(int round) { syscall(SYS_futex, &round_, FUTEX_WAIT_PRIVATE, round, nullptr); }
  void wake() { syscall(SYS_futex, &round_, FUTEX_WAKE_PRIVATE, std::numeric_limits<int>::max()); }
#else
  void sleep(int) { std::this_thread::yield(); }
  void wake() {}
#endif

  int threads_;
  std::atomic<int> arrived_{0}, asleep_{0};
  alignas(64) std::atomic<int> round_{0};
};

// Measures the seconds spent in each part of an update.
class Clock {
 public:
  void start(double* seconds) {
    seconds_ = seconds;
    last_ = now();
  }
  void lap(Part part) {
    const double time = now();
    seconds_[part] += time - last_;
    last_ = time;
  }

 private:
  static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  double* seconds_ = nullptr;
  double last_ = 0.0;
};

// A group of a member's threads that shares one net, as seen by one of them. Forward and backward
// divide the net's columns (rows of the batch), Adam divides its outputs, so every sum adds its
// terms in the order that a single thread would use.
struct ThreadGroup {
  int index;  // of this thread in the group; negative if it is not a member
  int size;
  Barrier* barrier;

  bool is_active() const { return index >= 0; }
  bool is_leader() const { return index == 0; }

  // This thread's part of `count` columns or outputs, in complete blocks.
  Range share(int64_t count) const {
    const int64_t blocks = count / kBlock;
    return {blocks * index / size * kBlock, blocks * (index + 1) / size * kBlock};
  }

  void wait(Clock& clock) const {
    barrier->wait();
    clock.lap(kWaiting);
  }
};

// An estimate of what a net costs: `weights` for each block of rows. A block is never divided.
struct NetCost {
  int64_t rows, weights;

  int64_t on(int threads) const { return (rows / kBlock + threads - 1) / threads * weights; }
};

// Assigns a member's threads to its two nets. A thread that works on one net only keeps its weights
// in its core's caches, so both nets share all threads only where that finishes sooner.
class MemberThreads {
 public:
  MemberThreads(int count, const NetCost& scalar, const NetCost& policy)
      : count_(count),
        scalar_(scalar_threads(count, scalar, policy)),
        policy_(scalar_ == count ? count : count - scalar_),
        all_barrier_(count),
        scalar_barrier_(scalar_),
        policy_barrier_(policy_) {}

  ThreadGroup all(int thread) { return {thread, count_, &all_barrier_}; }
  ThreadGroup scalar(int thread) {
    return {thread < scalar_ ? thread : -1, scalar_, &scalar_barrier_};
  }
  ThreadGroup policy(int thread) {
    return {thread - (count_ - policy_), policy_, &policy_barrier_};
  }

 private:
  // How much slower sharing is; decides between equal nets.
  static constexpr double kSharing = 1.05;

  // How many threads work on the scalar net only; all of them if both nets share all threads.
  static int scalar_threads(int count, const NetCost& scalar, const NetCost& policy) {
    int result = count;
    double best = kSharing * static_cast<double>(scalar.on(count) + policy.on(count));
    for (int threads = 1; threads < count && scalar.weights > 0 && policy.weights > 0; ++threads) {
      const auto time =
          static_cast<double>(std::max(scalar.on(threads), policy.on(count - threads)));
      if (time < best) {
        best = time;
        result = threads;
      }
    }
    return result;
  }

  int count_, scalar_, policy_;
  Barrier all_barrier_, scalar_barrier_, policy_barrier_;
};

// The memory that a thread does not share with others.
struct ThreadSlot {
  ThreadSlot(const Plan& plan, int64_t widest_operand)
      : scratch(widest_operand),
        sampler(plan),
        tile(std::max<int64_t>(1, plan.bins), plan.radius) {}

  Scratch scratch;
  Sampler sampler;
  Tile<Real> tile;
  Clock clock;
};

// Threads in addition to the caller's, joined by the destructor, also after an exception.
class HelperThreads {
 public:
  explicit HelperThreads(int64_t count)
      : count_(count), threads_(new std::thread[static_cast<size_t>(count)]) {}
  ~HelperThreads() {
    for (int64_t i = 0; i < started_; ++i) threads_[static_cast<size_t>(i)].join();
  }
  HelperThreads(const HelperThreads&) = delete;
  HelperThreads& operator=(const HelperThreads&) = delete;

  // Starts threads that call work(1), work(2), ...; returns false if the system refused one.
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

}  // namespace
}  // namespace FASTIFO_ISA
}  // namespace fastifo

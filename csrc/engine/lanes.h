// The threads that share a member: where they wait for each other, what each takes, its memory and
// the time it spends.
#pragma once

#include <atomic>
#include <chrono>
#include <limits>
#include <memory>
#include <thread>

#include "engine/net.h"
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

// The team of a method's `judge`: one thread.
struct Alone {
  template <typename Body>
  void each(int64_t count, const Body& body) const {
    for (int64_t i = 0; i < count; ++i) body(i);
  }
  template <typename Term>
  double sum(int64_t count, const Term& term) const {
    double total = 0.0;
    for (int64_t i = 0; i < count; ++i) total += static_cast<double>(term(i));
    return total;
  }
  template <typename Term>
  double max(int64_t count, const Term& term) const {
    double largest = -std::numeric_limits<double>::infinity();
    for (int64_t i = 0; i < count; ++i) {
      const double value = term(i);
      largest = value > largest ? value : largest;
    }
    return largest;
  }
};

constexpr int64_t kTurns = 4000;  // of looking whether a wait is over, near 100 us

inline void pause() {
#if defined(FASTIFO_X86)
  _mm_pause();
#endif
}

inline void relax(int64_t& turns) {
  if (++turns > kTurns) {
    std::this_thread::yield();
  } else {
    pause();
  }
}

// Where lanes wait for each other: awake for a while, then asleep, so that on a busy machine the
// lane that is waited for gets the core.
class alignas(64) Meeting {  // and what waiting lanes look at on a cache line of its own
 public:
  explicit Meeting(int lanes) : lanes_(lanes) {}

  void wait() {
    if (lanes_ == 1) return;
    const int round = round_.load();
    if (arrived_.fetch_add(1) + 1 == lanes_) {
      arrived_.store(0);
      round_.store(round + 1);
      if (asleep_.load() > 0) wake();
      return;
    }
    for (int64_t turn = 0; turn < kTurns; ++turn) {
      if (round_.load() != round) return;
      pause();
    }
    ++asleep_;
    while (round_.load() == round) sleep(round);
    --asleep_;
  }

 private:
#if defined(__linux__)
  // std::atomic's own waiting is code of the standard library, which see `Buffer`.
  void sleep(int round) { syscall(SYS_futex, &round_, FUTEX_WAIT_PRIVATE, round, nullptr); }
  void wake() { syscall(SYS_futex, &round_, FUTEX_WAKE_PRIVATE, std::numeric_limits<int>::max()); }
#else
  void sleep(int) { std::this_thread::yield(); }
  void wake() {}
#endif

  int lanes_;
  std::atomic<int> arrived_{0}, asleep_{0};
  alignas(64) std::atomic<int> round_{0};
};

// Seconds spent in each part of an update.
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

// Some of a member's lanes, as one of them sees it. They share a net: its columns on the way
// forward and back, its outputs when the weights move, so that no number's terms are added in
// another order than one lane would take.
struct Group {
  int place;  // of this lane; below 0: it is not among them
  int size;
  Meeting* meeting;

  bool works() const { return place >= 0; }
  bool leads() const { return place == 0; }

  // Of `count` columns or outputs, in whole blocks.
  Range share(int64_t count) const {
    const int64_t blocks = count / kBlock;
    return {blocks * place / size * kBlock, blocks * (place + 1) / size * kBlock};
  }

  void meet(Clock& clock) const {
    meeting->wait();
    clock.lap(kWaiting);
  }
};

// What a net's rows cost: blocks of them, none of which two lanes take, at its weights' number
// each.
struct Work {
  int64_t rows, weights;

  int64_t by(int lanes) const { return (rows / kBlock + lanes - 1) / lanes * weights; }
};

// The lanes of a member: all of them, and those of its two nets. Lanes that have one net alone find
// its weights in their own caches, so the nets share all lanes only where that ends sooner.
class Lanes {
 public:
  Lanes(int count, const Work& scalar, const Work& policy)
      : count_(count),
        scalar_(apart(count, scalar, policy)),
        policy_(scalar_ == count ? count : count - scalar_),
        all_meet_(count),
        scalar_meet_(scalar_),
        policy_meet_(policy_) {}

  Group all(int lane) { return {lane, count_, &all_meet_}; }
  Group scalar(int lane) { return {lane < scalar_ ? lane : -1, scalar_, &scalar_meet_}; }
  Group policy(int lane) { return {lane - (count_ - policy_), policy_, &policy_meet_}; }

 private:
  static constexpr double kShared = 1.05;  // times as long in lanes that share; balanced nets tie

  // How many lanes take the scalar net and no other; all of them where the policy needs them too.
  static int apart(int count, const Work& scalar, const Work& policy) {
    int found = count;
    double best = kShared * static_cast<double>(scalar.by(count) + policy.by(count));
    for (int lanes = 1; lanes < count && scalar.weights > 0 && policy.weights > 0; ++lanes) {
      const auto time = static_cast<double>(std::max(scalar.by(lanes), policy.by(count - lanes)));
      if (time < best) {
        best = time;
        found = lanes;
      }
    }
    return found;
  }

  int count_, scalar_, policy_;
  Meeting all_meet_, scalar_meet_, policy_meet_;
};

// A lane's own memory, beside what a member's lanes share.
struct Lane {
  Lane(const Plan& plan, int64_t widest_operand)
      : scratch(widest_operand),
        sampler(plan),
        tile(std::max<int64_t>(1, plan.bins), plan.radius) {}

  Scratch scratch;
  Sampler sampler;
  Tile<Real> tile;
  Clock clock;
};

}  // namespace
}  // namespace FASTIFO_ISA
}  // namespace fastifo

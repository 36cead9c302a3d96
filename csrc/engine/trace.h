// What an update is made of: a member's lanes, the time they take, and nets forward and backward.
#pragma once

#include <atomic>
#include <chrono>
#include <cstring>
#include <limits>
#include <memory>
#include <thread>

#include "engine/net.h"
#include "engine/sample.h"
#include "engine/train.h"

#if defined(FASTIFO_X86)
#include <xmmintrin.h>
#endif

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEps = 1e-8;  // as fastifo/engine/optimizer.py

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

inline void relax(int64_t& turns) {
  if (++turns > 4000) {
    std::this_thread::yield();
    return;
  }
#if defined(FASTIFO_X86)
  _mm_pause();
#endif
}

// Where lanes wait for each other.
class Meeting {
 public:
  explicit Meeting(int lanes) : lanes_(lanes) {}

  void wait() {
    if (lanes_ == 1) return;
    const int64_t round = round_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == lanes_) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    int64_t turns = 0;
    while (round_.load(std::memory_order_acquire) == round) relax(turns);
  }

 private:
  int lanes_;
  std::atomic<int> arrived_{0};
  std::atomic<int64_t> round_{0};
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

// The lanes of a member: all of them, and for two nets a group each, as equal as can be.
class Lanes {
 public:
  Lanes(int count, bool two_nets)
      : count_(count),
        scalar_(two_nets && count > 1 ? (count + 1) / 2 : count),
        policy_(two_nets && count > 1 ? count / 2 : count),
        all_meet_(count),
        scalar_meet_(scalar_),
        policy_meet_(policy_) {}

  Group all(int lane) { return {lane, count_, &all_meet_}; }
  Group scalar(int lane) { return {lane < scalar_ ? lane : -1, scalar_, &scalar_meet_}; }
  Group policy(int lane) { return {lane - (count_ - policy_), policy_, &policy_meet_}; }

 private:
  int count_, scalar_, policy_;
  Meeting all_meet_, scalar_meet_, policy_meet_;
};

// The activations of one net, kept for the way back, and its workspace. Many lanes need the
// gradients of all layers at once, one is better off with two that stay in the caches.
class Trace {
 public:
  Trace(const std::vector<int64_t>& widths, int64_t columns, int lanes) {
    int64_t widest = kPanel;
    for (size_t i = 1; i < widths.size(); ++i) {
      layer_.push_back(std::make_unique<Matrix>(widths[i], columns));
      widest = std::max(widest, padded(widths[i]));
    }
    const size_t count = lanes == 1 ? std::min<size_t>(2, layer_.size()) : layer_.size();
    for (size_t i = 0; i < count; ++i) {
      gradient_.push_back(std::make_unique<Matrix>(widest, columns));
    }
  }

  Panels output(int layer) const { return *layer_[static_cast<size_t>(layer)]; }
  // Workspace for the gradient in layer `layer`'s input, of `rows` features.
  Panels gradient(int layer, int64_t rows) const {
    const Panels whole = *gradient_[static_cast<size_t>(layer) % gradient_.size()];
    return {whole.data, rows, whole.columns};
  }

 private:
  std::vector<std::unique_ptr<Matrix>> layer_, gradient_;
};

// All layers forward on some columns, of the net or its target; layer i's output lands in `trace`.
template <int kParts>
void forward(const Net<kParts>& net, bool target, const Panels& x, const Trace& trace,
             const Range& columns, Scratch& scratch) {
  for (int i = 0; i < net.depth(); ++i) {
    net.forward(i, target, (i == 0 ? x : trace.output(i - 1)).part(columns),
                trace.output(i).part(columns), scratch);
  }
}

// All layers backward from the gradient that stands in the last layer's output, and Adam's step,
// which the target follows where `kFollow` says so. One lane takes the step behind each layer's
// gradient, many once they all are done with the weights.
template <Follow kFollow = Follow::kNot, int kParts>
void descend(const Net<kParts>& net, const Panels& x, const Trace& trace,
             const AdamFactors<Real>& factors, const Group& group, Scratch& scratch, Clock& clock) {
  const int last = net.depth() - 1;
  const auto input = [&](int i) { return i == 0 ? x : trace.output(i - 1); };
  const auto gradient = [&](int i) {  // in layer i's output
    return i == last ? trace.output(last) : trace.gradient(i + 1, net.layer(i + 1).rows());
  };
  const auto back = [&](int i) {
    const Range columns = group.share(x.columns);
    net.backward(i, gradient(i).part(columns), input(i).part(columns),
                 gradient(i - 1).part(columns), scratch);
    clock.lap(kBackward);
  };
  const auto step = [&](int i) {
    const Range outputs = group.share(net.layer(i).columns());
    net.template descend<kFollow>(i, input(i), gradient(i), outputs, factors, scratch);
    clock.lap(kWeights);
  };
  if (group.size == 1) {
    for (int i = last; i >= 0; --i) {
      if (i > 0) back(i);
      step(i);
    }
  } else {
    for (int i = last; i > 0; --i) back(i);
    group.meet(clock);
    for (int i = last; i >= 0; --i) step(i);
  }
}

// Row 0 of some columns as a flat array.
inline void take_row(const Panels& from, const Range& columns, Real* out) {
  for (int64_t at = columns.first; at < columns.last; at += kPanel) {
    std::memcpy(out + at, from.line(at / kPanel, 0), kPanel * sizeof(Real));
  }
}

// Row 0 of some columns takes the gradient of the `batch` rows of every `stride`; others take 0.
inline void put_row(const Real* from, const Range& columns, int64_t batch, int64_t stride,
                    const Panels& out) {
  for (int64_t i = columns.first; i < columns.last; ++i) {
    out.line(i / kPanel, 0)[i % kPanel] = i % stride < batch ? from[i] : Real(0);
  }
}

constexpr int64_t kWords = sizeof(double) / sizeof(Real);  // numbers that take a double's place

inline double sum(const double* values, int64_t count) {
  double total = 0.0;
  for (int64_t i = 0; i < count; ++i) total += values[i];
  return total;
}

// A lane's own memory, beside what the method's lanes share.
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

// Nets forward and backward, by the lanes that share them.
#pragma once

#include <cstring>
#include <memory>

#include "engine/lanes.h"
#include "engine/net.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEps = 1e-8;  // as fastifo/engine/optimizer.py

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

}  // namespace
}  // namespace FASTIFO_ISA
}  // namespace fastifo

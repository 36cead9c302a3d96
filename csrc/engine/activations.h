// The forward pass, backward pass and Adam's step of a net, by the threads that share it.
#pragma once

#include <cstring>
#include <memory>

#include "engine/mlp.h"
#include "engine/threads.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEps = 1e-8;  // as in fastifo/nn/optimizer.py

// The activations of one net, kept for the backward pass, and the workspace of its gradients.
// Several threads need the gradients of all layers at the same time; a single thread uses two in
// turn, which stay in its caches.
class Activations {
 public:
  Activations(const std::vector<int64_t>& widths, int64_t columns, int threads) {
    int64_t widest = kPanel;
    for (size_t i = 1; i < widths.size(); ++i) {
      layer_.push_back(std::make_unique<Matrix>(widths[i], columns));
      widest = std::max(widest, padded(widths[i]));
    }
    const size_t count = threads == 1 ? std::min<size_t>(2, layer_.size()) : layer_.size();
    for (size_t i = 0; i < count; ++i) {
      gradient_.push_back(std::make_unique<Matrix>(widest, columns));
    }
  }

  Panels output(int layer) const { return *layer_[static_cast<size_t>(layer)]; }
  // Workspace for the gradient in layer `layer`'s input, which has `rows` features.
  Panels gradient(int layer, int64_t rows) const {
    const Panels workspace = *gradient_[static_cast<size_t>(layer) % gradient_.size()];
    return {workspace.data, rows, workspace.columns};
  }

 private:
  std::vector<std::unique_ptr<Matrix>> layer_, gradient_;
};

// Computes all layers of the net, or of its target, on some columns of x. Layer i's output is
// written to `activations.output(i)`.
template <int kParts>
void forward(const Mlp<kParts>& net, bool target, const Panels& x, const Activations& activations,
             const Range& columns, Scratch& scratch) {
  for (int i = 0; i < net.depth(); ++i) {
    net.forward(i, target, (i == 0 ? x : activations.output(i - 1)).part(columns),
                activations.output(i).part(columns), scratch);
  }
}

// Backpropagates from the gradient that has replaced the last layer's output and makes Adam's step,
// with the target updated as `kTargetUpdate` says. A single thread steps each layer right after its
// backward pass; several threads step once none of them reads the old weights any more.
template <TargetUpdate kTargetUpdate = TargetUpdate::kNone, int kParts>
void backward_and_step(const Mlp<kParts>& net, const Panels& x, const Activations& activations,
                       const AdamFactors<Real>& factors, const ThreadGroup& group, Scratch& scratch,
                       Clock& clock) {
  const int last = net.depth() - 1;
  const auto input = [&](int i) { return i == 0 ? x : activations.output(i - 1); };
  const auto gradient = [&](int i) {  // in layer i's output
    return i == last ? activations.output(last)
                     : activations.gradient(i + 1, net.layer(i + 1).rows());
  };
  const auto backward = [&](int i) {
    const Range columns = group.share(x.columns);
    net.backward(i, gradient(i).part(columns), input(i).part(columns),
                 gradient(i - 1).part(columns), scratch);
    clock.lap(kBackward);
  };
  const auto step = [&](int i) {
    const Range outputs = group.share(net.layer(i).columns());
    net.template apply_gradients<kTargetUpdate>(i, input(i), gradient(i), outputs, factors,
                                                scratch);
    clock.lap(kWeights);
  };
  if (group.size == 1) {
    for (int i = last; i >= 0; --i) {
      if (i > 0) backward(i);
      step(i);
    }
  } else {
    for (int i = last; i > 0; --i) backward(i);
    group.wait(clock);
    for (int i = last; i >= 0; --i) step(i);
  }
}

// out[b] = from(0, b) for some columns b.
inline void read_row(const Panels& from, const Range& columns, Real* out) {
  for (int64_t at = columns.first; at < columns.last; at += kPanel) {
    std::memcpy(out + at, from.line(at / kPanel, 0), kPanel * sizeof(Real));
  }
}

// out(0, b) = from[b] for some columns b, and 0 in padding columns: those beyond the first `batch`
// of every `stride`.
inline void write_row(const Real* from, const Range& columns, int64_t batch, int64_t stride,
                      const Panels& out) {
  for (int64_t i = columns.first; i < columns.last; ++i) {
    out.line(i / kPanel, 0)[i % kPanel] = i % stride < batch ? from[i] : Real(0);
  }
}

}  // namespace
}  // namespace FASTIFO_ISA
}  // namespace fastifo

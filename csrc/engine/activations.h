// The forward pass, backward pass and Adam's step of a net, by the threads that share it.
#pragma once

#include <cstring>
#include <initializer_list>
#include <memory>

#include "engine/mlp.h"
#include "engine/threads.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEps = 1e-8;  // as in fastifo/nn/optimizer.py

// The size of the largest operand of any product of some nets, in numbers.
inline int64_t largest_operand(std::initializer_list<const NetPlan*> nets, int64_t rows) {
  int64_t widest = kBlock;
  for (const NetPlan* net : nets) {
    for (int64_t width : net->widths) widest = std::max(widest, padded(width));
  }
  return widest * rows;
}

// The activations of one net, kept for the backward pass, and the workspace of its gradients.
// Several threads need the gradients of all layers at the same time; a single thread uses two in
// turn, which stay in its caches.
class Activations {
 public:
  Activations(const NetPlan& plan, int64_t columns, int threads) {
    const size_t depth = std::max<size_t>(1, plan.widths.size()) - 1;
    int64_t widest = kPanel;
    for (size_t i = 0; i < depth; ++i) {
      layer_.push_back(std::make_unique<Matrix>(plan.widths[i + 1], columns));
      widest = std::max(widest, padded(plan.widths[i + 1]));
    }
    const size_t count = threads == 1 ? std::min<size_t>(2, depth) : depth;
    for (size_t i = 0; i < count; ++i) {
      gradient_.push_back(std::make_unique<Matrix>(widest, columns));
    }
    for (size_t i = 0; plan.layer_norm && i + 1 < depth; ++i) {
      unnormalised_.push_back(std::make_unique<Matrix>(plan.widths[i + 1], columns));
      statistics_.push_back(std::make_unique<Matrix>(kNormStatistics, columns));
    }
    for (size_t i = 0; plan.layer_norm && i < count; ++i) {
      norm_gradient_.push_back(std::make_unique<Matrix>(widest, columns));
    }
  }

  // What a layer passes to the next one.
  Panels output(int layer) const { return *layer_[static_cast<size_t>(layer)]; }
  // A layer's output before its layer norm, and the norm's statistics.
  Panels unnormalised(int layer) const { return *unnormalised_[static_cast<size_t>(layer)]; }
  Panels statistics(int layer) const { return *statistics_[static_cast<size_t>(layer)]; }
  // Workspace for the gradient in layer `layer`'s input, which has `rows` features; where a layer
  // norm made that input, before the norm.
  Panels gradient(int layer, int64_t rows) const { return workspace(gradient_, layer, rows); }
  // The same after the norm.
  Panels norm_gradient(int layer, int64_t rows) const {
    return workspace(norm_gradient_, layer, rows);
  }

 private:
  using Matrices = std::vector<std::unique_ptr<Matrix>>;

  static Panels workspace(const Matrices& matrices, int layer, int64_t rows) {
    const Panels matrix = *matrices[static_cast<size_t>(layer) % matrices.size()];
    return {matrix.data, rows, matrix.columns};
  }

  Matrices layer_, unnormalised_, statistics_, gradient_, norm_gradient_;
};

// Computes all layers of the net, or of its target, on some columns of x. Layer i's output is
// written to `activations.output(i)`.
template <int kParts>
void forward(const Mlp<kParts>& net, bool target, const Panels& x, const Activations& activations,
             const Range& columns, Scratch& scratch) {
  for (int i = 0; i < net.depth(); ++i) {
    const Panels input = (i == 0 ? x : activations.output(i - 1)).part(columns);
    const Panels output = activations.output(i).part(columns);
    if (net.has_norm(i)) {
      const Panels hidden = activations.unnormalised(i).part(columns);
      net.forward(i, target, input, hidden, scratch);
      layer_norm(net.norm(i, target), hidden, activations.statistics(i).part(columns), output);
    } else {
      net.forward(i, target, input, output, scratch);
    }
  }
}

// The backward pass of a net after `forward`, layer by layer, from the gradient that has replaced
// the last layer's output.
template <int kParts>
struct BackwardPass {
  const Mlp<kParts>& net;
  const Panels& x;
  const Activations& activations;
  Scratch& scratch;

  int last() const { return net.depth() - 1; }
  Panels input(int i) const { return i == 0 ? x : activations.output(i - 1); }
  // In layer i's output, before its layer norm.
  Panels gradient(int i) const {
    return i == last() ? activations.output(last())
                       : activations.gradient(i + 1, net.layer(i + 1).rows());
  }

  // Writes `gradient(i - 1)` for some columns.
  void backward(int i, const Range& columns) const {
    const Panels from = gradient(i).part(columns), to = gradient(i - 1).part(columns);
    if (!net.has_norm(i - 1)) return net.backward(i, from, input(i).part(columns), to, scratch);
    const Panels after = activations.norm_gradient(i, net.layer(i).rows()).part(columns);
    net.backward(i, from, {}, after, scratch);
    layer_norm_backward(net.norm(i - 1, false), after,
                        activations.unnormalised(i - 1).part(columns),
                        activations.statistics(i - 1).part(columns), to);
  }

  // Writes the gradient in x for some columns.
  void backward_to_input(const Range& columns, const Panels& out) const {
    for (int i = last(); i > 0; --i) backward(i, columns);
    net.backward(0, gradient(0).part(columns), {}, out.part(columns), scratch);
  }

  // Adam's step of some of layer i's outputs.
  template <TargetUpdate kTargetUpdate>
  void step(int i, const Range& outputs, const AdamFactors<Real>& factors) const {
    net.template apply_gradients<kTargetUpdate>(i, input(i), gradient(i), outputs, factors,
                                                scratch);
    if (!net.has_norm(i)) return;
    net.template apply_norm_gradients<kTargetUpdate>(
        i, activations.norm_gradient(i + 1, net.layer(i + 1).rows()), activations.unnormalised(i),
        activations.statistics(i), outputs, factors);
  }
};

// Backpropagates from the gradient that has replaced the last layer's output and makes Adam's step,
// with the target updated as `kTargetUpdate` says. A single thread steps each layer right after its
// backward pass; several threads step once none of them reads the old weights any more.
template <TargetUpdate kTargetUpdate = TargetUpdate::kNone, int kParts>
void backward_and_step(const Mlp<kParts>& net, const Panels& x, const Activations& activations,
                       const AdamFactors<Real>& factors, const ThreadGroup& group, Scratch& scratch,
                       Clock& clock) {
  const BackwardPass<kParts> pass{net, x, activations, scratch};
  const auto backward = [&](int i) {
    pass.backward(i, group.share(x.columns));
    clock.lap(kBackward);
  };
  const auto step = [&](int i) {
    pass.template step<kTargetUpdate>(i, group.share(net.layer(i).columns()), factors);
    clock.lap(kWeights);
  };
  if (group.size == 1) {
    for (int i = pass.last(); i >= 0; --i) {
      if (i > 0) backward(i);
      step(i);
    }
  } else {
    for (int i = pass.last(); i > 0; --i) backward(i);
    group.wait(clock);
    for (int i = pass.last(); i >= 0; --i) step(i);
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

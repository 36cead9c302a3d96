// The forward pass, backward pass and Adam's step of a net, by the threads that share it.
#pragma once

#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>

#include "engine/mlp.h"
#include "engine/threads.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

// The factors of a member's step of Adam on a net.
//
// net: "scalar", "policy" or "critic", as its rate and weight decay are named in the plan.  steps:
// that the net has made before.  rate_share: of its learning rate.
inline AdamFactors<Real> net_factors(const Plan& plan, const std::string& net, int64_t member,
                                     int64_t steps, double rate_share = 1.0) {
  constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEps = 1e-8;  // as in fastifo/nn/optimizer.py
  return adam_factors<Real>(steps, rate_share * plan.number((net + "_rate").c_str(), member),
                            plan.number((net + "_decay").c_str(), member),
                            plan.numbers.contains("polyak") ? plan.number("polyak", member) : 1.0,
                            plan.flag("decoupled_weight_decay"), kBeta1, kBeta2, kEps);
}

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
// turn, which stay in its caches. With bf16 products, what only products read is kept as packed
// copies and not as numbers.
class Activations {
 public:
  // parts: of a bf16 product's operands, 0 for products of numbers.  threads: that share the net; 0
  // for the forward pass alone.  to_input: the backward pass goes on to the net's input.
  Activations(const NetPlan& plan, int64_t columns, int threads, int parts = 0,
              bool to_input = false)
      : columns_(padded(columns)), to_input_(to_input) {
    const size_t depth = std::max<size_t>(1, plan.widths.size()) - 1;
    int64_t widest = 0, widest_packed = 0;  // of the gradients in hidden layers
    for (size_t i = 0; i < depth; ++i) {
      const int64_t width = padded(plan.widths[i + 1]);
      // An exact layer and a layer norm read and write numbers.
      const bool is_hidden = i + 1 < depth;
      const bool packs = is_hidden && parts > 0 && !is_exact(plan, i) && !plan.layer_norm;
      const bool replaces = packs && !is_exact(plan, i + 1);
      rows_.push_back(width);
      packs_gradient_.push_back(packs);
      layer_.push_back(std::make_unique<Matrix>(replaces ? 0 : width, columns_));
      copies_.push_back(
          std::make_unique<Copies>(replaces ? parts * width * columns_ : 0, threads > 0));
      if (is_hidden) {
        int64_t& largest = packs ? widest_packed : widest;
        largest = std::max(largest, width);
      }
    }
    const size_t count = threads == 1 ? std::min<size_t>(2, depth) : threads > 1 ? depth : 0;
    for (size_t i = 0; i < count; ++i) {
      gradient_.push_back(std::make_unique<Matrix>(widest, columns_));
      gradient_copies_.push_back(std::make_unique<Copies>(parts * widest_packed * columns_, true));
    }
    for (size_t i = 0; plan.layer_norm && i + 1 < depth; ++i) {
      unnormalised_.push_back(std::make_unique<Matrix>(plan.widths[i + 1], columns_));
      statistics_.push_back(std::make_unique<Matrix>(kNormStatistics, columns_));
    }
    for (size_t i = 0; plan.layer_norm && i < count; ++i) {
      norm_gradient_.push_back(std::make_unique<Matrix>(widest, columns_));
    }
  }

  // The numbers that a layer passes to the next one.
  Panels output(int layer) const { return *layer_[static_cast<size_t>(layer)]; }
  // The same as numbers or packed.
  Operand operand(int layer) const {
    const auto at = static_cast<size_t>(layer);
    const Copies& copies = *copies_[at];
    if (!copies.exist) return output(layer);
    return {{nullptr, rows_[at], columns_}, copies.packs(rows_[at], columns_)};
  }
  // A layer's output before its layer norm, and the norm's statistics.
  Panels unnormalised(int layer) const { return *unnormalised_[static_cast<size_t>(layer)]; }
  Panels statistics(int layer) const { return *statistics_[static_cast<size_t>(layer)]; }
  // Workspace for the gradient in layer `layer`'s input, which has `rows` features; where a layer
  // norm made that input, before the norm.
  Operand gradient(int layer, int64_t rows) const {
    const Panels numbers = workspace(gradient_, layer, rows);
    if (!packs_gradient_[static_cast<size_t>(layer - 1)]) return numbers;
    const Copies& copies = *gradient_copies_[static_cast<size_t>(layer) % gradient_copies_.size()];
    Packs packs = copies.packs(rows, columns_);
    if (layer == 1 && !to_input_) packs.down = nullptr;  // no backward pass goes further
    return {{nullptr, rows, columns_}, packs};
  }
  // The same after the norm.
  Panels norm_gradient(int layer, int64_t rows) const {
    return workspace(norm_gradient_, layer, rows);
  }

 private:
  using Matrices = std::vector<std::unique_ptr<Matrix>>;

  // Memory of a matrix's packed copies (engine/pack_bf16.h).
  struct Copies {
    // size: bf16 numbers of one copy; 0: there are none.  both: whether there is `Packs::along`.
    Copies(int64_t size, bool both)
        : down(numbers(size)), along(numbers(both ? size : 0)), exist(size > 0), has_along(both) {}

    static int64_t numbers(int64_t size) {
      return size * static_cast<int64_t>(sizeof(Bf16)) / static_cast<int64_t>(sizeof(Real));
    }
    Packs packs(int64_t rows, int64_t columns) const {
      return {reinterpret_cast<Bf16*>(down.data()),
              has_along ? reinterpret_cast<Bf16*>(along.data()) : nullptr, rows, columns, 0};
    }

    Buffer down, along;
    bool exist, has_along;
  };

  static Panels workspace(const Matrices& matrices, int layer, int64_t rows) {
    const Panels matrix = *matrices[static_cast<size_t>(layer) % matrices.size()];
    return {matrix.data, rows, matrix.columns};
  }

  int64_t columns_;
  bool to_input_;
  std::vector<int64_t> rows_;         // of each layer's output, padded
  std::vector<bool> packs_gradient_;  // whether the gradient in a layer's output is packed
  Matrices layer_, unnormalised_, statistics_, gradient_, norm_gradient_;
  std::vector<std::unique_ptr<Copies>> copies_, gradient_copies_;
};

// Computes all layers of the net, or of its target, on some columns of x. Layer i's output is
// written to `activations.output(i)`.
template <int kParts>
void forward(const Mlp<kParts>& net, bool target, const Panels& x, const Activations& activations,
             const Range& columns, Scratch& scratch) {
  for (int i = 0; i < net.depth(); ++i) {
    const Operand input = (i == 0 ? x : activations.operand(i - 1)).part(columns);
    const Operand output = activations.operand(i).part(columns);
    if (net.has_norm(i)) {
      const Panels hidden = activations.unnormalised(i).part(columns);
      net.forward(i, target, input, hidden, scratch);
      layer_norm(net.norm(i, target), hidden, activations.statistics(i).part(columns),
                 output.values);
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
  Operand input(int i) const { return i == 0 ? x : activations.operand(i - 1); }
  // In layer i's output, before its layer norm.
  Operand gradient(int i) const {
    return i == last() ? activations.output(last())
                       : activations.gradient(i + 1, net.layer(i + 1).rows());
  }

  // Writes `gradient(i - 1)` for some columns.
  void backward(int i, const Range& columns) const {
    const Operand from = gradient(i).part(columns), to = gradient(i - 1).part(columns);
    if (!net.has_norm(i - 1)) return net.backward(i, from, input(i).part(columns), to, scratch);
    const Panels after = activations.norm_gradient(i, net.layer(i).rows()).part(columns);
    net.backward(i, from, Panels{}, after, scratch);
    layer_norm_backward(net.norm(i - 1, false), after,
                        activations.unnormalised(i - 1).part(columns),
                        activations.statistics(i - 1).part(columns), to.values);
  }

  // Writes the gradient in x for some columns.
  void backward_to_input(const Range& columns, const Panels& out) const {
    for (int i = last(); i > 0; --i) backward(i, columns);
    net.backward(0, gradient(0).part(columns), Panels{}, out.part(columns), scratch);
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

// Where the layers of a net lie in its state (engine/plan.h), and Adam's step on lines of the
// state.
#pragma once

#include <vector>

#include "common/adam_step.h"
#include "engine/panels.h"
#include "engine/plan.h"

namespace fastifo {
namespace FASTIFO_ISA {

// Whether layer `index` multiplies in single precision whatever the precision of the others
// (scalar_layer.h): a layer with one output, or with the few of `exact_output`. bf16 is too coarse
// for values near 100.
inline bool is_exact(const NetPlan& plan, size_t index) {
  return plan.widths[index + 1] == 1 || (index + 2 == plan.widths.size() && plan.exact_output);
}

struct Layer {
  int64_t inputs, outputs;  // sizes without padding
  int64_t weights, biases;  // offsets, in numbers
  int64_t packs;  // offset of the packed weights, in numbers that each of them stores once
  int64_t norm;   // offset of the layer norm's scales, then its shifts; 0: it has none
  bool exact;

  int64_t rows() const { return padded(inputs); }
  int64_t columns() const { return padded(outputs); }
  int64_t size() const { return rows() * columns(); }
};

// The layers of a net in order.
class Layers {
 public:
  explicit Layers(const NetPlan& plan) : depth_(static_cast<int>(plan.widths.size()) - 1) {
    int64_t offset = 0, packs = 0;
    for (size_t i = 0; i + 1 < plan.widths.size(); ++i) {
      Layer& layer = layer_[i];
      layer = {plan.widths[i], plan.widths[i + 1], offset, 0, packs, 0, is_exact(plan, i)};
      layer.biases = offset + layer.size();
      offset = layer.biases + layer.columns();
      if (plan.layer_norm && i + 2 < plan.widths.size()) {
        layer.norm = offset;
        offset += 2 * layer.columns();
      }
      packs += layer.size();
    }
  }

  int depth() const { return depth_; }
  const Layer& operator[](int index) const { return layer_[index]; }
  const Layer* begin() const { return layer_; }
  const Layer* end() const { return layer_ + std::max(depth_, 0); }

 private:
  static constexpr int kMaxDepth = 16;

  int depth_;
  Layer layer_[kMaxDepth];
};

// Parameters with Adam's moments and perhaps a target, in arrays of the same layout.
struct State {
  Real *weights, *first, *second, *target;

  State at(int64_t offset) const {
    return {weights + offset, first + offset, second + offset, target + offset};
  }

  // Adam's step on one line.
  template <TargetUpdate kTargetUpdate>
  FASTIFO_INLINE void step(const Real* gradient, const AdamFactors<Real>& f) const {
    for (int64_t i = 0; i < kPanel; i += kLanes<Real>) {
      Vec<Real> w = load(weights + i), m = load(first + i), v = load(second + i), t{};
      if constexpr (kTargetUpdate != TargetUpdate::kNone) t = load(target + i);
      adam_step<Real, kTargetUpdate>(w, m, v, load(gradient + i), t, f);
      if constexpr (kTargetUpdate != TargetUpdate::kNone) store(target + i, t);
      store(weights + i, w);
      store(first + i, m);
      store(second + i, v);
    }
  }

  FASTIFO_INLINE void prefetch() const {
    prefetch_l2(weights);
    prefetch_l2(first);
    prefetch_l2(second);
  }
};

}  // namespace FASTIFO_ISA
}  // namespace fastifo

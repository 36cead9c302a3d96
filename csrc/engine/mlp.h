// A multilayer perceptron with ReLU hidden layers: forward, backward and Adam. Adam's step is fused
// into the product that computes a weight gradient, so weight gradients never reach memory.
#pragma once

#include "common/adam_step.h"
#include "engine/gemm.h"
#include "engine/gemm_bf16.h"
#include "engine/layer_norm.h"
#include "engine/plan.h"
#include "engine/scalar_layer.h"

namespace fastifo {
namespace FASTIFO_ISA {

// Where one layer lies in a net's state (engine/plan.h).
struct Layer {
  int64_t inputs, outputs;  // sizes without padding
  int64_t weights, biases;  // offsets, in numbers
  int64_t packs;            // offset of the packed weights, in bf16 numbers
  int64_t norm;             // offset of the layer norm's scales, then its shifts; 0: it has none
  bool exact;               // multiplies in single precision (scalar_layer.h)

  int64_t rows() const { return padded(inputs); }
  int64_t columns() const { return padded(outputs); }
  int64_t size() const { return rows() * columns(); }
};

// A thread's workspace for transposed or packed operands.
struct Scratch {
  explicit Scratch(int64_t numbers) : left(numbers), right(numbers) {}
  Buffer left, right;
};

// One member's copy of a net. kParts is 0 for products in single precision, 1 for bf16, 2 for bf16
// in two parts (gemm_bf16.h). A layer with one output, or with the few of `exact_output`, always
// multiplies in single precision, because bf16 is too coarse for values near 100.
template <int kParts>
class Mlp {
 public:
  Mlp(const NetPlan& plan, Bf16Kernel kernel, int64_t member)
      : kernel_(kernel),
        hardware_(kernel != bf16_tile_emulated),
        weights_(static_cast<Real*>(plan.weights) + member * plan.size),
        first_(static_cast<Real*>(plan.first) + member * plan.size),
        second_(static_cast<Real*>(plan.second) + member * plan.size),
        target_(static_cast<Real*>(plan.target) + member * plan.size),
        packs_(static_cast<Bf16*>(plan.packs) + member * plan.packs_size),
        size_(plan.size) {
    int64_t offset = 0, packs = 0;
    for (size_t i = 0; i + 1 < plan.widths.size(); ++i) {
      Layer& layer = layers_[i];
      layer = {plan.widths[i], plan.widths[i + 1], offset, 0, packs, 0, false};
      layer.biases = offset + layer.size();
      offset = layer.biases + layer.columns();
      const bool is_last = i + 2 == plan.widths.size();
      layer.exact = layer.outputs == 1 || (is_last && plan.exact_output);
      if (plan.layer_norm && !is_last) {
        layer.norm = offset;
        offset += 2 * layer.columns();
      }
      packs += kPacks * kParts * layer.size();
    }
    depth_ = static_cast<int>(plan.widths.size()) - 1;
  }

  int depth() const { return depth_; }
  const Layer& layer(int index) const { return layers_[index]; }
  bool has_norm(int index) const { return layers_[index].norm > 0; }
  NormParams norm(int index, bool target) const {
    const Layer& layer = layers_[index];
    const Real* const scale = (target ? target_ : weights_) + layer.norm;
    return {scale, scale + layer.columns(), layer.outputs};
  }

  // out(n, b) = sum over k of w(k, n) x(k, b) + bias(n), with ReLU unless the layer is the last.
  // `target` reads the target's weights instead.
  void forward(int index, bool target, const Panels& x, const Panels& out, Scratch& scratch) const {
    const Layer& layer = layers_[index];
    const Real* state = target ? target_ : weights_;
    const Real* bias = state + layer.biases;
    const bool relu = index + 1 < depth_;
    if (layer.exact) {
      for (int64_t n = 0; n < layer.outputs; ++n) {
        forward_scalar(state + layer.weights + n, bias[n], relu, x, out.from_row(n));
      }
      return;
    }
    const auto finish = [&](int64_t row, int64_t panel, const Real* line)
                            __attribute__((always_inline)) {
                              Real* to = out.line(panel, row);
                              prefetch_l2(out.line(panel + kPanelsAhead, row));
                              const Vec<Real> shift = fill(bias[row]);
                              for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
                                const Vec<Real> y = load(line + v) + shift;  // a NaN stays
                                store(to + v, relu ? (y < Real(0) ? Vec<Real>{} : y) : y);
                              }
                            };
    if constexpr (kParts == 0) {
      gemm<true>(weights(state, layer), x, layer.outputs, finish);
    } else {
      Bf16* const right = bf16(scratch.right);
      pack_right<kParts>(x, right, hardware_);
      gemm_bf16<kParts>(kernel_, pack(layer, target ? kTarget : kTransposed), right,
                        layer.columns(), x.columns, layer.rows(), finish, nothing);
    }
  }

  // Gradient in a layer's input: out(k, b) = sum over n of w(k, n) gradient(n, b). If `x` has data,
  // through the ReLU that produced it: where x(k, b) > 0, else 0.
  void backward(int index, const Panels& gradient, const Panels& x, const Panels& out,
                Scratch& scratch) const {
    const Layer& layer = layers_[index];
    const auto finish = [&](int64_t row, int64_t panel,
                            const Real* line) __attribute__((always_inline)) {
      Real* to = out.line(panel, row);
      prefetch_l2(out.line(panel + kPanelsAhead, row));
      if (x.data == nullptr) {
        std::memcpy(to, line, kPanel * sizeof(Real));
        return;
      }
      const Real* active = x.line(panel, row);
      prefetch_l2(x.line(panel + kPanelsAhead, row));
      for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
        store(to + v, load(active + v) > Real(0) ? load(line + v) : Vec<Real>{});
      }
    };
    if (layer.exact) {
      return backward_scalar(weights_ + layer.weights, layer.rows(), layer.outputs, gradient,
                             finish);
    }
    if constexpr (kParts == 0) {  // all rows: the padding must become 0
      gemm<false>(weights(weights_, layer), gradient, layer.rows(), finish);
    } else {
      Bf16* const right = bf16(scratch.right);
      pack_right<kParts>(gradient, right, hardware_);
      gemm_bf16<kParts>(kernel_, pack(layer, kPlain), right, layer.rows(), gradient.columns,
                        layer.columns(), finish, nothing);
    }
  }

  // Adam's step for some of the outputs n, with the weight gradient
  // dw(k, n) = sum over b of x(k, b) gradient(n, b) and the bias gradient sum over b of
  // gradient(n, b). The target is updated in single precision only: its packs are not.
  template <TargetUpdate kTargetUpdate = TargetUpdate::kNone>
  void apply_gradients(int index, const Panels& x, const Panels& gradient, const Range& outputs,
                       const AdamFactors<Real>& factors, Scratch& scratch) const {
    if (outputs.count() == 0) return;
    const Layer& layer = layers_[index];
    const AdamFactors<Real> f = factors;
    Real* w = weights_ + layer.weights;
    Real* m = first_ + layer.weights;
    Real* v = second_ + layer.weights;
    Real* t = target_ + layer.weights;
    const Panels shape = weights(weights_, layer).part(outputs);
    const int64_t offset = outputs.first * layer.rows();
    const auto finish = [&](int64_t row, int64_t panel, const Real* line)
                            __attribute__((always_inline)) {
                              const int64_t at = offset + (shape.line(panel, row) - shape.data);
                              const int64_t next = at + kPanelsAhead * layer.rows() * kPanel;
                              prefetch_l2(w + next);
                              prefetch_l2(m + next);
                              prefetch_l2(v + next);
                              step_line<kTargetUpdate>(w + at, m + at, v + at, t + at, line, f);
                            };
    if (layer.exact) {
      for (int64_t row = 0; row < layer.rows(); ++row) {
        alignas(64) Real line[kPanel] = {};
        for (int64_t n = 0; n < layer.outputs; ++n) line[n] = dot(x, row, gradient.from_row(n));
        finish(row, 0, line);
      }
    } else if constexpr (kParts == 0) {
      const Panels transposed{scratch.left.data(), gradient.columns, outputs.count()};
      transpose_panels(gradient, outputs, transposed);
      gemm<false>(x, transposed, layer.rows(), finish);
    } else {
      Bf16 *const left = bf16(scratch.left), *const right = bf16(scratch.right);
      pack_left<kParts>(x, left, hardware_);
      pack_right_transposed<kParts>(gradient, outputs, right, hardware_);
      gemm_bf16<kParts>(kernel_, left, right, layer.rows(), outputs.count(), x.columns, finish,
                        [&](int64_t row, int64_t column) __attribute__((always_inline)) {
                          pack_weights<kParts>(weights(weights_, layer), row,
                                               outputs.first + column, pack(layer, kPlain),
                                               pack(layer, kTransposed), hardware_);
                        });
    }
    step_vector<kTargetUpdate>(layer, layer.biases, outputs, f,
                               [&](int64_t row) { return row_sum(gradient, row); });
  }

  // Adam's step for the scales and shifts of some of a layer's outputs.
  //
  // gradient: in the norm's output.  x, statistics: as in layer_norm_backward.
  template <TargetUpdate kTargetUpdate>
  void apply_norm_gradients(int index, const Panels& gradient, const Panels& x,
                            const Panels& statistics, const Range& outputs,
                            const AdamFactors<Real>& factors) const {
    const Layer& layer = layers_[index];
    step_vector<kTargetUpdate>(layer, layer.norm, outputs, factors, [&](int64_t row) {
      return scale_gradient(gradient, x, statistics, row);
    });
    step_vector<kTargetUpdate>(layer, layer.norm + layer.columns(), outputs, factors,
                               [&](int64_t row) { return row_sum(gradient, row); });
  }

  // Adam's step on one line of parameters that belong to no layer.
  static FASTIFO_INLINE void step_plain(Real* w, Real* m, Real* v, const Real* gradient,
                                        const AdamFactors<Real>& f) {
    step_line<TargetUpdate::kNone>(w, m, v, nullptr, gradient, f);
  }

  // Copies the weights to the target.
  void copy_to_target() const {
    std::memcpy(target_, weights_, static_cast<size_t>(size_) * sizeof(Real));
    if constexpr (kParts > 0) {
      for (int i = 0; i < depth_; ++i) {
        std::memcpy(pack(layers_[i], kTarget), pack(layers_[i], kTransposed),
                    static_cast<size_t>(kParts * layers_[i].size()) * sizeof(Bf16));
      }
    }
  }

  // Packs the weights again after they were written from outside.
  void repack(bool has_target) const {
    if constexpr (kParts > 0) {
      for (int i = 0; i < depth_; ++i) {
        const Layer& layer = layers_[i];
        for (int64_t row = 0; row < layer.rows(); row += kBlock) {
          for (int64_t column = 0; column < layer.columns(); column += kBlock) {
            if (has_target) {  // the plain pack is overwritten below
              pack_weights<kParts>(weights(target_, layer), row, column, pack(layer, kPlain),
                                   pack(layer, kTarget), hardware_);
            }
            pack_weights<kParts>(weights(weights_, layer), row, column, pack(layer, kPlain),
                                 pack(layer, kTransposed), hardware_);
          }
        }
      }
    }
  }

 private:
  // The packed copies of a layer's weights: for backward, for forward, for the target's forward.
  enum Pack { kPlain, kTransposed, kTarget, kPacks };

  static constexpr auto nothing = [](int64_t, int64_t) {};

  Bf16* pack(const Layer& layer, Pack which) const {
    return packs_ + layer.packs + which * kParts * layer.size();
  }

  static Bf16* bf16(const Buffer& buffer) { return reinterpret_cast<Bf16*>(buffer.data()); }

  static Panels weights(const Real* state, const Layer& layer) {
    return {const_cast<Real*>(state) + layer.weights, layer.rows(), layer.columns()};
  }

  // From a line to the same line of the tile that a product computes next, in panels.
  static constexpr int64_t kPanelsAhead = kParts == 0 ? kTilePanels : kBlock / kPanel;

  template <TargetUpdate kTargetUpdate>
  static FASTIFO_INLINE void step_line(Real* w, Real* m, Real* v, Real* target,
                                       const Real* gradient, const AdamFactors<Real>& f) {
    for (int64_t i = 0; i < kPanel; i += kLanes<Real>) {
      Vec<Real> wi = load(w + i), mi = load(m + i), vi = load(v + i), ti{};
      if constexpr (kTargetUpdate != TargetUpdate::kNone) ti = load(target + i);
      adam_step<Real, kTargetUpdate>(wi, mi, vi, load(gradient + i), ti, f);
      if constexpr (kTargetUpdate != TargetUpdate::kNone) store(target + i, ti);
      store(w + i, wi);
      store(m + i, mi);
      store(v + i, vi);
    }
  }

  // Adam's step for some of the numbers of a layer that start at `offset`, one per output.
  template <TargetUpdate kTargetUpdate, typename Gradient>
  void step_vector(const Layer& layer, int64_t offset, const Range& outputs,
                   const AdamFactors<Real>& f, const Gradient& gradient) const {
    for (int64_t row = outputs.first; row < std::min(outputs.last, layer.outputs); row += kPanel) {
      alignas(64) Real line[kPanel];
      for (int64_t i = 0; i < kPanel; ++i) line[i] = gradient(row + i);
      const int64_t at = offset + row;
      step_line<kTargetUpdate>(weights_ + at, first_ + at, second_ + at, target_ + at, line, f);
    }
  }

  static constexpr int kMaxDepth = 16;

  Bf16Kernel kernel_;
  bool hardware_;  // whether the processor rounds to bf16
  Real* weights_;
  Real* first_;
  Real* second_;
  Real* target_;
  Bf16* packs_;
  int64_t size_;
  int depth_ = 0;
  Layer layers_[kMaxDepth];
};

}  // namespace FASTIFO_ISA
}  // namespace fastifo

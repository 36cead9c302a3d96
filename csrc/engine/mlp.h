// A multilayer perceptron with ReLU hidden layers: forward, backward and Adam. Adam's step is fused
// into the product that computes a weight gradient, so weight gradients never reach memory.
#pragma once

#include "common/adam_step.h"
#include "engine/blocks_bf16.h"
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

  int64_t rows() const { return padded(inputs); }
  int64_t columns() const { return padded(outputs); }
  int64_t size() const { return rows() * columns(); }
};

// A thread's workspace for transposed or packed operands.
struct Scratch {
  explicit Scratch(int64_t numbers) : left(numbers), right(numbers) {}
  Buffer left, right;
};

// What a layer reads or writes: an activation or the gradient in one, [features, rows of the
// batch]. With bf16 products `packs` can replace the numbers, which then are not stored and have no
// data.
struct Operand {
  Operand(const Panels& panels, const Packs& copies = {}) : values(panels), packs(copies) {}

  Panels values;
  Packs packs;

  Operand part(const Range& range) const {
    if (values.data != nullptr) return {values.part(range), packs.part(range)};
    return {{nullptr, values.rows, range.count()}, packs.part(range)};
  }
};

// One member's copy of a net. kParts is 0 for products in single precision, 1 for bf16, 2 for bf16
// in two parts (gemm_bf16.h). A layer with one output always multiplies in single precision,
// because bf16 is too coarse for values near 100.
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
      layer = {plan.widths[i], plan.widths[i + 1], offset, 0, packs, 0};
      layer.biases = offset + layer.size();
      offset = layer.biases + layer.columns();
      if (plan.layer_norm && i + 2 < plan.widths.size()) {
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
  void forward(int index, bool target, const Operand& from, const Operand& to,
               Scratch& scratch) const {
    const Layer& layer = layers_[index];
    const Real* state = target ? target_ : weights_;
    const Real* bias = state + layer.biases;
    const bool relu = index + 1 < depth_;
    const Panels &x = from.values, &out = to.values;
    if (layer.outputs == 1) {
      return forward_scalar(state + layer.weights, *bias, relu, x, out);
    }
    if constexpr (kParts == 0) {
      const auto finish = [&](int64_t row, int64_t panel, const Real* line)
                              __attribute__((always_inline)) {
                                Real* to = out.line(panel, row);
                                prefetch_l2(out.line(panel + kTilePanels, row));
                                const Vec<Real> shift = fill(bias[row]);
                                for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
                                  const Vec<Real> y = load(line + v) + shift;  // a NaN stays
                                  store(to + v, relu ? (y < Real(0) ? Vec<Real>{} : y) : y);
                                }
                              };
      gemm<true>(weights(state, layer), x, layer.outputs, finish);
    } else {
      gemm_bf16<kParts>(kernel_, {pack(layer, target ? kTarget : kTransposed), layer.size()},
                        down_operand(from, scratch), layer.columns(), x.columns, layer.rows(),
                        [&](int64_t row, int64_t column, Real* sums, int64_t i)
                            __attribute__((always_inline)) {
                              add_bias(sums, i, bias + row, relu);
                              if (to.packs.down == nullptr)
                                return store_rows(sums, i, out, row, column);
                              pack_activation<kParts>(sums, i, to.packs, row, column, hardware_);
                            });
    }
  }

  // Gradient in a layer's input: out(k, b) = sum over n of w(k, n) gradient(n, b). If `x` has data,
  // through the ReLU that produced it: where x(k, b) > 0, else 0.
  void backward(int index, const Operand& from, const Operand& active, const Operand& to,
                Scratch& scratch) const {
    const Layer& layer = layers_[index];
    const Panels &gradient = from.values, &x = active.values, &out = to.values;
    const auto finish = [&](int64_t row, int64_t panel,
                            const Real* line) __attribute__((always_inline)) {
      Real* to = out.line(panel, row);
      prefetch_l2(out.line(panel + kTilePanels, row));
      if (x.data == nullptr) {
        std::memcpy(to, line, kPanel * sizeof(Real));
        return;
      }
      const Real* active = x.line(panel, row);
      prefetch_l2(x.line(panel + kTilePanels, row));
      for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
        store(to + v, load(active + v) > Real(0) ? load(line + v) : Vec<Real>{});
      }
    };
    if constexpr (kParts == 0) {
      if (layer.outputs == 1) {
        return backward_scalar(weights_ + layer.weights, layer.rows(), gradient, finish);
      }
      // All rows: the padding must become 0.
      gemm<false>(weights(weights_, layer), gradient, layer.rows(), finish);
    } else {
      const auto finish_rows = [&](int64_t row, int64_t column, Real* sums,
                                   int64_t i) __attribute__((always_inline)) {
        if (active.packs.down != nullptr) {
          const Bf16* const tile = active.packs.down_tile(row, column);
          mask_rows(sums, i, tile, tile + active.packs.rows * kPanel);
        } else if (x.data != nullptr) {
          mask_rows(sums, i, block_of(x, row, column));
        }
        if (to.packs.along == nullptr) return store_rows(sums, i, out, row, column);
        pack_gradient<kParts>(sums, i, to.packs, row, column, hardware_);
      };
      if (layer.outputs > 1) {
        return gemm_bf16<kParts>(kernel_, {pack(layer, kPlain), layer.size()},
                                 down_operand(from, scratch), layer.rows(), gradient.columns,
                                 layer.columns(), finish_rows);
      }
      alignas(64) Real sums[kBlock * kBlock];
      for (int64_t column = 0; column < gradient.columns; column += kBlock) {
        for (int64_t row = 0; row < layer.rows(); row += kBlock) {
          backward_scalar(
              weights_ + layer.weights + row * kPanel, kBlock, gradient.part(column, kBlock),
              [&](int64_t i, int64_t panel, const Real* line) {
                std::memcpy(sums + (panel * kBlock + i) * kPanel, line, kPanel * sizeof(Real));
              });
          for (int64_t i = 0; i < kBlock; i += 2) finish_rows(row, column, sums, i);
        }
      }
    }
  }

  // Adam's step for some of the outputs n, with the weight gradient
  // dw(k, n) = sum over b of x(k, b) gradient(n, b) and the bias gradient sum over b of
  // gradient(n, b). The target is updated in single precision only: its packs are not.
  template <TargetUpdate kTargetUpdate = TargetUpdate::kNone>
  void apply_gradients(int index, const Operand& input, const Operand& slope, const Range& outputs,
                       const AdamFactors<Real>& factors, Scratch& scratch) const {
    if (outputs.count() == 0) return;
    const Layer& layer = layers_[index];
    const Panels &x = input.values, &gradient = slope.values;
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
    if (layer.outputs == 1) {
      for (int64_t row = 0; row < layer.rows(); ++row) {
        alignas(64) Real line[kPanel] = {dot(x, row, gradient)};
        finish(row, 0, line);
      }
    } else if constexpr (kParts == 0) {
      const Panels transposed{scratch.left.data(), gradient.columns, outputs.count()};
      transpose_panels(gradient, outputs, transposed);
      gemm<false>(x, transposed, layer.rows(), finish);
    } else {
      const PackedOperand left = along_operand(input, scratch);
      const PackedOperand right = along_operand(slope, outputs, scratch);
      WeightPacker<kParts> packer = weight_packer(weights_, layer, kTransposed);
      gemm_bf16<kParts>(kernel_, left, right, layer.rows(), outputs.count(), x.columns,
                        [&](int64_t row, int64_t column, Real* sums, int64_t i)
                            __attribute__((always_inline)) {
                              each_line(sums, i,
                                        [&](const Real* line, int64_t panel, int64_t index)
                                            __attribute__((always_inline)) {
                                              finish(row + index, column / kPanel + panel, line);
                                            });
                              packer.pack_rows(row, outputs.first + column, i);
                            });
    }
    step_vector<kTargetUpdate>(layer, layer.biases, outputs, f, [&](int64_t row, Real* line) {
      if constexpr (kParts > 0) {
        if (slope.packs.along != nullptr) return packed_row_sums<kParts>(slope.packs, row, line);
      }
      for (int64_t i = 0; i < kPanel; ++i) line[i] = row_sum(gradient, row + i);
    });
  }

  // Adam's step for the scales and shifts of some of a layer's outputs.
  //
  // gradient: in the norm's output.  x, statistics: as in layer_norm_backward.
  template <TargetUpdate kTargetUpdate>
  void apply_norm_gradients(int index, const Panels& gradient, const Panels& x,
                            const Panels& statistics, const Range& outputs,
                            const AdamFactors<Real>& factors) const {
    const Layer& layer = layers_[index];
    step_vector<kTargetUpdate>(layer, layer.norm, outputs, factors, [&](int64_t row, Real* line) {
      for (int64_t i = 0; i < kPanel; ++i) {
        line[i] = scale_gradient(gradient, x, statistics, row + i);
      }
    });
    step_vector<kTargetUpdate>(layer, layer.norm + layer.columns(), outputs, factors,
                               [&](int64_t row, Real* line) {
                                 for (int64_t i = 0; i < kPanel; ++i) {
                                   line[i] = row_sum(gradient, row + i);
                                 }
                               });
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
        if (has_target) {  // the plain pack is overwritten below
          weight_packer(target_, layer, kTarget).pack_all();
        }
        weight_packer(weights_, layer, kTransposed).pack_all();
      }
    }
  }

 private:
  // The packed copies of a layer's weights: for backward, for forward, for the target's forward.
  enum Pack { kPlain, kTransposed, kTarget, kPacks };

  Bf16* pack(const Layer& layer, Pack which) const {
    return packs_ + layer.packs + which * kParts * layer.size();
  }

  // The packed operand whose terms are features, or are rows of the batch; packed here if it is not
  // yet.
  PackedOperand down_operand(const Operand& x, Scratch& scratch) const {
    if (x.packs.down != nullptr) return {x.packs.down_tile(0, 0), x.packs.size()};
    pack_right<kParts>(x.values, bf16(scratch.right), hardware_);
    return {bf16(scratch.right), x.values.size()};
  }
  PackedOperand along_operand(const Operand& x, Scratch& scratch) const {
    if (x.packs.along != nullptr) return {x.packs.along_tile(0, 0), x.packs.size()};
    pack_left<kParts>(x.values, bf16(scratch.left), hardware_);
    return {bf16(scratch.left), x.values.size()};
  }
  PackedOperand along_operand(const Operand& gradient, const Range& outputs,
                              Scratch& scratch) const {
    if (gradient.packs.along != nullptr) {
      return {gradient.packs.along_tile(outputs.first, 0), gradient.packs.size()};
    }
    pack_right_transposed<kParts>(gradient.values, outputs, bf16(scratch.right), hardware_);
    return {bf16(scratch.right), outputs.count() * gradient.values.columns};
  }

  // Stores rows i and i + 1 of a block at (row, column).
  static FASTIFO_INLINE void store_rows(Real* sums, int64_t i, const Panels& out, int64_t row,
                                        int64_t column) {
    each_line(sums, i,
              [&](const Real* line, int64_t panel, int64_t index) __attribute__((always_inline)) {
                std::memcpy(out.line(column / kPanel + panel, row + index), line,
                            kPanel * sizeof(Real));
              });
  }

  WeightPacker<kParts> weight_packer(const Real* state, const Layer& layer, Pack transposed) const {
    return {weights(state, layer), pack(layer, kPlain), pack(layer, transposed), hardware_};
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
  // gradient(row, line) writes the gradient of 16 of them.
  template <TargetUpdate kTargetUpdate, typename Gradient>
  void step_vector(const Layer& layer, int64_t offset, const Range& outputs,
                   const AdamFactors<Real>& f, const Gradient& gradient) const {
    for (int64_t row = outputs.first; row < std::min(outputs.last, layer.outputs); row += kPanel) {
      alignas(64) Real line[kPanel];
      gradient(row, line);
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

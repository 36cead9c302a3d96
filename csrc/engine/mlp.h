// A multilayer perceptron with ReLU hidden layers: forward, backward and Adam. Adam's step is fused
// into the product that computes a weight gradient, so weight gradients never reach memory.
#pragma once

#include "engine/gemm.h"
#include "engine/layer.h"
#include "engine/layer_norm.h"
#include "engine/operand.h"
#include "engine/scalar_layer.h"
#include "engine/weight_packs.h"

namespace fastifo {
namespace FASTIFO_ISA {

// One member's copy of a net. kParts is 0 for products in single precision, 1 for bf16, 2 for bf16
// in two parts (gemm_bf16.h).
template <int kParts>
class Mlp {
 public:
  Mlp(const NetPlan& plan, Bf16Kernel kernel, int64_t member)
      : kernel_(kernel),
        hardware_(kernel != bf16_tile_emulated),
        state_{static_cast<Real*>(plan.weights) + member * plan.size,
               static_cast<Real*>(plan.first) + member * plan.size,
               static_cast<Real*>(plan.second) + member * plan.size,
               static_cast<Real*>(plan.target) + member * plan.size},
        packs_(static_cast<Bf16*>(plan.packs) + member * plan.packs_size, hardware_),
        size_(plan.size),
        layers_(plan) {}

  int depth() const { return layers_.depth(); }
  const Layer& layer(int index) const { return layers_[index]; }
  bool has_norm(int index) const { return layers_[index].norm > 0; }
  NormParams norm(int index, bool target) const {
    const Layer& layer = layers_[index];
    const Real* const scale = weights(target) + layer.norm;
    return {scale, scale + layer.columns(), layer.outputs};
  }

  // out(n, b) = sum over k of w(k, n) x(k, b) + bias(n), with ReLU unless the layer is the last.
  // `target` reads the target's weights instead.
  void forward(int index, bool target, const Operand& from, const Operand& to,
               Scratch& scratch) const {
    const Layer& layer = layers_[index];
    const Real* const w = weights(target) + layer.weights;
    const Real* const bias = weights(target) + layer.biases;
    const bool relu = index + 1 < depth();
    const Panels &x = from.values, &out = to.values;
    if (layer.exact) {
      for (int64_t n = 0; n < layer.outputs; ++n) {
        forward_scalar(w + n, bias[n], relu, x, out.from_row(n));
      }
    } else if constexpr (kParts == 0) {
      gemm<true>(panels(w, layer), x, layer.outputs,
                 [&](int64_t row, int64_t panel, const Real* line) __attribute__((always_inline)) {
                   Real* const at = out.line(panel, row);
                   prefetch_l2(out.line(panel + kTilePanels, row));
                   const Vec<Real> shift = fill(bias[row]);
                   for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
                     const Vec<Real> y = load(line + v) + shift;  // a NaN stays
                     store(at + v, relu ? (y < Real(0) ? Vec<Real>{} : y) : y);
                   }
                 });
    } else {
      gemm_bf16<kParts>(
          kernel_, packs_.operand(layer, target ? Pack::kTarget : Pack::kTransposed),
          down_operand<kParts>(from, scratch, hardware_), layer.columns(), x.columns, layer.rows(),
          [&](int64_t row, int64_t column, Real* sums, int64_t i) __attribute__((always_inline)) {
            add_bias(sums, i, bias + row, relu);
            if (to.packs.down == nullptr) return store_rows(sums, i, out, row, column);
            pack_activation<kParts>(sums, i, to.packs, row, column, hardware_);
          });
    }
  }

  // The slope of a hidden layer's output along that of its input: to(n, b) = sum over k of
  // w(k, n) from(k, b) where the output that it replaces is positive, else 0.
  void forward_slope(int index, const Operand& from, const Operand& to, Scratch& scratch) const {
    const Layer& layer = layers_[index];
    const Real* const w = state_.weights + layer.weights;
    const Panels &x = from.values, &out = to.values;
    const auto mask = [&](Real* at, const Real* line) __attribute__((always_inline)) {
      for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
        store(at + v, load(at + v) > Real(0) ? load(line + v) : Vec<Real>{});
      }
    };
    if (layer.exact) {
      const Panels line{scratch.left.data(), kBlock, x.columns};
      forward_scalar(w, Real(0), false, x, line);
      for (int64_t panel = 0; panel < x.panels(); ++panel) {
        mask(out.line(panel, 0), line.line(panel, 0));
      }
    } else if constexpr (kParts == 0) {
      gemm<true>(panels(w, layer), x, layer.outputs,
                 [&](int64_t row, int64_t panel, const Real* line)
                     __attribute__((always_inline)) { mask(out.line(panel, row), line); });
    } else {
      gemm_bf16<kParts>(
          kernel_, packs_.operand(layer, Pack::kTransposed),
          down_operand<kParts>(from, scratch, hardware_), layer.columns(), x.columns, layer.rows(),
          [&](int64_t row, int64_t column, Real* sums, int64_t i) __attribute__((always_inline)) {
            mask_as(to, sums, i, row, column);
            if (to.packs.down == nullptr) return store_rows(sums, i, out, row, column);
            pack_activation<kParts>(sums, i, to.packs, row, column, hardware_);
          });
    }
  }

  // Gradient in a layer's input: out(k, b) = sum over n of w(k, n) gradient(n, b). If `active` is
  // not empty, through the ReLU that produced it: where active(k, b) > 0, else 0.
  void backward(int index, const Operand& gradient, const Operand& active, const Operand& to,
                Scratch& scratch) const {
    if constexpr (kParts == 0) {
      backward_numbers(layers_[index], gradient.values, active.values, to.values);
    } else {
      backward_packed(layers_[index], gradient, active, to, scratch);
    }
  }

  // Adam's step for some of the outputs n, with the weight gradient
  // dw(k, n) = sum over b of x(k, b) gradient(n, b) and the bias gradient sum over b of
  // gradient(n, b). The target is updated in single precision only: its packs are not.  biased: how
  // many columns b, from the first one on, the bias gradient counts; 0: all.
  template <TargetUpdate kTargetUpdate = TargetUpdate::kNone>
  void apply_gradients(int index, const Operand& input, const Operand& slope, const Range& outputs,
                       const AdamFactors<Real>& factors, Scratch& scratch,
                       int64_t biased = 0) const {
    if (outputs.count() == 0) return;
    const Layer& layer = layers_[index];
    const Panels &x = input.values, &gradient = slope.values;
    const AdamFactors<Real> f = factors;
    const State state = state_.at(layer.weights + outputs.first * layer.rows());
    const Panels shape{nullptr, layer.rows(), outputs.count()};
    const auto finish = [&](int64_t row, int64_t panel, const Real* line)
                            __attribute__((always_inline)) {
                              const int64_t at = (panel * shape.rows + row) * kPanel;
                              state.at(at + kPanelsAhead * shape.rows * kPanel).prefetch();
                              state.at(at).template step<kTargetUpdate>(line, f);
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
      WeightPacker<kParts> packer = packs_.packer(state_.weights, layer);
      gemm_bf16<kParts>(kernel_, along_operand<kParts>(input, scratch, hardware_),
                        along_operand<kParts>(slope, outputs, scratch, hardware_), layer.rows(),
                        outputs.count(), x.columns,
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
    const int64_t counted = biased > 0 ? biased : gradient.columns;
    step_vector<kTargetUpdate>(layer, layer.biases, outputs, f, [&](int64_t row, Real* line) {
      if constexpr (kParts > 0) {
        if (slope.packs.along != nullptr) {
          return packed_row_sums<kParts>(slope.packs, row, counted, line);
        }
      }
      for (int64_t i = 0; i < kPanel; ++i) line[i] = row_sum(gradient.part(0, counted), row + i);
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
                                 for (int64_t i = 0; i < kPanel; ++i)
                                   line[i] = row_sum(gradient, row + i);
                               });
  }

  // Copies the weights to the target.
  void copy_to_target() const {
    std::memcpy(state_.target, state_.weights, static_cast<size_t>(size_) * sizeof(Real));
    if constexpr (kParts > 0) packs_.copy_to_target(layers_);
  }

  // Packs the weights again after they were written from outside.
  void repack(bool has_target) const {
    if constexpr (kParts > 0) {
      packs_.pack_all(layers_, state_.weights, has_target ? state_.target : nullptr);
    }
  }

 private:
  void backward_numbers(const Layer& layer, const Panels& gradient, const Panels& x,
                        const Panels& out) const {
    const Real* const w = state_.weights + layer.weights;
    const auto finish = [&](int64_t row, int64_t panel,
                            const Real* line) __attribute__((always_inline)) {
      Real* const to = out.line(panel, row);
      prefetch_l2(out.line(panel + kTilePanels, row));
      if (x.data == nullptr) {
        std::memcpy(to, line, kPanel * sizeof(Real));
        return;
      }
      const Real* const active = x.line(panel, row);
      prefetch_l2(x.line(panel + kTilePanels, row));
      for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
        store(to + v, load(active + v) > Real(0) ? load(line + v) : Vec<Real>{});
      }
    };
    if (layer.exact) {
      backward_scalar(w, layer.rows(), layer.outputs, gradient, finish);
    } else {  // all rows: the padding must become 0
      gemm<false>(panels(w, layer), gradient, layer.rows(), finish);
    }
  }

  void backward_packed(const Layer& layer, const Operand& gradient, const Operand& active,
                       const Operand& to, Scratch& scratch) const {
    const auto finish = [&](int64_t row, int64_t column, Real* sums, int64_t i)
                            __attribute__((always_inline)) {
                              mask_as(active, sums, i, row, column);
                              if (to.packs.along == nullptr)
                                return store_rows(sums, i, to.values, row, column);
                              pack_gradient<kParts>(sums, i, to.packs, row, column, hardware_);
                            };
    const int64_t columns = gradient.values.columns;
    if (!layer.exact) {
      return gemm_bf16<kParts>(kernel_, packs_.operand(layer, Pack::kPlain),
                               down_operand<kParts>(gradient, scratch, hardware_), layer.rows(),
                               columns, layer.columns(), finish);
    }
    alignas(64) Real sums[kBlock * kBlock];
    for (int64_t column = 0; column < columns; column += kBlock) {
      for (int64_t row = 0; row < layer.rows(); row += kBlock) {
        const Real* const w = state_.weights + layer.weights + row * kPanel;
        backward_scalar(w, kBlock, layer.outputs, gradient.values.part(column, kBlock),
                        [&](int64_t i, int64_t panel, const Real* line) {
                          std::memcpy(sums + (panel * kBlock + i) * kPanel, line,
                                      kPanel * sizeof(Real));
                        });
        for (int64_t i = 0; i < kBlock; i += 2) finish(row, column, sums, i);
      }
    }
  }

  const Real* weights(bool target) const { return target ? state_.target : state_.weights; }

  static Panels panels(const Real* w, const Layer& layer) {
    return {const_cast<Real*>(w), layer.rows(), layer.columns()};
  }

  // From a line to the same line of the tile that a product computes next, in panels.
  static constexpr int64_t kPanelsAhead = kParts == 0 ? kTilePanels : kBlock / kPanel;

  // Adam's step for some of the numbers of a layer that start at `offset`, one per output.
  // gradient(row, line) writes the gradient of 16 of them.
  template <TargetUpdate kTargetUpdate, typename Gradient>
  void step_vector(const Layer& layer, int64_t offset, const Range& outputs,
                   const AdamFactors<Real>& f, const Gradient& gradient) const {
    for (int64_t row = outputs.first; row < std::min(outputs.last, layer.outputs); row += kPanel) {
      alignas(64) Real line[kPanel];
      gradient(row, line);
      state_.at(offset + row).template step<kTargetUpdate>(line, f);
    }
  }

  Bf16Kernel kernel_;
  bool hardware_;  // whether the processor rounds to bf16
  State state_;
  WeightPacks<kParts> packs_;
  int64_t size_;
  Layers layers_;
};

}  // namespace FASTIFO_ISA
}  // namespace fastifo

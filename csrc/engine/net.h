// A perceptron with rectified hidden layers: forward, backward, and Adam behind the product that
// makes the gradient, so that gradients of weights never reach memory.
#pragma once

#include "common/adam_step.h"
#include "engine/half.h"
#include "engine/plan.h"
#include "engine/product.h"

namespace fastifo {
namespace FASTIFO_ISA {

// One layer's place in a net's state, which holds for each layer its weights in panels, then its
// biases.
struct Layer {
  int64_t inputs, outputs;  // true sizes
  int64_t weights, biases;  // offsets in numbers
  int64_t packs;            // offset of its packed weights

  int64_t rows() const { return padded(inputs); }
  int64_t columns() const { return padded(outputs); }
  int64_t size() const { return rows() * columns(); }
};

// A thread's memory for operands on their way into a product.
struct Scratch {
  explicit Scratch(int64_t numbers) : left(numbers), right(numbers) {}
  Buffer left, right;
};

// One member's copy of a net. kParts: 0 multiplies in single precision, 1 in bfloat16, 2 in two
// parts of bfloat16 (half.h); a layer with one output always multiplies in single precision, for
// bfloat16 is too coarse for values near 100.
template <int kParts>
class Net {
 public:
  Net(const NetPlan& plan, HalfKernel kernel, int64_t member)
      : kernel_(kernel),
        weights_(static_cast<Real*>(plan.weights) + member * plan.size),
        first_(static_cast<Real*>(plan.first) + member * plan.size),
        second_(static_cast<Real*>(plan.second) + member * plan.size),
        target_(static_cast<Real*>(plan.target) + member * plan.size),
        packs_(static_cast<Half*>(plan.packs) + member * plan.packs_size),
        size_(plan.size) {
    int64_t offset = 0, packs = 0;
    for (size_t i = 0; i + 1 < plan.widths.size(); ++i) {
      Layer& layer = layers_[i];
      layer = {plan.widths[i], plan.widths[i + 1], offset, 0, packs};
      layer.biases = offset + layer.size();
      offset = layer.biases + layer.columns();
      packs += kPacks * kParts * layer.size();
    }
    depth_ = static_cast<int>(plan.widths.size()) - 1;
  }

  int depth() const { return depth_; }
  const Layer& layer(int index) const { return layers_[index]; }

  // out(n, b) = sum over k of w(k, n) x(k, b) + bias(n), rectified if a layer follows.
  void forward(int index, bool target, const Panels& x, const Panels& out, Scratch& scratch) const {
    const Layer& layer = layers_[index];
    const Real* state = target ? target_ : weights_;
    const Real* bias = state + layer.biases;
    const bool rectified = index + 1 < depth_;
    if (layer.outputs == 1) {
      return forward_scalar(state + layer.weights, *bias, rectified, x, out);
    }
    const auto finish = [&](int64_t row, int64_t panel, const Real* line)
                            __attribute__((always_inline)) {
                              Real* to = out.line(panel, row);
                              const Vec<Real> shift = fill(bias[row]);
                              for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
                                const Vec<Real> y = load(line + v) + shift;  // a NaN stays
                                store(to + v, rectified ? (y < Real(0) ? Vec<Real>{} : y) : y);
                              }
                            };
    if constexpr (kParts == 0) {
      multiply<true>(weights(state, layer), x, layer.outputs, finish);
    } else {
      Half* const right = half(scratch.right);
      pack_right<kParts>(x, right);
      multiply_half<kParts>(kernel_, pack(layer, target ? kTarget : kTurned), right,
                            layer.columns(), x.columns, layer.rows(), finish, nothing);
    }
  }

  // out(k, b) = sum over n of w(k, n) gradient(n, b) where x(k, b) > 0, else 0.
  void backward(int index, const Panels& gradient, const Panels& x, const Panels& out,
                Scratch& scratch) const {
    const Layer& layer = layers_[index];
    const auto finish = [&](int64_t row, int64_t panel,
                            const Real* line) __attribute__((always_inline)) {
      const Real* active = x.line(panel, row);
      Real* to = out.line(panel, row);
      for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
        store(to + v, load(active + v) > Real(0) ? load(line + v) : Vec<Real>{});
      }
    };
    if (layer.outputs == 1) return backward_scalar(layer, gradient, finish);
    if constexpr (kParts == 0) {  // the padding too: it must read as 0
      multiply<false>(weights(weights_, layer), gradient, layer.rows(), finish);
    } else {
      Half* const right = half(scratch.right);
      pack_right<kParts>(gradient, right);
      multiply_half<kParts>(kernel_, pack(layer, kStraight), right, layer.rows(), gradient.columns,
                            layer.columns(), finish, nothing);
    }
  }

  // Adam's step with the gradient sum over b of x(k, b) gradient(n, b), for some of the outputs n;
  // the target follows in single precision.
  template <Follow kFollow = Follow::kNot>
  void descend(int index, const Panels& x, const Panels& gradient, const Range& outputs,
               const AdamFactors<Real>& factors, Scratch& scratch) const {
    if (outputs.count() == 0) return;
    const Layer& layer = layers_[index];
    const AdamFactors<Real> f = factors;
    Real* w = weights_ + layer.weights;
    Real* m = first_ + layer.weights;
    Real* v = second_ + layer.weights;
    Real* t = target_ + layer.weights;
    const Panels shape = weights(weights_, layer).part(outputs);
    const int64_t before = outputs.first * layer.rows();
    const auto finish = [&](int64_t row, int64_t panel, const Real* line)
                            __attribute__((always_inline)) {
                              const int64_t at = before + (shape.line(panel, row) - shape.data);
                              step_line<kFollow>(w + at, m + at, v + at, t + at, line, f);
                            };
    if (layer.outputs == 1) {
      for (int64_t row = 0; row < layer.rows(); ++row) {
        alignas(64) Real line[kPanel] = {sum_of_products(x, row, gradient)};
        finish(row, 0, line);
      }
    } else if constexpr (kParts == 0) {
      const Panels turned{scratch.left.data(), gradient.columns, outputs.count()};
      transpose_panels(gradient, outputs, turned);
      multiply<false>(x, turned, layer.rows(), finish);
    } else {
      Half *const left = half(scratch.left), *const right = half(scratch.right);
      pack_left<kParts>(x, left);
      pack_right_turned<kParts>(gradient, outputs, right);
      multiply_half<kParts>(kernel_, left, right, layer.rows(), outputs.count(), x.columns, finish,
                            [&](int64_t row, int64_t column) __attribute__((always_inline)) {
                              pack_weights<kParts>(weights(weights_, layer), row,
                                                   outputs.first + column, pack(layer, kStraight),
                                                   pack(layer, kTurned));
                            });
    }
    for (int64_t row = outputs.first; row < std::min(outputs.last, layer.outputs); row += kPanel) {
      alignas(64) Real sums[kPanel];
      for (int64_t i = 0; i < kPanel; ++i) sums[i] = sum_of(gradient, row + i);
      const int64_t at = layer.biases + row;
      step_line<kFollow>(weights_ + at, first_ + at, second_ + at, target_ + at, sums, f);
    }
  }

  static FASTIFO_INLINE void step_plain(Real* w, Real* m, Real* v, const Real* gradient,
                                        const AdamFactors<Real>& f) {
    step_line<Follow::kNot>(w, m, v, nullptr, gradient, f);
  }

  // The target takes the weights' value.
  void renew_target() const {
    std::memcpy(target_, weights_, static_cast<size_t>(size_) * sizeof(Real));
    if constexpr (kParts > 0) {
      for (int i = 0; i < depth_; ++i) {
        std::memcpy(pack(layers_[i], kTarget), pack(layers_[i], kTurned),
                    static_cast<size_t>(kParts * layers_[i].size()) * sizeof(Half));
      }
    }
  }

  // Makes the packed weights from the others, where those were written from outside.
  void repack(bool has_target) const {
    if constexpr (kParts > 0) {
      for (int i = 0; i < depth_; ++i) {
        const Layer& layer = layers_[i];
        for (int64_t row = 0; row < layer.rows(); row += kBlock) {
          for (int64_t column = 0; column < layer.columns(); column += kBlock) {
            if (has_target) {  // the straight pack is made again below
              pack_weights<kParts>(weights(target_, layer), row, column, pack(layer, kStraight),
                                   pack(layer, kTarget));
            }
            pack_weights<kParts>(weights(weights_, layer), row, column, pack(layer, kStraight),
                                 pack(layer, kTurned));
          }
        }
      }
    }
  }

 private:
  enum Pack { kStraight, kTurned, kTarget, kPacks };

  static constexpr auto nothing = [](int64_t, int64_t) {};

  Half* pack(const Layer& layer, Pack which) const {
    return packs_ + layer.packs + which * kParts * layer.size();
  }

  static Half* half(const Buffer& buffer) { return reinterpret_cast<Half*>(buffer.data()); }

  static Panels weights(const Real* state, const Layer& layer) {
    return {const_cast<Real*>(state) + layer.weights, layer.rows(), layer.columns()};
  }

  template <Follow kFollow>
  static FASTIFO_INLINE void step_line(Real* w, Real* m, Real* v, Real* target,
                                       const Real* gradient, const AdamFactors<Real>& f) {
    for (int64_t i = 0; i < kPanel; i += kLanes<Real>) {
      Vec<Real> wi = load(w + i), mi = load(m + i), vi = load(v + i), ti{};
      if constexpr (kFollow != Follow::kNot) ti = load(target + i);
      adam_step<Real, kFollow>(wi, mi, vi, load(gradient + i), ti, f);
      if constexpr (kFollow != Follow::kNot) store(target + i, ti);
      store(w + i, wi);
      store(m + i, mi);
      store(v + i, vi);
    }
  }

  // A layer of one output: its weights are number 0 of every line, its result row 0.
  static void forward_scalar(const Real* w, Real bias, bool rectified, const Panels& x,
                             const Panels& out) {
    constexpr int kSums = 4;  // hide each other's latency
    for (int64_t panel = 0; panel < x.panels(); ++panel) {
      for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
        Vec<Real> sum[kSums] = {fill(bias)};
        for (int64_t row = 0; row < x.rows; row += kSums) {
          for (int i = 0; i < kSums; ++i) {
            sum[i] += w[(row + i) * kPanel] * load(x.line(panel, row + i) + v);
          }
        }
        const Vec<Real> y = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        store(out.line(panel, 0) + v, rectified ? (y < Real(0) ? Vec<Real>{} : y) : y);
      }
    }
  }

  template <typename Finish>
  void backward_scalar(const Layer& layer, const Panels& gradient, const Finish& finish) const {
    const Real* w = weights_ + layer.weights;
    for (int64_t panel = 0; panel < gradient.panels(); ++panel) {
      for (int64_t row = 0; row < layer.rows(); ++row) {
        alignas(64) Real line[kPanel];
        for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
          store(line + v, load(gradient.line(panel, 0) + v) * w[row * kPanel]);
        }
        finish(row, panel, line);
      }
    }
  }

  static FASTIFO_INLINE Real sum_of_products(const Panels& x, int64_t row, const Panels& other) {
    Vec<Real> sum{};
    for (int64_t panel = 0; panel < x.panels(); ++panel) {
      for (int64_t i = 0; i < kPanel; i += kLanes<Real>) {
        sum += load(x.line(panel, row) + i) * load(other.line(panel, 0) + i);
      }
    }
    return sum_of_lanes(sum);
  }

  static FASTIFO_INLINE Real sum_of(const Panels& values, int64_t row) {
    Vec<Real> sum{};
    for (int64_t panel = 0; panel < values.panels(); ++panel) {
      for (int64_t i = 0; i < kPanel; i += kLanes<Real>) sum += load(values.line(panel, row) + i);
    }
    return sum_of_lanes(sum);
  }

  static FASTIFO_INLINE Real sum_of_lanes(Vec<Real> sum) {
    Real total = Real(0);
    for (int i = 0; i < kLanes<Real>; ++i) total += sum[i];
    return total;
  }

  static constexpr int kMaxDepth = 16;

  HalfKernel kernel_;
  Real* weights_;
  Real* first_;
  Real* second_;
  Real* target_;
  Half* packs_;
  int64_t size_;
  int depth_ = 0;
  Layer layers_[kMaxDepth];
};

}  // namespace FASTIFO_ISA
}  // namespace fastifo

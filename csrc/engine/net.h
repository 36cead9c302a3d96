// A perceptron with rectified hidden layers: forward, backward, and Adam behind the product that
// makes the gradient, so that gradients of weights never reach memory.
#pragma once

#include "common/adam_step.h"
#include "engine/plan.h"
#include "engine/product.h"

namespace fastifo {
namespace FASTIFO_ISA {

// One layer's place in a net's state, which holds for each layer its weights in panels, then its
// biases.
struct Layer {
  int64_t inputs, outputs;  // true sizes
  int64_t weights, biases;  // offsets in numbers

  int64_t rows() const { return padded(inputs); }
  int64_t columns() const { return padded(outputs); }
};

// One member's copy of a net.
class Net {
 public:
  Net(const NetPlan& plan, int64_t member)
      : weights_(static_cast<Real*>(plan.weights) + member * plan.size),
        first_(static_cast<Real*>(plan.first) + member * plan.size),
        second_(static_cast<Real*>(plan.second) + member * plan.size),
        target_(static_cast<Real*>(plan.target) + member * plan.size),
        size_(plan.size) {
    int64_t offset = 0;
    for (size_t i = 0; i + 1 < plan.widths.size(); ++i) {
      Layer& layer = layers_[i];
      layer = {plan.widths[i], plan.widths[i + 1], offset, 0};
      layer.biases = offset + layer.rows() * layer.columns();
      offset = layer.biases + layer.columns();
    }
    depth_ = static_cast<int>(plan.widths.size()) - 1;
  }

  int depth() const { return depth_; }
  const Layer& layer(int index) const { return layers_[index]; }

  // out(n, b) = sum over k of w(k, n) x(k, b) + bias(n), rectified if a layer follows.
  void forward(int index, bool target, const Panels& x, const Panels& out) const {
    const Layer& layer = layers_[index];
    const Real* state = target ? target_ : weights_;
    const Real* bias = state + layer.biases;
    const bool rectified = index + 1 < depth_;
    multiply<true>(weights(state, layer), x, layer.outputs,
                   [&](int64_t row, int64_t panel, const Real* line)
                       __attribute__((always_inline)) {
                         Real* to = out.line(panel, row);
                         const Vec<Real> shift = fill(bias[row]);
                         for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
                           const Vec<Real> y = load(line + v) + shift;  // a NaN stays
                           store(to + v, rectified ? (y < Real(0) ? Vec<Real>{} : y) : y);
                         }
                       });
  }

  // out(k, b) = sum over n of w(k, n) gradient(n, b) where x(k, b) > 0, else 0.
  void backward(int index, const Panels& gradient, const Panels& x, const Panels& out) const {
    const Layer& layer = layers_[index];
    multiply<false>(
        weights(weights_, layer), gradient, layer.rows(),  // the padding too: it must read as 0
        [&](int64_t row, int64_t panel, const Real* line) __attribute__((always_inline)) {
          const Real* active = x.line(panel, row);
          Real* to = out.line(panel, row);
          for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
            store(to + v, load(active + v) > Real(0) ? load(line + v) : Vec<Real>{});
          }
        });
  }

  // Adam's step with the gradient sum over b of x(k, b) gradient(n, b); `turned` is the gradient
  // transposed.
  void descend(int index, const Panels& x, const Panels& gradient, const Panels& turned,
               const AdamFactors<Real>& factors) const {
    const Layer& layer = layers_[index];
    const AdamFactors<Real> f = factors;
    Real* w = weights_ + layer.weights;
    Real* m = first_ + layer.weights;
    Real* v = second_ + layer.weights;
    const Panels shape = weights(weights_, layer);
    multiply<false>(x, turned, layer.rows(),
                    [&](int64_t row, int64_t panel, const Real* line)
                        __attribute__((always_inline)) {
                          const int64_t at = shape.line(panel, row) - shape.data;
                          step_line(w + at, m + at, v + at, line, f);
                        });
    for (int64_t row = 0; row < layer.columns(); row += kPanel) {
      alignas(64) Real sums[kPanel];
      for (int64_t i = 0; i < kPanel; ++i) sums[i] = sum_of(gradient, row + i);
      const int64_t at = layer.biases + row;
      step_line(weights_ + at, first_ + at, second_ + at, sums, f);
    }
  }

  // The target takes the weights' value.
  void renew_target() const {
    std::memcpy(target_, weights_, static_cast<size_t>(size_) * sizeof(Real));
  }

 private:
  static Panels weights(const Real* state, const Layer& layer) {
    return {const_cast<Real*>(state) + layer.weights, layer.rows(), layer.columns()};
  }

  static FASTIFO_INLINE void step_line(Real* w, Real* m, Real* v, const Real* gradient,
                                       const AdamFactors<Real>& f) {
    for (int64_t i = 0; i < kPanel; i += kLanes<Real>) {
      Vec<Real> wi = load(w + i), mi = load(m + i), vi = load(v + i), none;
      adam_step<Real, Follow::kNot>(wi, mi, vi, load(gradient + i), none, f);
      store(w + i, wi);
      store(m + i, mi);
      store(v + i, vi);
    }
  }

  static FASTIFO_INLINE Real sum_of(const Panels& values, int64_t row) {
    Vec<Real> sum{};
    for (int64_t panel = 0; panel < values.panels(); ++panel) {
      for (int64_t i = 0; i < kPanel; i += kLanes<Real>) sum += load(values.line(panel, row) + i);
    }
    Real total = Real(0);
    for (int i = 0; i < kLanes<Real>; ++i) total += sum[i];
    return total;
  }

  static constexpr int kMaxDepth = 16;

  Real* weights_;
  Real* first_;
  Real* second_;
  Real* target_;
  int64_t size_;
  int depth_ = 0;
  Layer layers_[kMaxDepth];
};

}  // namespace FASTIFO_ISA
}  // namespace fastifo

// Layer normalisation on panels: each column (row of the batch) is normalised over its features.
// Source: Ba et al. 2016, arXiv:1607.06450, on the output of a ReLU.
#pragma once

#include "engine/sums.h"

namespace fastifo {
namespace FASTIFO_ISA {

constexpr double kNormEps = 1e-5;  // as in fastifo/nn/mlp.py

// The parameters of one layer, 0 beyond `features`.
struct NormParams {
  const Real* scale;
  const Real* shift;
  int64_t features;
};

// The rows of a layer's statistics: of each column the mean, and 1 / deviation.
enum NormStatistic { kNormMean, kNormInverse, kNormStatistics };

// The sum of term(feature), in independent partial sums that hide latency.
template <typename Term>
FASTIFO_INLINE Vec<Real> sum_features(int64_t features, const Term& term) {
  constexpr int kSums = 4;
  Vec<Real> sum[kSums] = {};
  int64_t feature = 0;
  for (; feature + kSums <= features; feature += kSums) {
    for (int i = 0; i < kSums; ++i) sum[i] += term(feature + i);
  }
  for (; feature < features; ++feature) sum[0] += term(feature);
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// out = scale * (x - mean) / sqrt(variance + eps) + shift.
//
// x, out: [features, columns]; the padding of `out` is left as it is.
// statistics: [kNormStatistics, columns], written for `layer_norm_backward`.
inline void layer_norm(const NormParams& norm, const Panels& x, const Panels& statistics,
                       const Panels& out) {
  const Real share = Real(1) / static_cast<Real>(norm.features);
  for (int64_t panel = 0; panel < x.panels(); ++panel) {
    for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
      const Real* const from = x.panel(panel) + v;
      const Vec<Real> mean =
          share * sum_features(norm.features, [&](int64_t f) { return load(from + f * kPanel); });
      const Vec<Real> variance = share * sum_features(norm.features, [&](int64_t f) {
                                   const Vec<Real> distance = load(from + f * kPanel) - mean;
                                   return distance * distance;
                                 });
      const Vec<Real> inverse = reciprocal(root(variance + static_cast<Real>(kNormEps)));
      for (int64_t f = 0; f < norm.features; ++f) {
        const Vec<Real> normalised = (load(from + f * kPanel) - mean) * inverse;
        store(out.line(panel, f) + v, normalised * norm.scale[f] + norm.shift[f]);
      }
      store(statistics.line(panel, kNormMean) + v, mean);
      store(statistics.line(panel, kNormInverse) + v, inverse);
    }
  }
}

// Gradient in the input of the ReLU before the norm. With n the normalised x and s = scale * g:
// out = (s - mean(s) - n * mean(s * n)) / deviation where x > 0, else 0.
//
// gradient: g, in the norm's output.  x, statistics: of the forward pass.  All rows of `out` are
// written.
inline void layer_norm_backward(const NormParams& norm, const Panels& gradient, const Panels& x,
                                const Panels& statistics, const Panels& out) {
  const Real share = Real(1) / static_cast<Real>(norm.features);
  for (int64_t panel = 0; panel < x.panels(); ++panel) {
    for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
      const Vec<Real> mean = load(statistics.line(panel, kNormMean) + v);
      const Vec<Real> inverse = load(statistics.line(panel, kNormInverse) + v);
      const auto scaled = [&](int64_t f) {
        return load(gradient.line(panel, f) + v) * norm.scale[f];
      };
      const auto normalised = [&](int64_t f) {
        return (load(x.line(panel, f) + v) - mean) * inverse;
      };
      const Vec<Real> level = share * sum_features(norm.features, scaled);
      const Vec<Real> slope =
          share * sum_features(norm.features, [&](int64_t f) { return scaled(f) * normalised(f); });
      for (int64_t f = 0; f < out.rows; ++f) {
        const Vec<Real> value = (scaled(f) - level - normalised(f) * slope) * inverse;
        store(out.line(panel, f) + v, load(x.line(panel, f) + v) > Real(0) ? value : Vec<Real>{});
      }
    }
  }
}

// Gradient in the scale of one feature: the sum of g * n over all columns.
inline Real scale_gradient(const Panels& gradient, const Panels& x, const Panels& statistics,
                           int64_t feature) {
  Vec<Real> sum{};
  for (int64_t panel = 0; panel < x.panels(); ++panel) {
    for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
      const Vec<Real> distance =
          load(x.line(panel, feature) + v) - load(statistics.line(panel, kNormMean) + v);
      sum += load(gradient.line(panel, feature) + v) * distance *
             load(statistics.line(panel, kNormInverse) + v);
    }
  }
  return sum_lanes(sum);
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

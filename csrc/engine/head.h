// The discretised-action head on logits in panels: likelihood of the actions, and the gradient in
// their place.
#pragma once

#include "common/bins.h"
#include "engine/panels.h"

namespace fastifo {
namespace FASTIFO_ISA {

// Returns the sum over rows of weight * sum over dimensions of -log p[bin], over `total_rows`;
// `logits` become its gradient. Columns beyond `rows` get a gradient of 0.
//
// logits: [dims * bins, rows] and more.  bin: [rows, dims], of the actions.
FASTIFO_INLINE double head_loss(Tile<Real>& tile, const Panels& logits, const int32_t* bin,
                                const Real* weight, int64_t rows, int64_t dims, int64_t bins,
                                int64_t total_rows) {
  constexpr int64_t kWidth = kLanes<Real>;
  double loss = 0.0;
  for (int64_t first = 0; first < logits.columns; first += kWidth) {
    Real* const lines = logits.panel(first / kPanel) + first % kPanel;
    const int64_t count = std::clamp<int64_t>(rows - first, 0, kWidth);
    double below[kWidth] = {}, product[kWidth], nll[kWidth] = {};
    for (double& p : product) p = 1.0;
    for (int64_t dim = 0; dim < dims; ++dim) {
      Real* const own = lines + dim * bins * kPanel;
      const int32_t* const chosen = bin + first * dims + dim;
      Real largest[kWidth], total[kWidth], factor[kWidth] = {};
      store(largest, tile.smooth_lines(own, kPanel));
      for (int64_t i = 0; i < count; ++i) {
        below[i] += static_cast<double>(largest[i] - tile.at(chosen[i * dims], i));
      }
      store(total, tile.template exponentiate<true>(load(largest)));
      for (int64_t i = 0; i < count; ++i) {
        const int64_t k = chosen[i * dims];
        tile.at(k, i) -= total[i] * tile.norm(k);
        factor[i] = weight[first + i] / (static_cast<Real>(total_rows) * total[i]);
        product[i] *= static_cast<double>(total[i]);  // one logarithm for many sums
        if (product[i] > 1e200) {
          nll[i] += std::log(product[i]);
          product[i] = 1.0;
        }
      }
      tile.write_filtered_lines(load(factor), own, kPanel);
    }
    for (int64_t i = 0; i < count; ++i) {
      loss += static_cast<double>(weight[first + i]) * (nll[i] + below[i] + std::log(product[i]));
    }
  }
  return loss / static_cast<double>(total_rows);
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

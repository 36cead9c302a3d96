// The discretised-action head on logits in panels: likelihood of the actions, and the gradient in
// their place.
#pragma once

#include "common/bins.h"
#include "engine/panels.h"
#include "engine/plan.h"

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

namespace {

// What the head has of the rows of one batch, shared by a member's lanes.
class Head {
 public:
  Head(const Plan& plan, int64_t rows)
      : plan_(plan),
        bin_(rows * std::max<int64_t>(1, plan.action_dim)),
        loss_(rows / kBlock * kWords),
        blocks_(rows / kBlock) {}

  // int32 [rows, action_dim], of the actions.
  int32_t* bins() const { return reinterpret_cast<int32_t*>(bin_.data()); }

  // Loss of some rows; the gradient takes the logits' place. Each source has its rows from a
  // multiple of `stride` on.
  void judge(Tile<Real>& tile, int64_t member, const Panels& logits, const Range& rows,
             int64_t stride, const Real* weight) const {
    tile.use(static_cast<const Real*>(plan_.taps) + member * (plan_.radius + 1),
             static_cast<const Real*>(plan_.norm) + member * plan_.bins);
    for (int64_t row = rows.first; row < rows.last; row += kBlock) {
      const int64_t count = std::clamp<int64_t>(plan_.batch - row % stride, 0, kBlock);
      losses()[row / kBlock] =
          head_loss(tile, logits.part(row, kBlock), bins() + row * plan_.action_dim, weight + row,
                    count, plan_.action_dim, plan_.bins, plan_.batch * plan_.policy_sources);
    }
  }

  // A loss that another head found for all rows.
  void take(double loss) const { losses()[0] = loss; }

  // Over all rows, once every lane has judged its own.
  double loss() const {
    double total = 0.0;
    for (int64_t i = 0; i < blocks_; ++i) total += losses()[i];
    return total;
  }

 private:
  static constexpr int64_t kWords = sizeof(double) / sizeof(Real);  // that a double takes

  double* losses() const { return reinterpret_cast<double*>(loss_.data()); }

  const Plan& plan_;
  Buffer bin_;
  Buffer loss_;  // double, of each block of rows
  int64_t blocks_;
};

}  // namespace
}  // namespace FASTIFO_ISA
}  // namespace fastifo

// The loss of the discretised-action head on logits in panels. The gradient replaces the logits.
#pragma once

#include "common/bins.h"
#include "engine/panels.h"
#include "engine/plan.h"

namespace fastifo {
namespace FASTIFO_ISA {

// Returns the sum over rows of weight * sum over dimensions of -log p[bin], divided by
// `total_rows`. `logits` is replaced by the gradient in it, which is 0 in the padding.
//
// logits: [dims * bins, rows], padded.  bin: [rows, dims], of the actions.  weight: [rows].
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
      Real* const logit = lines + dim * bins * kPanel;
      const int32_t* const chosen = bin + first * dims + dim;
      Real largest[kWidth], total[kWidth], factor[kWidth] = {};
      store(largest, tile.smooth_lines(logit, kPanel));
      for (int64_t i = 0; i < count; ++i) {
        below[i] += static_cast<double>(largest[i] - tile.at(chosen[i * dims], i));
      }
      store(total, tile.template exponentiate<true>(load(largest)));
      for (int64_t i = 0; i < count; ++i) {
        const int64_t k = chosen[i * dims];
        tile.at(k, i) -= total[i] * tile.norm(k);
        factor[i] = weight[first + i] / (static_cast<Real>(total_rows) * total[i]);
        product[i] *= static_cast<double>(total[i]);  // one logarithm for several sums
        if (product[i] > 1e200) {
          nll[i] += std::log(product[i]);
          product[i] = 1.0;
        }
      }
      tile.write_filtered_lines(load(factor), logit, kPanel);
    }
    for (int64_t i = 0; i < count; ++i) {
      loss += static_cast<double>(weight[first + i]) * (nll[i] + below[i] + std::log(product[i]));
    }
  }
  return loss / static_cast<double>(total_rows);
}

namespace {

// The head's state for one batch, shared by a member's threads.
class Head {
 public:
  Head(const Plan& plan, int64_t rows)
      : plan_(plan),
        bin_(rows * std::max<int64_t>(1, plan.action_dim)),
        loss_(rows / kBlock * kWords),
        blocks_(rows / kBlock) {}

  // The bins of the actions, int32 [rows, action_dim].
  int32_t* bins() const { return reinterpret_cast<int32_t*>(bin_.data()); }

  // Computes the loss of some rows and replaces their logits by the gradient. Each source's rows
  // begin at a multiple of `stride`.
  void compute_loss(Tile<Real>& tile, int64_t member, const Panels& logits, const Range& rows,
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

  // Sets the loss of all rows, where another head computed it.
  void set_loss(double loss) const { losses()[0] = loss; }

  // The loss of all rows, once every thread has computed its part.
  double loss() const {
    double total = 0.0;
    for (int64_t i = 0; i < blocks_; ++i) total += losses()[i];
    return total;
  }

 private:
  static constexpr int64_t kWords = sizeof(double) / sizeof(Real);  // numbers that hold a double

  double* losses() const { return reinterpret_cast<double*>(loss_.data()); }

  const Plan& plan_;
  Buffer bin_;
  Buffer loss_;  // double [rows / kBlock]: one per block, so that threads do not share an entry
  int64_t blocks_;
};

}  // namespace
}  // namespace FASTIFO_ISA
}  // namespace fastifo

// The losses of the discretised-action head and of the deterministic head on panels. The gradient
// replaces the net's output.
#pragma once

#include "common/bins.h"
#include "engine/deterministic.h"
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

// The head's state for one batch, shared by a member's threads. Without bins it is deterministic.
class Head {
 public:
  Head(const Plan& plan, int64_t rows)
      : plan_(plan),
        bin_(plan.bins > 0 ? rows * plan.action_dim : 0),
        error_(plan.action_dim, plan.bins > 0 ? 0 : rows),
        distance_(plan.bins > 0 ? 0 : rows),
        loss_(rows / kBlock * kWords),
        blocks_(rows / kBlock) {}

  // The bins of the actions, int32 [rows, action_dim]; null for a head without bins.
  int32_t* bins() const {
    return plan_.bins > 0 ? reinterpret_cast<int32_t*>(bin_.data()) : nullptr;
  }

  // Computes the loss of some rows and replaces their outputs by the gradient. Each source's rows
  // begin at a multiple of `stride`.  action: [action_dim, rows] of the data, unused with bins.
  void compute_loss(Tile<Real>& tile, int64_t member, const Panels& outputs, const Range& rows,
                    int64_t stride, const Real* weight, const Panels& action) const {
    const int64_t total_rows = plan_.batch * plan_.policy_sources;
    if (plan_.bins > 0) {
      tile.use(static_cast<const Real*>(plan_.taps) + member * (plan_.radius + 1),
               static_cast<const Real*>(plan_.norm) + member * plan_.bins);
    }
    for (int64_t row = rows.first; row < rows.last; row += kBlock) {
      const int64_t count = std::clamp<int64_t>(plan_.batch - row % stride, 0, kBlock);
      losses()[row / kBlock] =
          plan_.bins > 0
              ? head_loss(tile, outputs.part(row, kBlock), bins() + row * plan_.action_dim,
                          weight + row, count, plan_.action_dim, plan_.bins, total_rows)
              : squared_error(outputs, {row, row + kBlock}, count, weight, action, total_rows);
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
  // The deterministic head: sum over some rows of weight * |tanh(outputs) - action|^2, divided by
  // `total_rows` and, unless `sums_error`, by the number of dimensions. Rows from `count` on,
  // counted from the first of them, are padding.
  double squared_error(const Panels& outputs, const Range& rows, int64_t count, const Real* weight,
                       const Panels& action, int64_t total_rows) const {
    const int64_t terms = plan_.flag("sums_error") ? total_rows : total_rows * plan_.action_dim;
    const ActionPanels actions{plan_.action_dim, outputs, action, error_, distance_.data()};
    actions.write(rows, rows.first + count, [&](int64_t panel, int64_t dim, int64_t v) {
      return tanh(load(outputs.line(panel, dim) + v));
    });
    double loss = 0.0;
    for (int64_t row = rows.first; row < rows.first + count; ++row) {
      loss += static_cast<double>(weight[row]) * static_cast<double>(distance_.data()[row]);
    }
    const Real share = Real(2) / static_cast<Real>(terms);
    const auto slope = [&](int64_t panel, int64_t dim, int64_t v) {
      return share * load(weight + panel * kPanel + v) * load(actions.error.line(panel, dim) + v);
    };
    actions.write_gradient(rows, rows.first + count, slope, outputs);
    return loss / static_cast<double>(terms);
  }

  static constexpr int64_t kWords = sizeof(double) / sizeof(Real);  // numbers that hold a double

  double* losses() const { return reinterpret_cast<double*>(loss_.data()); }

  const Plan& plan_;
  Buffer bin_;
  Matrix error_;     // of the deterministic head, [action_dim, rows]
  Buffer distance_;  // [rows]
  Buffer loss_;      // double [rows / kBlock]: one per block, so that threads do not share an entry
  int64_t blocks_;
};

}  // namespace
}  // namespace FASTIFO_ISA
}  // namespace fastifo

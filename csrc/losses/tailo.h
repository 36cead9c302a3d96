// TAILO's weighted cloning (fastifo/algos/tailo.py): the column of rewards holds each transition's
// weight. Source: Yan et al. 2023, arXiv:2311.01329. One source: background.
#pragma once

#include "losses/batch.h"

namespace fastifo {

template <typename Real>
struct TAILO {
  static constexpr const char* kName = "tailo";
  static constexpr const char* kMetrics[] = {"policy_loss", "weight_mean"};

  template <typename Numbers>
  TAILO(const Numbers&, int64_t) {}

  // Policy: L = -E_B[w log pi(a | s)].
  template <typename Team>
  FASTIFO_HOST_DEVICE void loss_and_weights(const Team& team, const BatchView<Real>& batch,
                                            const LossOutputs<Real>& out) const {
    out.metrics[1] = mean_of(team, batch.batch, [&](int64_t i) {
      out.weight[i] = batch.reward[i];
      return out.weight[i];
    });
  }
};

}  // namespace fastifo

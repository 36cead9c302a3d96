// What every method's `judge` reads and writes: one member's rows of one update. The methods are
// host-device inline and loop through a `team` (one thread here, a block on a GPU) that offers
// each(count, body), sum(count, term) and max(count, term).
#pragma once

#include <cmath>
#include <cstdint>

#include "common/philox.h"

namespace fastifo {

// Row r of source s stands at s * stride + r.
template <typename Real>
struct Seen {
  int64_t sources, batch, stride;
  const Real* output;          // of the scalar net on the observation
  const Real* next_value;      // on the next observation: of the target copy, or the net itself
  const Real* own_next_value;  // of the online net on the policy rows' next, or null
  const Real* reward;          // null where no source has any
  const Real* terminal;        // 0 or 1
  const Real* uniform;         // [batch] in [0, 1), or null
};

template <typename Real>
struct Judged {
  Real* gradient;       // of the loss in `output`
  Real* next_gradient;  // in `next_value`, where the gradient passes through it, else null
  Real* weight;         // of the policy's rows, row r of its source s at s * stride + r, 1 before
  double* metrics;      // one number each, in the order of kMetrics
};

// log(1 + exp(x)) without overflow.
template <typename Real>
FASTIFO_HOST_DEVICE Real softplus(Real x) {
  return (x > Real(0) ? x : Real(0)) + std::log1p(std::exp(-std::fabs(x)));
}

template <typename Real>
FASTIFO_HOST_DEVICE Real sigmoid(Real x) {
  return Real(1) / (Real(1) + std::exp(-x));
}

}  // namespace fastifo

// What a batch loss reads and writes, and the team that computes it.
//
// A loss is a host-device template over a `Team`: SerialTeam (serial_team.h) is one CPU thread, in
// the ops and in the native engine; BlockTeam (block_team.cuh) is a CUDA block. Both offer
//   each(rows, body)      body(i) for every row
//   sums<N>(rows, terms)  the N totals of the Sums<N> that terms(i) returns, in a fixed order
//   max(rows, term)       the largest term(i), ignoring NaN; -infinity for no rows
//   capped_exp(rows, exponent, cap, weight)
//                         weight[i] = min(exp(exponent(i)), cap); returns {sum of the weights,
//                         number of rows at the cap}. exponent(i) may read weight[i].
//   leads()               true in one thread, which writes the results that are not rows
// Every member function visits a row in the same thread, so a thread may read what it wrote for a
// row without a barrier. What they return is the same in all threads.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "common/host_device.h"

namespace fastifo {

// Constants, not function calls, for device code too.
template <typename Real>
constexpr Real kInfinity = std::numeric_limits<Real>::infinity();
template <typename Real>
constexpr Real kSmallest = std::numeric_limits<Real>::min();  // the smallest normal number

// The rows a team visits: row r of source s has index s * stride + r.
struct Rows {
  int64_t sources, batch, stride;

  FASTIFO_HOST_DEVICE Rows(int64_t count) : sources(1), batch(count), stride(count) {}
  FASTIFO_HOST_DEVICE Rows(int64_t source_count, int64_t batch_size, int64_t row_stride)
      : sources(source_count), batch(batch_size), stride(row_stride) {}

  FASTIFO_HOST_DEVICE int64_t count() const { return sources * batch; }
};

// One term, or the total, of each of N sums.
template <int N>
struct Sums {
  double value[N];

  FASTIFO_HOST_DEVICE double operator[](int n) const { return value[n]; }
};

// One member's batch in the native engine: row r of source s has index s * stride + r. A loss whose
// scalar net has several outputs declares their number as `kOutputs`; output n is `output_stride`
// numbers after output n - 1, in all arrays of outputs and of gradients.
template <typename Real>
struct BatchView {
  int64_t sources, batch, stride;
  const Real* output;             // [sources * stride] of the scalar net at the observation
  const Real* next_value;         // [sources * stride] at the next one: target copy or the net
  const Real* online_next_value;  // [policy sources * stride] of the online net, or null
  const Real* reward;             // [sources * stride], null where no source has rewards
  const Real* terminal;           // [sources * stride] 0 or 1
  const Real* uniform;            // [batch] in [0, 1), or null
  int64_t output_stride = 0;      // from one output of the scalar net to the next
  // [batch] |z(s) - z(s')|^2 of the rows of the two sources that the loss declares as
  // `kEmbeddedSources`, or null. z has length 1.
  const Real* embedding_distance = nullptr;

  // The rows of the first `count` sources.
  FASTIFO_HOST_DEVICE Rows rows(int64_t count) const { return {count, batch, stride}; }
};

template <typename Real>
struct LossOutputs {
  Real* gradient;       // [sources * stride] of the loss in `output`
  Real* next_gradient;  // [sources * stride] in `next_value` if the gradient passes there, or null
  Real* weight;         // [policy sources * stride] of the policy's rows; 1 on entry
  double* metrics;      // [kMetrics], private to each thread; the engine fills in policy_loss
};

// The number of outputs of a loss's scalar net.
template <typename Loss>
constexpr int64_t output_count() {
  if constexpr (requires { Loss::kOutputs; }) return Loss::kOutputs;
  return 1;
}

// The mean of x(i); NaN for no rows.
template <typename Team, typename Value>
FASTIFO_HOST_DEVICE double mean_of(const Team& team, const Rows& rows, const Value& x) {
  const Sums<1> total = team.template sums<1>(
      rows, [&](int64_t i) -> Sums<1> { return {{static_cast<double>(x(i))}}; });
  return total[0] / static_cast<double>(rows.count());
}

// The mean output of the scalar net over one source's rows.
template <typename Team, typename Real>
FASTIFO_HOST_DEVICE double mean_output(const Team& team, const BatchView<Real>& batch,
                                       int64_t source) {
  const Real* const output = batch.output + source * batch.stride;
  return mean_of(team, batch.batch, [&](int64_t i) { return output[i]; });
}

// x, at most `limit` in size; a NaN stays.
template <typename Real>
FASTIFO_HOST_DEVICE Real limited(Real x, Real limit) {
  return x > limit ? limit : x < -limit ? -limit : x;
}

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

// What methods share whose gradient passes through the values of both ends of a transition.
#pragma once

#include "methods/advantage.h"

namespace fastifo {

// metrics: mean and deviation of `count` residuals.
template <typename Team, typename Real>
FASTIFO_HOST_DEVICE void describe_residual(const Team& team, const Real* residual, int64_t count,
                                           double* metrics) {
  const double size = static_cast<double>(count);
  const double mean = team.sum(count, [&](int64_t row) { return double(residual[row]); }) / size;
  metrics[0] = mean;
  metrics[1] = std::sqrt(team.sum(count, [&](int64_t row) {
    const double distance = residual[row] - mean;
    return distance * distance;
  }) / size);
}

}  // namespace fastifo

// Encodes observations and writes them to panels.
#pragma once

#include "engine/panels.h"
#include "engine/plan.h"

namespace fastifo {
namespace FASTIFO_ISA {

// Standardises and encodes one feature of 16 observations and writes it to one panel of each of the
// two matrices `to`, of which any may have null data.
//   out(feature * scales + s) = tanh(scale[s] * (x - mean) / deviation)
FASTIFO_INLINE void encode_line(const Plan& plan, int64_t feature, const Real* numbers,
                                const Panels* to, int64_t panel) {
  const Real* const mean = static_cast<const Real*>(plan.mean);
  const Real* const deviation = static_cast<const Real*>(plan.deviation);
  const int64_t scales = static_cast<int64_t>(plan.scale.size());
  for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
    Vec<Real> x = load(numbers + v);
    if (mean != nullptr) x = (x - mean[feature]) / deviation[feature];
    for (int64_t s = 0; s < std::max<int64_t>(1, scales); ++s) {
      const Vec<Real> y =
          scales == 0 ? x : tanh(x * static_cast<Real>(plan.scale[static_cast<size_t>(s)]));
      const int64_t row = feature * std::max<int64_t>(1, scales) + s;
      for (int t = 0; t < 2 && to[t].data != nullptr; ++t) {
        store(to[t].line(panel, row) + v, y);
      }
    }
  }
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

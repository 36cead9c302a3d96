// One step of Adam on a vector of parameters, shared by the Adam op and the engine.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/simd.h"

namespace fastifo {
namespace FASTIFO_ISA {

// The factors of one member's step.
template <typename T>
struct AdamFactors {
  T keep;         // 1 - rate * decay if decoupled, else 1
  T decay;        // added to the gradient times the parameter if not decoupled, else 0
  T first_share;  // 1 - beta1
  T beta2;
  T second_share;  // 1 - beta2
  T inverse_root;  // 1 / sqrt(1 - beta2^t)
  T eps;
  T step;  // rate / (1 - beta1^t)
  T polyak;
};

// How the target follows in the same step.
enum class TargetUpdate { kNone, kCopy, kPolyak };

// One step of one vector of parameters w with gradient g:
//   w *= keep;  g += decay * w;  m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2;
//   w -= rate / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps);  target += polyak (w - target)
// Source: Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1; `keep` is decoupled weight decay,
// Loshchilov and Hutter 2019, arXiv:1711.05101.
template <typename T, TargetUpdate kUpdate>
FASTIFO_INLINE void adam_step(Vec<T>& w, Vec<T>& m, Vec<T>& v, Vec<T> g, Vec<T>& target,
                              const AdamFactors<T>& f) {
  w *= f.keep;
  if (f.decay != T(0)) g += f.decay * w;
  m += f.first_share * (g - m);
  v = f.beta2 * v + f.second_share * g * g;
  w -= f.step * m * reciprocal(root(v) * f.inverse_root + f.eps);
  if constexpr (kUpdate == TargetUpdate::kCopy) target = w;
  if constexpr (kUpdate == TargetUpdate::kPolyak) target += f.polyak * (w - target);
}

// The factors of update `update`, counted from 0, so t = update + 1.
template <typename T>
FASTIFO_INLINE AdamFactors<T> adam_factors(int64_t update, double rate, double decay, double polyak,
                                           bool decoupled, double beta1, double beta2, double eps) {
  const double t = static_cast<double>(update + 1);
  return {static_cast<T>(decoupled ? 1.0 - rate * decay : 1.0),
          static_cast<T>(decoupled ? 0.0 : decay),
          static_cast<T>(1.0 - beta1),
          static_cast<T>(beta2),
          static_cast<T>(1.0 - beta2),
          static_cast<T>(1.0 / std::sqrt(1.0 - std::pow(beta2, t))),
          static_cast<T>(eps),
          static_cast<T>(rate / (1.0 - std::pow(beta1, t))),
          static_cast<T>(polyak)};
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

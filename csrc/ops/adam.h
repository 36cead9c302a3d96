// One Adam step for every parameter of every member, then the target's update:
//   m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2
//   w -= rate / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps),  t = update + 1
//   target += polyak (w - target) where t is a multiple of `every`; polyak 1 copies w
// decoupled: w *= 1 - rate * decay first; else g += decay * w.
#pragma once

#include <cstdint>
#include <vector>

#include "common/check.h"
#include "common/isa.h"

namespace fastifo {

// One parameter tensor: six entries of `plan`, in this order. Each array is [members, size].
struct AdamTensor {
  void* parameter;
  void* first;
  void* second;
  const void* gradient;
  void* target;  // or null
  int64_t size;  // numbers of one member
};
constexpr int kAdamEntries = 6;

FASTIFO_EACH_ISA(template <typename T> void adam_cpu(const std::vector<int64_t>& plan,
                                                     const int64_t* update,  // [1]
                                                     const double* rate, const double* decay,
                                                     const double* polyak,  // [members]
                                                     int64_t members, int64_t every,
                                                     int64_t decoupled, double beta1, double beta2,
                                                     double eps);)

template <typename T>
void adam_cuda(const std::vector<int64_t>& plan, const int64_t* update, const double* rate,
               const double* decay, const double* polyak, int64_t members, int64_t every,
               int64_t decoupled, double beta1, double beta2, double eps, cudaStream_t stream);

}  // namespace fastifo

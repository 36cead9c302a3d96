// Discounted return-to-go inside each episode: out[i] = reward[i] + gamma * out[i + 1], with 0
// after an episode's last row. The sum is carried in double.
#pragma once

#include <cstdint>

#include "common/check.h"
#include "common/isa.h"

namespace fastifo {

FASTIFO_EACH_ISA(template <typename T> void returns_cpu(const T* reward,       // [start[episodes]]
                                                        const int64_t* start,  // [episodes + 1]
                                                        T* out,                // as reward
                                                        int64_t episodes, double gamma);)

template <typename T>
void returns_cuda(const T* reward, const int64_t* start, T* out, int64_t episodes, double gamma,
                  cudaStream_t stream);

}  // namespace fastifo

// Copies rows of flat columns, selected by index, into batch buffers. Observations of `steps`
// successive time steps are standardised, (x - mean) / deviation, and encoded, tanh(scale * x) at
// each scale, in the same pass.
#pragma once

#include <cstdint>
#include <vector>

#include "common/check.h"
#include "common/isa.h"

namespace fastifo {

// One column copied row by row: four entries of `plan`, in this order.
struct GatherColumn {
  const void* source;  // member m's part begins at m * stride
  void* target;        // [members, size, width]
  int64_t width;       // numbers in a row
  int64_t stride;      // numbers between members; 0 where they share the column
};
constexpr int kPlanEntries = 4;

FASTIFO_EACH_ISA(template <typename T>
                 void gather_cpu(const int64_t* index,  // [members, size] transitions
                                 const int64_t* row,    // [N] a transition's first observation
                                 const T* obs,          // [M, width]
                                 const T* scale,  // [scales]; none leaves observations as they are
                                 const T* mean,   // [width], or null for no standardising
                                 const T* deviation,  // [width], or null
                                 T* out,  // [steps, members, size, width * max(1, scales)]
                                 int64_t members, int64_t size, int64_t width, int64_t scales,
                                 int64_t steps, const std::vector<int64_t>& plan);)

template <typename T>
void gather_cuda(const int64_t* index, const int64_t* row, const T* obs, const T* scale,
                 const T* mean, const T* deviation, T* out, int64_t members, int64_t size,
                 int64_t width, int64_t scales, int64_t steps, const std::vector<int64_t>& plan,
                 cudaStream_t stream);

}  // namespace fastifo

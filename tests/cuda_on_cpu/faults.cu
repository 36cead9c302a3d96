// Kernels with the faults that fibers.h finds, and what a kernel may rely on.
#include <stdexcept>

#include "common/check.h"
#include "common/reduce.cuh"

namespace {

constexpr int kThreads = 64;

// out[t] = the number that the next thread stored; without the barrier it may not be there yet.
template <bool kWaits>
__global__ void neighbour_kernel(float* out) {
  __shared__ float stored[kThreads];
  stored[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (kWaits) __syncthreads();
  out[threadIdx.x] = stored[(threadIdx.x + 1) % kThreads];
}

__global__ void diverging_barrier_kernel() {
  if (threadIdx.x < kThreads / 2) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void missed_barrier_kernel() {
  if (threadIdx.x > 0) __syncthreads();
}

__global__ void missed_shuffle_kernel(float* out) {
  if (threadIdx.x % 2 == 0) out[threadIdx.x] = __shfl_xor_sync(fastifo::kAllLanes, 1.0f, 2);
}

__global__ void partial_mask_kernel(float* out) {
  out[threadIdx.x] = __shfl_xor_sync(0xffffu, 1.0f, 2);
}

__global__ void overrun_kernel() {
  extern __shared__ __align__(16) float memory[];
  memory[threadIdx.x] = 1.0f;
}

// out[block] = what the block finds in its shared memory, which the last one has written.
__global__ void unset_kernel(float* out) {
  extern __shared__ float memory[];
  __shared__ float first, second[2];
  if (threadIdx.x == 0) out[blockIdx.x] = memory[0] + first + second[1];
  __syncthreads();
  memory[0] = first = second[1] = 1.0f;
}

__global__ void empty_kernel() {}

}  // namespace

// out: [64]
void fault(int64_t number, float* out) {
  const size_t bytes = kThreads * sizeof(float);
  cudaStream_t stream = nullptr;
  switch (number) {
    case 0:
      neighbour_kernel<true><<<1, kThreads, 0, stream>>>(out);
      break;
    case 1:
      neighbour_kernel<false><<<1, kThreads, 0, stream>>>(out);
      break;
    case 2:
      diverging_barrier_kernel<<<1, kThreads, 0, stream>>>();
      break;
    case 3:
      missed_barrier_kernel<<<1, kThreads, 0, stream>>>();
      break;
    case 4:
      missed_shuffle_kernel<<<1, kThreads, 0, stream>>>(out);
      break;
    case 5:
      partial_mask_kernel<<<1, kThreads, 0, stream>>>(out);
      break;
    case 6:
      overrun_kernel<<<1, kThreads, bytes - 4, stream>>>();
      break;
    case 7:
      unset_kernel<<<2, kThreads, bytes, stream>>>(out);
      break;
    case 8:
      empty_kernel<<<1, 1025, 0, stream>>>();
      break;
    case 9:
      empty_kernel<<<0, kThreads, 0, stream>>>();
      break;
    default:
      throw std::invalid_argument("number: no such kernel");
  }
  fastifo::check_launch("fault");
}

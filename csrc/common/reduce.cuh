// Warp and block reductions in a fixed order, so that the same input gives the same bits.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace fastifo {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// The sum over each group of kWidth neighbouring lanes, in all of them. All lanes of a warp must
// call.
template <int kWidth = kWarp, typename T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int offset = kWidth / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, offset);
  }
  return value;
}

// The largest number, likewise. Ignores NaN: the exponentials that follow bring it back.
template <int kWidth = kWarp, typename T>
__device__ __forceinline__ T warp_max(T value) {
#pragma unroll
  for (int offset = kWidth / 2; offset > 0; offset /= 2) {
    value = fmax(value, __shfl_xor_sync(kAllLanes, value, offset));
  }
  return value;
}

// The sum over this lane and those before it.
template <typename T>
__device__ __forceinline__ T warp_scan(T value) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const T before = __shfl_up_sync(kAllLanes, value, offset);
    if (lane >= offset) value += before;
  }
  return value;
}

// Whether x at index i goes before y at index j: NaN first, then the larger, then the lower index.
template <typename T>
__device__ __forceinline__ bool goes_before(T x, int i, T y, int j) {
  if (isnan(x) || isnan(y)) return isnan(x) && (!isnan(y) || i < j);
  return x > y || (x == y && i < j);
}

// The index that goes before those of all other lanes, in every lane.
template <typename T>
__device__ __forceinline__ int warp_first(T value, int index) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, value, offset);
    const int other_index = __shfl_xor_sync(kAllLanes, index, offset);
    if (goes_before(other, other_index, value, index)) value = other, index = other_index;
  }
  return index;
}

// Replaces each of N numbers by its sum over a block of kThreads, in every thread.
template <int kThreads, int N>
__device__ __forceinline__ void block_sum(double (&value)[N]) {
  __shared__ double part[N][kThreads / kWarp];
  __syncthreads();  // the last call's parts may still be read
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const double sum = warp_sum(value[n]);
    if (threadIdx.x % kWarp == 0) part[n][threadIdx.x / kWarp] = sum;
  }
  __syncthreads();
#pragma unroll
  for (int n = 0; n < N; ++n) {
    value[n] = 0.0;
    for (int warp = 0; warp < kThreads / kWarp; ++warp) value[n] += part[n][warp];
  }
}

// The largest number of a block, in every thread. Ignores NaN, as warp_max does.
template <int kThreads, typename T>
__device__ __forceinline__ T block_max(T value) {
  __shared__ T part[kThreads / kWarp];
  __syncthreads();
  const T largest = warp_max(value);
  if (threadIdx.x % kWarp == 0) part[threadIdx.x / kWarp] = largest;
  __syncthreads();
  value = part[0];
  for (int warp = 1; warp < kThreads / kWarp; ++warp) value = fmax(value, part[warp]);
  return value;
}

}  // namespace fastifo

// Warp and block reductions in a fixed order, so that the same input gives the same bits, and what
// advantage.cu and dual.cu share: capped exponential weights and the numbers a log keeps of them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace fastifo {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// The sum over each kWidth neighbouring lanes, in all of them. The whole warp calls together.
template <int kWidth = kWarp, typename T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int offset = kWidth / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, offset);
  }
  return value;
}

// The largest number, likewise. Passes over NaN: the exponentials that follow bring it back.
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

// Whether x at place i goes before y at place j: NaN first, then the larger, then the lower place.
template <typename T>
__device__ __forceinline__ bool goes_before(T x, int i, T y, int j) {
  if (isnan(x) || isnan(y)) return isnan(x) && (!isnan(y) || i < j);
  return x > y || (x == y && i < j);
}

// The place that goes before those of all other lanes, in every lane.
template <typename T>
__device__ __forceinline__ int warp_first(T value, int place) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, value, offset);
    const int there = __shfl_xor_sync(kAllLanes, place, offset);
    if (goes_before(other, there, value, place)) value = other, place = there;
  }
  return place;
}

// Replaces each of N numbers by its sum over a block of kThreads, in every thread.
template <int kThreads, int N>
__device__ __forceinline__ void block_sum(double (&value)[N]) {
  __shared__ double part[N][kThreads / kWarp];
  __syncthreads();  // the last call's parts may still be read
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const double own = warp_sum(value[n]);
    if (threadIdx.x % kWarp == 0) part[n][threadIdx.x / kWarp] = own;
  }
  __syncthreads();
#pragma unroll
  for (int n = 0; n < N; ++n) {
    value[n] = 0.0;
    for (int warp = 0; warp < kThreads / kWarp; ++warp) value[n] += part[n][warp];
  }
}

// The largest number of a block, in every thread. Passes over NaN, as warp_max.
template <int kThreads, typename T>
__device__ __forceinline__ T block_max(T value) {
  __shared__ T part[kThreads / kWarp];
  __syncthreads();
  const T own = warp_max(value);
  if (threadIdx.x % kWarp == 0) part[threadIdx.x / kWarp] = own;
  __syncthreads();
  value = part[0];
  for (int warp = 1; warp < kThreads / kWarp; ++warp) value = fmax(value, part[warp]);
  return value;
}

// min(exp(exponent), cap): the exponent is capped, so that nothing overflows. A NaN stays.
template <typename T>
__device__ __forceinline__ T capped_exp(T exponent, T log_cap, T cap) {
  return exponent >= log_cap ? cap : exp(exponent);
}

// What a log keeps of weighted rows, as sums: advantages, their distances from a centre and the
// squares of those, weights, capped rows. With a centre among the advantages one pass is precise.
constexpr int kLogged = 5;

template <typename T>
__device__ __forceinline__ void log_row(T advantage, T centre, T weight, bool capped, double* sum) {
  const double distance = static_cast<double>(advantage) - static_cast<double>(centre);
  sum[0] += static_cast<double>(advantage);
  sum[1] += distance;
  sum[2] += distance * distance;
  sum[3] += static_cast<double>(weight);
  sum[4] += capped ? 1.0 : 0.0;
}

// The advantage's mean and population deviation, the mean weight, the capped share; NaN for none.
template <typename T>
__device__ __forceinline__ void write_statistics(const double* sum, int64_t count, T* statistics) {
  const double size = static_cast<double>(count);
  const double shift = sum[1] / size, variance = sum[2] / size - shift * shift;
  statistics[0] = static_cast<T>(sum[0] / size);
  statistics[1] = static_cast<T>(sqrt(variance < 0.0 ? 0.0 : variance));  // a NaN stays
  statistics[2] = static_cast<T>(sum[3] / size);
  statistics[3] = static_cast<T>(sum[4] / size);
}

}  // namespace fastifo

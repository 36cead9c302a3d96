// The part of CUDA that csrc/ uses, for a C++ compiler: keywords, built-in variables, types,
// intrinsics and the few functions of the runtime. fibers.h runs the blocks.
#pragma once

#include <math.h>  // with the overloads for float outside of std, as in CUDA

#include <cstdint>
#include <utility>

#include "fibers.h"

#define __CUDACC__ 1
#define __CUDA_ARCH__ 900
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)

using cuda_on_cpu::blockDim, cuda_on_cpu::blockIdx, cuda_on_cpu::dim3, cuda_on_cpu::gridDim,
    cuda_on_cpu::threadIdx;

struct CUstream_st;
using cudaStream_t = CUstream_st*;

struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) longlong2 {
  long long x, y;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline longlong2 make_longlong2(long long x, long long y) { return {x, y}; }

template <typename T>
T min(T a, T b) {
  return b < a ? b : a;
}

// The compiler fuses nothing: -ffp-contract=off.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline uint64_t __umul64hi(uint64_t a, uint64_t b) {
  __extension__ using uint128 = unsigned __int128;
  return static_cast<uint64_t>(static_cast<uint128>(a) * b >> 64);
}

// Barriers and what contains one. The default arguments are the place of the call.
#define CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()
inline void __syncthreads(CALLER) { cuda_on_cpu::wait_for_block({file, line}); }
inline void __syncwarp(CALLER) { cuda_on_cpu::wait_for_warp({file, line}); }

template <typename T>
T __shfl_sync(unsigned mask, T value, int from, CALLER) {
  return cuda_on_cpu::exchange(mask, value, {file, line})[from % cuda_on_cpu::kWarpSize];
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, CALLER) {
  return cuda_on_cpu::exchange(mask, value, {file, line})[cuda_on_cpu::lane() ^ bits];
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, int offset, CALLER) {
  const auto values = cuda_on_cpu::exchange(mask, value, {file, line});
  const int from = cuda_on_cpu::lane() - offset;
  return from < 0 ? value : values[from];
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, int offset, CALLER) {
  const auto values = cuda_on_cpu::exchange(mask, value, {file, line});
  const int from = cuda_on_cpu::lane() + offset;
  return from >= cuda_on_cpu::kWarpSize ? value : values[from];
}
inline unsigned __ballot_sync(unsigned mask, bool vote, CALLER) {
  const auto votes = cuda_on_cpu::exchange(mask, vote, {file, line});
  unsigned bits = 0;
  for (int lane = 0; lane < cuda_on_cpu::lanes(); ++lane) bits |= unsigned{votes[lane]} << lane;
  return bits;
}
#undef CALLER

// The runtime, of a GPU with the limits of compute capability 9.
using cudaError_t = int;
constexpr cudaError_t cudaSuccess = 0, cudaErrorInvalidConfiguration = 9;
enum { cudaDevAttrMaxSharedMemoryPerBlockOptin, cudaFuncAttributeMaxDynamicSharedMemorySize };

namespace cuda_on_cpu {

constexpr size_t kMaxSharedBytes = 227 << 10;
inline cudaError_t last_error = cudaSuccess;

// kernel<<<grid, block, shared_bytes, stream>>>(...); `kernel` calls it with its arguments.
template <typename Kernel>
void launch(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t, const Kernel& kernel) {
  if (grid.count() == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 ||
      block.count() == 0 || block.count() > 1024 || shared_bytes > kMaxSharedBytes) {
    last_error = cudaErrorInvalidConfiguration;
    return;
  }
  const auto call = [](const void* body) { (*static_cast<const Kernel*>(body))(); };
  run_grid(grid, block, shared_bytes, call, &kernel);
}

}  // namespace cuda_on_cpu

inline cudaError_t cudaGetLastError() {
  return std::exchange(cuda_on_cpu::last_error, cudaSuccess);
}
inline const char* cudaGetErrorString(cudaError_t) { return "invalid configuration argument"; }
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, int, int) {
  *value = static_cast<int>(cuda_on_cpu::kMaxSharedBytes);
  return cudaSuccess;
}
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, int, int) {
  return cudaSuccess;
}

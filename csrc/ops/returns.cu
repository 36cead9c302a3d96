// Discounted return-to-go on the GPU. Reads each reward once and writes each return once.
// One warp walks one episode backwards, 32 rows at a time: a scan from the last lane to the first
// gives each row's sum inside the tile, and the tail after the tile is added with its discount.
// The next tile's rewards are loaded meanwhile. Warps take episodes with a grid stride.
#include <algorithm>

#include "common/reduce.cuh"
#include "ops/returns.h"

namespace fastifo {
namespace {

constexpr int kThreads = 128;
constexpr int kEpisodesPerBlock = kThreads / kWarp;
constexpr int64_t kMaxBlocks = 1 << 20;

template <typename T>
__global__ void returns_kernel(const T* __restrict__ reward,       // [start[episodes]]
                               const int64_t* __restrict__ start,  // [episodes + 1]
                               T* __restrict__ out, int64_t episodes, double gamma) {
  const int lane = threadIdx.x % kWarp;
  const double to_tail = pow(gamma, static_cast<double>(kWarp - lane));
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kEpisodesPerBlock;
  for (int64_t episode = static_cast<int64_t>(blockIdx.x) * kEpisodesPerBlock + threadIdx.x / kWarp;
       episode < episodes; episode += stride) {
    const int64_t first = start[episode];
    int64_t row = start[episode + 1] - kWarp + lane;  // rows before `first` are other episodes'
    double tail = 0.0;
    double next = row >= first ? static_cast<double>(reward[row]) : 0.0;
    for (; row - lane + kWarp > first; row -= kWarp) {
      double value = next;
      next = row - kWarp >= first ? static_cast<double>(reward[row - kWarp]) : 0.0;
      double discount = gamma;  // gamma^offset
#pragma unroll
      for (int offset = 1; offset < kWarp; offset *= 2) {
        const double later = __shfl_down_sync(kAllLanes, value, offset);
        if (lane + offset < kWarp) value += discount * later;
        discount *= discount;
      }
      value += to_tail * tail;
      if (row >= first) out[row] = static_cast<T>(value);
      tail = __shfl_sync(kAllLanes, value, 0);
    }
  }
}

}  // namespace

template <typename T>
void returns_cuda(const T* reward, const int64_t* start, T* out, int64_t episodes, double gamma,
                  cudaStream_t stream) {
  if (episodes <= 0) return;  // a launch of zero blocks is an error
  const int64_t blocks =
      std::min((episodes + kEpisodesPerBlock - 1) / kEpisodesPerBlock, kMaxBlocks);
  returns_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(reward, start, out,
                                                                         episodes, gamma);
  check_launch("returns");
}

template void returns_cuda(const float*, const int64_t*, float*, int64_t, double, cudaStream_t);
template void returns_cuda(const double*, const int64_t*, double*, int64_t, double, cudaStream_t);

}  // namespace fastifo

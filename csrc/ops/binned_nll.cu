// The discretised-action head on the GPU. Each logit is read once and each gradient written once, 8
// bytes per logit in float: memory speed is the floor, and the kernel's 2 * (2 * radius + 1)
// products per logit come close to it. blockIdx.x walks tiles of a member's rows, blockIdx.y the
// members, both with a grid stride. Up to 128 bins in float with a radius up to 16, 16 lanes take a
// (row, dimension), 8 neighbouring bins each: the kernel and a window of logits stay in registers
// (SmallHead). Else a warp takes one, its bins in shared memory (AnyHead). Sums are in a fixed
// order.
#include <algorithm>

#include "common/binned_heads.cuh"
#include "ops/binned_nll.h"

namespace fastifo {
namespace {

constexpr int kSumThreads = 256;
constexpr int64_t kFullBlocks = 2048;  // fill the largest GPUs several times over
constexpr int64_t kMaxBlocksX = 1 << 20;
constexpr int64_t kMaxBlocksY = 65535;           // the hardware's limit
constexpr int64_t kPlainSharedBytes = 48 << 10;  // more must be requested
constexpr int64_t kMaxTile = 4096;               // (row, dimension) pairs of a tile
constexpr int64_t kMaxBins = 4096;

template <typename Head>
__global__ void __launch_bounds__(kThreads)
    nll_kernel(const Arguments<typename Head::Number> a, int64_t head_numbers) {
  using T = typename Head::Number;
  extern __shared__ __align__(16) unsigned char memory[];
  Head head(a, reinterpret_cast<T*>(memory));
  T* const nll = reinterpret_cast<T*>(memory) + head_numbers;  // [tile_rows, dims]
  for (int64_t member = blockIdx.y; member < a.members; member += gridDim.y) {
    __syncthreads();
    head.use(member);
    __syncthreads();
    for (int64_t first = blockIdx.x * a.tile_rows; first < a.rows;
         first += gridDim.x * a.tile_rows) {
      const int64_t row = member * a.rows + first;
      const int rows = static_cast<int>(min(a.tile_rows, a.rows - first));
      const int dims = static_cast<int>(a.dims);
      head.pairs(row, rows * dims, nll);
      __syncthreads();
      for (int r = threadIdx.x; r < rows; r += blockDim.x) {
        double sum = 0.0;
        for (int d = 0; d < dims; ++d) sum += static_cast<double>(nll[r * dims + d]);
        const double weight = a.weight == nullptr ? 1.0 : static_cast<double>(a.weight[row + r]);
        a.row_loss[row + r] = static_cast<T>(weight * sum);
      }
      __syncthreads();  // before the next tile's parts replace these
    }
  }
}

// loss = the sum of a member's rows over their number, one block per member.
template <typename T>
__global__ void __launch_bounds__(kSumThreads)
    sum_kernel(const T* __restrict__ row_loss, T* __restrict__ loss, int64_t members,
               int64_t rows) {
  for (int64_t member = blockIdx.x; member < members; member += gridDim.x) {
    double sum[1] = {};
    for (int64_t row = threadIdx.x; row < rows; row += kSumThreads) {
      sum[0] += static_cast<double>(row_loss[member * rows + row]);
    }
    block_sum<kSumThreads>(sum);
    if (threadIdx.x == 0) {
      loss[member] = static_cast<T>(sum[0] / static_cast<double>(rows > 0 ? rows : 1));
    }
  }
}

// Bins by the head's sample, `uniform` in place of the action, or by its mode.
template <typename T, bool kSamples>
__global__ void __launch_bounds__(kThreads) pick_kernel(const Arguments<T> a, int64_t* out) {
  extern __shared__ __align__(16) unsigned char memory[];
  AnyHead<T> head(a, reinterpret_cast<T*>(memory));
  const int64_t pairs = a.rows * a.dims;
  for (int64_t member = blockIdx.y; member < a.members; member += gridDim.y) {
    __syncthreads();
    head.use(member);
    __syncthreads();
    for (int64_t pair = static_cast<int64_t>(blockIdx.x) * head.warps + head.warp; pair < pairs;
         pair += static_cast<int64_t>(gridDim.x) * head.warps) {
      const int64_t at = member * pairs + pair;
      const T* const logits = a.logits + at * a.bins;
      const int bin = kSamples ? head.sample(logits, a.action[at]) : head.mode(logits);
      if (head.lane == 0) out[at] = bin;
    }
  }
}

// The warps of a block, at most kWarps, for which the device has `bytes(warps)` of shared memory.
// More than a kernel may use by default is requested.
template <typename Kernel, typename Bytes>
int64_t warps_that_fit(Kernel* kernel, int64_t bins, const Bytes& bytes) {
  int device = 0, limit = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  int64_t warps = kWarps;
  while (warps > 1 && bytes(warps) > limit) warps /= 2;
  FASTIFO_CHECK(bytes(warps) <= limit, "logits: expected rows that fit into the "
                                           << limit << " bytes of shared memory of this GPU, found "
                                           << bins << " bins, which need " << bytes(warps));
  if (bytes(warps) > kPlainSharedBytes) {
    // Always the limit, so that concurrent callers set the same value.
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, limit);
  }
  return warps;
}

dim3 grid(int64_t blocks, int64_t members) {
  return dim3(static_cast<unsigned>(std::min(blocks, kMaxBlocksX)),
              static_cast<unsigned>(std::min(members, kMaxBlocksY)));
}

template <typename Head, typename T>
void launch_nll(Arguments<T> a, cudaStream_t stream) {
  const int64_t most = kMaxTile / std::max<int64_t>(1, a.dims);
  const int64_t least = std::min(most, (2 * kWarps - 1) / std::max<int64_t>(1, a.dims) + 1);
  a.tile_rows = std::clamp(a.members * a.rows / kFullBlocks, least, most);
  const auto numbers = [&](int64_t warps) { return Head::numbers(a.bins, a.radius, warps); };
  const auto bytes = [&](int64_t warps) {
    return (numbers(warps) + a.tile_rows * a.dims) * static_cast<int64_t>(sizeof(T));
  };
  const int64_t warps = warps_that_fit(nll_kernel<Head>, a.bins, bytes);
  nll_kernel<Head>
      <<<grid((a.rows + a.tile_rows - 1) / a.tile_rows, a.members),
         static_cast<unsigned>(warps * kWarp), static_cast<size_t>(bytes(warps)), stream>>>(
          a, numbers(warps));
  check_launch("binned_nll");
}

template <typename T, bool kSamples>
void launch_pick(const Arguments<T>& a, int64_t* out, const char* name, cudaStream_t stream) {
  const int64_t pairs = a.rows * a.dims;
  if (a.members <= 0 || pairs <= 0) return;  // a launch of zero blocks is an error
  const auto bytes = [&](int64_t warps) {
    return AnyHead<T>::numbers(a.bins, a.radius, warps) * static_cast<int64_t>(sizeof(T));
  };
  const int64_t warps = warps_that_fit(pick_kernel<T, kSamples>, a.bins, bytes);
  pick_kernel<T, kSamples>
      <<<grid((pairs + warps - 1) / warps, a.members), static_cast<unsigned>(warps * kWarp),
         static_cast<size_t>(bytes(warps)), stream>>>(a, out);
  check_launch(name);
}

// The arguments that all three ops have.
template <typename T>
Arguments<T> arguments_of(const T* logits, const T* action, const T* taps, const T* norm,
                          int64_t members, int64_t rows, int64_t dims, int64_t bins,
                          int64_t radius) {
  FASTIFO_CHECK(1 <= bins && bins <= kMaxBins,
                "logits: expected 1 to " << kMaxBins << " bins, found " << bins);
  FASTIFO_CHECK(0 <= radius && radius < bins,
                "taps: expected 1 to " << bins << " of them, found " << radius + 1);
  return {logits,
          action,
          nullptr,
          taps,
          norm,
          nullptr,
          nullptr,
          members,
          rows,
          dims,
          0,
          static_cast<int>(bins),
          static_cast<int>(radius)};
}

}  // namespace

template <typename T>
void binned_nll_cuda(const T* logits, const T* action, const T* weight, const T* taps,
                     const T* norm, T* row_loss, T* loss, T* gradient, int64_t members,
                     int64_t rows, int64_t dims, int64_t bins, int64_t radius,
                     cudaStream_t stream) {
  Arguments<T> a = arguments_of(logits, action, taps, norm, members, rows, dims, bins, radius);
  FASTIFO_CHECK(dims <= kMaxTile,
                "logits: expected at most " << kMaxTile << " dimensions, found " << dims);
  a.weight = weight, a.row_loss = row_loss, a.gradient = gradient;
  if (members <= 0) return;  // a launch of zero blocks is an error
  if (rows > 0) {
    if constexpr (sizeof(T) == sizeof(float)) {
      if (bins <= SmallHead<8>::kBins && radius <= 8) {
        launch_nll<SmallHead<8>>(a, stream);
      } else if (bins <= SmallHead<16>::kBins && radius <= 16) {
        launch_nll<SmallHead<16>>(a, stream);
      } else {
        launch_nll<AnyHead<T>>(a, stream);
      }
    } else {
      launch_nll<AnyHead<T>>(a, stream);
    }
  }
  sum_kernel<<<static_cast<unsigned>(std::min(members, kMaxBlocksX)), kSumThreads, 0, stream>>>(
      row_loss, loss, members, rows);
  check_launch("binned_nll");
}

template <typename T>
void binned_sample_cuda(const T* logits, const T* uniform, const T* taps, const T* norm,
                        int64_t* out, int64_t members, int64_t rows, int64_t dims, int64_t bins,
                        int64_t radius, cudaStream_t stream) {
  launch_pick<T, true>(arguments_of(logits, uniform, taps, norm, members, rows, dims, bins, radius),
                       out, "binned_sample", stream);
}

template <typename T>
void binned_mode_cuda(const T* logits, const T* taps, const T* norm, int64_t* out, int64_t members,
                      int64_t rows, int64_t dims, int64_t bins, int64_t radius,
                      cudaStream_t stream) {
  launch_pick<T, false>(
      arguments_of<T>(logits, nullptr, taps, norm, members, rows, dims, bins, radius), out,
      "binned_mode", stream);
}

#define FASTIFO_INSTANTIATE(T)                                                                \
  template void binned_nll_cuda(const T*, const T*, const T*, const T*, const T*, T*, T*, T*, \
                                int64_t, int64_t, int64_t, int64_t, int64_t, cudaStream_t);   \
  template void binned_sample_cuda(const T*, const T*, const T*, const T*, int64_t*, int64_t, \
                                   int64_t, int64_t, int64_t, int64_t, cudaStream_t);         \
  template void binned_mode_cuda(const T*, const T*, const T*, int64_t*, int64_t, int64_t,    \
                                 int64_t, int64_t, int64_t, cudaStream_t)
FASTIFO_INSTANTIATE(float);
FASTIFO_INSTANTIATE(double);

}  // namespace fastifo

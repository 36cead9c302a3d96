// How the threads of a warp share one row of one action dimension in binned_nll.cu. SmallHead keeps
// the kernel and a window of logits in registers; AnyHead keeps the bins in shared memory.
#pragma once

#include "common/reduce.cuh"
#include "ops/binned_nll.h"

namespace fastifo {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;

// The arguments of binned_nll_cuda; see binned_nll.h.
template <typename T>
struct Arguments {
  const T *logits, *action, *weight, *taps, *norm;
  T *row_loss, *gradient;
  int64_t members, rows, dims, tile_rows;
  int bins, radius;
};

// The bin whose centre is nearest to the action; bin 0 for a NaN. Product and sum are rounded
// separately, so that the bins equal those of the CPU.
__device__ __forceinline__ float scaled(float action, float half) {
  return __fadd_rn(__fmul_rn(action, half), half + 0.5f);
}
__device__ __forceinline__ double scaled(double action, double half) {
  return __dadd_rn(__dmul_rn(action, half), half + 0.5);
}
template <typename T>
__device__ __forceinline__ int bin_of(T action, int bins) {
  const T index = floor(scaled(action, T(0.5) * static_cast<T>(bins - 1)));
  if (!(index > T(0))) return 0;
  return index < static_cast<T>(bins - 1) ? static_cast<int>(index) : bins - 1;
}

// The weight of (row, dimension) pair `pair`, counted from row `row` of all members' rows.
template <typename T>
__device__ __forceinline__ T weight_of(const Arguments<T>& a, int64_t row, int pair) {
  if (a.weight == nullptr) return T(1);
  return a.weight[row + static_cast<uint32_t>(pair) / static_cast<uint32_t>(a.dims)];
}

// 16 lanes per row. In shared memory a row has kReach zeros before and after it. Every second group
// of 8 quads swaps its neighbours, so that 8 lanes reading every second quad use all 32 banks.
template <int kReach>
struct SmallHead {
  using Number = float;
  static constexpr int kLanes = 16, kPerLane = 8, kBins = kLanes * kPerLane,
                       kLoads = 2 * kBins / kWarp;
  static constexpr int kQuads = (kPerLane + 2 * kReach) / 4, kPadded = kBins + 2 * kReach;

  static int64_t numbers(int64_t, int64_t, int64_t warps) { return warps * 2 * kPadded; }

  static __device__ __forceinline__ int swapped(int quad) { return quad ^ (quad >> 3 & 1); }
  static __device__ __forceinline__ int position(int bin) {
    return swapped((bin + kReach) / 4) * 4 + (bin + kReach) % 4;
  }

  const Arguments<float>& a;
  const int lane = threadIdx.x % kLanes, half = threadIdx.x / kLanes % 2;
  float* both;  // the warp's two rows
  float* row;   // the row of this half of the warp
  float tap[kReach + 1], norm[kPerLane];

  __device__ SmallHead(const Arguments<float>& arguments, float* memory)
      : a(arguments), both(memory + threadIdx.x / kWarp * 2 * kPadded), row(both + half * kPadded) {
    for (int i = lane; i < kPadded; i += kLanes) row[i] = 0.0f;
    __syncwarp();
  }

  __device__ void use(int64_t member) {
    const float* taps = a.taps + member * (a.radius + 1);
#pragma unroll
    for (int d = 0; d <= kReach; ++d) tap[d] = d <= a.radius ? taps[d] : 0.0f;
#pragma unroll
    for (int k = 0; k < kPerLane; ++k) {
      const int bin = lane * kPerLane + k;
      norm[k] = bin < a.bins ? a.norm[member * a.bins + bin] : 0.0f;
    }
  }

  // The kernel's weighted sum around each of this lane's bins.
  __device__ __forceinline__ void filter(float (&sum)[kPerLane]) const {
    float x[kPerLane + 2 * kReach];
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const float4 quad = reinterpret_cast<const float4*>(row)[swapped(2 * lane + q)];
      x[4 * q] = quad.x, x[4 * q + 1] = quad.y, x[4 * q + 2] = quad.z, x[4 * q + 3] = quad.w;
    }
#pragma unroll
    for (int k = 0; k < kPerLane; ++k) sum[k] = tap[0] * x[kReach + k];
#pragma unroll
    for (int d = 1; d <= kReach; ++d) {
#pragma unroll
      for (int k = 0; k < kPerLane; ++k) {
        sum[k] = fmaf(tap[d], x[kReach + k - d], sum[k]);
        sum[k] = fmaf(tap[d], x[kReach + k + d], sum[k]);
      }
    }
  }

  // Stores this lane's bins in the row.
  __device__ __forceinline__ void store(const float (&value)[kPerLane]) const {
    __syncwarp();  // all lanes have read their windows
#pragma unroll
    for (int q = 0; q < kPerLane / 4; ++q) {
      reinterpret_cast<float4*>(row)[swapped(kReach / 4 + 2 * lane + q)] =
          make_float4(value[4 * q], value[4 * q + 1], value[4 * q + 2], value[4 * q + 3]);
    }
    __syncwarp();
  }

  // Losses and gradients of the first `count` (row, dimension) pairs from `first_row` on.
  // nll: [count], each pair's loss.
  __device__ void pairs(int64_t first_row, int count, float* nll) {
    const int64_t at = first_row * a.dims;
    for (int first = threadIdx.x / kWarp * 2; first < count; first += kWarps * 2) {
      const float* const logits = a.logits + (at + first) * a.bins;
      const int present = count - first < 2 ? 1 : 2, pair = first + (half < present ? half : 0);
      float x[kLoads];
      for_each_number(
          present, [&](int j, int from, int, bool inside) { x[j] = inside ? logits[from] : 0.0f; });
      const int bin = bin_of(a.action[at + pair], a.bins) - lane * kPerLane;
      const float weight = weight_of(a, first_row, pair);
      __syncwarp();  // the previous rows' gradients have been read
      for_each_number(2, [&](int j, int, int to, bool) { both[to] = x[j]; });
      __syncwarp();

      float value[kPerLane];
      filter(value);
      float largest = -INFINITY;
#pragma unroll
      for (int k = 0; k < kPerLane; ++k) {
        value[k] = lane * kPerLane + k < a.bins ? value[k] * norm[k] : -INFINITY;
        largest = fmaxf(largest, value[k]);
      }
      largest = warp_max<kLanes>(largest);
      float total = 0.0f, picked = 0.0f;
#pragma unroll
      for (int k = 0; k < kPerLane; ++k) {
        if (k == bin) picked = value[k];
        value[k] = expf(value[k] - largest);
        total += value[k];
      }
      total = warp_sum<kLanes>(total);
      if (bin >= 0 && bin < kPerLane && half < present)
        nll[pair] = logf(total) + (largest - picked);

      const float factor = weight / (static_cast<float>(a.rows) * total);
#pragma unroll
      for (int k = 0; k < kPerLane; ++k) {
        if (k == bin) value[k] -= total;
        value[k] *= factor * norm[k];
      }
      store(value);
      filter(value);
      store(value);
      float* const gradient = a.gradient + (at + first) * a.bins;
      for_each_number(present, [&](int, int from, int to, bool inside) {
        if (inside) gradient[from] = both[to];
      });
    }
  }

  // Calls body(j, offset in memory, offset in `both`, whether it is a bin) for this lane's share of
  // the numbers of `present` rows. Neighbouring lanes access neighbouring numbers.
  template <typename Body>
  __device__ __forceinline__ void for_each_number(int present, const Body& body) const {
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      constexpr int kPerRow = kBins / kWarp;
      const int r = j / kPerRow, bin = j % kPerRow * kWarp + static_cast<int>(threadIdx.x % kWarp);
      body(j, r * a.bins + bin, r * kPadded + position(bin), r < present && bin < a.bins);
    }
  }
};

// One warp per row, for any number of bins and any radius.
template <typename T>
struct AnyHead {
  using Number = T;

  static int64_t numbers(int64_t bins, int64_t radius, int64_t warps) {
    return radius + 1 + warps * 2 * bins;
  }

  const Arguments<T>& a;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  T* taps;
  T *raw, *value;  // the warp's row
  const T* norm = nullptr;

  __device__ AnyHead(const Arguments<T>& arguments, T* memory)
      : a(arguments),
        taps(memory),
        raw(memory + a.radius + 1 + warp * 2 * a.bins),
        value(raw + a.bins) {}

  // Called by all threads of a block between two barriers.
  __device__ void use(int64_t member) {
    norm = a.norm + member * a.bins;
    for (int d = threadIdx.x; d <= a.radius; d += blockDim.x) {
      taps[d] = a.taps[member * (a.radius + 1) + d];
    }
  }

  __device__ __forceinline__ T filter(const T* from, int bin) const {
    const int below = bin < a.radius ? bin : a.radius;
    const int above = a.bins - 1 - bin < a.radius ? a.bins - 1 - bin : a.radius;
    T sum = taps[0] * from[bin];
    for (int d = 1; d <= below; ++d) sum = fma(taps[d], from[bin - d], sum);
    for (int d = 1; d <= above; ++d) sum = fma(taps[d], from[bin + d], sum);
    return sum;
  }

  // value = the smoothed logits. Returns the largest value.
  __device__ T smooth(const T* logits) {
    __syncwarp();  // the previous row has been read
    for (int i = lane; i < a.bins; i += kWarp) raw[i] = logits[i];
    __syncwarp();
    T largest = static_cast<T>(-INFINITY);
    for (int i = lane; i < a.bins; i += kWarp) {
      value[i] = filter(raw, i) * norm[i];
      largest = fmax(largest, value[i]);
    }
    __syncwarp();
    return warp_max(largest);
  }

  // value = exp(value - largest), for the bins of each lane. Returns the sum over all bins.
  __device__ T exponentiate(T largest) {
    T total = T(0);
    for (int i = lane; i < a.bins; i += kWarp) {
      value[i] = exp(value[i] - largest);
      total += value[i];
    }
    return warp_sum(total);
  }

  __device__ void pairs(int64_t first_row, int count, T* nll) {
    const int64_t at = first_row * a.dims;
    for (int pair = warp; pair < count; pair += warps) {
      const T largest = smooth(a.logits + (at + pair) * a.bins);
      const int bin = bin_of(a.action[at + pair], a.bins);
      const T picked = value[bin];
      __syncwarp();
      const T total = exponentiate(largest);
      if (lane == 0) nll[pair] = log(total) + (largest - picked);
      const T factor = weight_of(a, first_row, pair) / (static_cast<T>(a.rows) * total);
      for (int i = lane; i < a.bins; i += kWarp) {
        value[i] = (i == bin ? value[i] - total : value[i]) * (factor * norm[i]);
      }
      __syncwarp();
      T* const gradient = a.gradient + (at + pair) * a.bins;
      for (int i = lane; i < a.bins; i += kWarp) gradient[i] = filter(value, i);
    }
  }

  // Samples a bin: the first whose cumulative weight exceeds `uniform` times the total.
  __device__ int sample(const T* logits, T uniform) {
    const T threshold = uniform * exponentiate(smooth(logits));
    T reached = T(0);
    int passed = 0;  // how many bins have a cumulative weight up to the threshold
    for (int first = 0; first < a.bins; first += kWarp) {
      const int i = first + lane;
      const T sum = reached + warp_scan(i < a.bins ? value[i] : T(0));
      passed += __popc(__ballot_sync(kAllLanes, i < a.bins - 1 && sum <= threshold));
      reached = __shfl_sync(kAllLanes, sum, kWarp - 1);
    }
    return passed;
  }

  // The most likely bin, the lowest on ties.
  __device__ int mode(const T* logits) {
    smooth(logits);
    T best = value[lane < a.bins ? lane : 0];
    int index = lane < a.bins ? lane : 0;
    for (int i = lane + kWarp; i < a.bins; i += kWarp) {
      if (goes_before(value[i], i, best, index)) best = value[i], index = i;
    }
    return warp_first(best, index);
  }
};

}  // namespace
}  // namespace fastifo

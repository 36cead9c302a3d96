// How the threads of a warp share one row of one action dimension in binned_nll.cu: SmallHead keeps
// the kernel and a window of logits in registers, AnyHead its bins in shared memory.
#pragma once

#include "binned_nll.h"
#include "common/reduce.cuh"

namespace fastifo {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;

// As in the header.
template <typename T>
struct Arguments {
  const T *logits, *action, *weight, *taps, *norm;
  T *row_loss, *gradient;
  int64_t members, rows, dims, tile_rows;
  int bins, radius;
};

// Index of the bin whose centre is nearest; a NaN falls into bin 0. Product and sum are rounded one
// by one: bins must be those of separate operations.
__device__ __forceinline__ float scaled(float action, float half) {
  return __fadd_rn(__fmul_rn(action, half), half + 0.5f);
}
__device__ __forceinline__ double scaled(double action, double half) {
  return __dadd_rn(__dmul_rn(action, half), half + 0.5);
}
template <typename T>
__device__ __forceinline__ int bin_of(T action, int bins) {
  const T place = floor(scaled(action, T(0.5) * static_cast<T>(bins - 1)));
  if (!(place > T(0))) return 0;
  return place < static_cast<T>(bins - 1) ? static_cast<int>(place) : bins - 1;
}

// The weight of pair `pair`, counted from row `row`, which is counted through all members.
template <typename T>
__device__ __forceinline__ T weight_of(const Arguments<T>& a, int64_t row, int pair) {
  if (a.weight == nullptr) return T(1);
  return a.weight[row + static_cast<uint32_t>(pair) / static_cast<uint32_t>(a.dims)];
}

// 16 lanes a row. A row lies in shared memory between margins of kReach zeros; every second group
// of 8 quads swaps its neighbours, so that 8 lanes reading every second quad meet all 32 banks.
template <int kReach>
struct SmallHead {
  using Number = float;
  static constexpr int kLanes = 16, kOwn = 8, kBins = kLanes * kOwn, kLoads = 2 * kBins / kWarp;
  static constexpr int kQuads = (kOwn + 2 * kReach) / 4, kPadded = kBins + 2 * kReach;

  static int64_t numbers(int64_t, int64_t, int64_t warps) { return warps * 2 * kPadded; }

  static __device__ __forceinline__ int swapped(int quad) { return quad ^ (quad >> 3 & 1); }
  static __device__ __forceinline__ int place(int bin) {
    return swapped((bin + kReach) / 4) * 4 + (bin + kReach) % 4;
  }

  const Arguments<float>& a;
  const int lane = threadIdx.x % kLanes, half = threadIdx.x / kLanes % 2;
  float* both;  // this warp's two rows
  float* row;   // this half's
  float tap[kReach + 1], norm[kOwn];

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
    for (int k = 0; k < kOwn; ++k) {
      const int bin = lane * kOwn + k;
      norm[k] = bin < a.bins ? a.norm[member * a.bins + bin] : 0.0f;
    }
  }

  // Sums over the window around each of this lane's bins.
  __device__ __forceinline__ void filter(float (&sum)[kOwn]) const {
    float x[kOwn + 2 * kReach];
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const float4 quad = reinterpret_cast<const float4*>(row)[swapped(2 * lane + q)];
      x[4 * q] = quad.x, x[4 * q + 1] = quad.y, x[4 * q + 2] = quad.z, x[4 * q + 3] = quad.w;
    }
#pragma unroll
    for (int k = 0; k < kOwn; ++k) sum[k] = tap[0] * x[kReach + k];
#pragma unroll
    for (int d = 1; d <= kReach; ++d) {
#pragma unroll
      for (int k = 0; k < kOwn; ++k) {
        sum[k] = fmaf(tap[d], x[kReach + k - d], sum[k]);
        sum[k] = fmaf(tap[d], x[kReach + k + d], sum[k]);
      }
    }
  }

  __device__ __forceinline__ void keep(const float (&value)[kOwn]) const {
    __syncwarp();  // the other lanes have read their windows
#pragma unroll
    for (int q = 0; q < kOwn / 4; ++q) {
      reinterpret_cast<float4*>(row)[swapped(kReach / 4 + 2 * lane + q)] =
          make_float4(value[4 * q], value[4 * q + 1], value[4 * q + 2], value[4 * q + 3]);
    }
    __syncwarp();
  }

  // The first `count` (row, dimension) pairs from `first_row` on: losses into `nll`, and gradients.
  __device__ void pairs(int64_t first_row, int count, float* nll) {
    const int64_t at = first_row * a.dims;
    for (int first = threadIdx.x / kWarp * 2; first < count; first += kWarps * 2) {
      const float* const logits = a.logits + (at + first) * a.bins;
      const int present = count - first < 2 ? 1 : 2, pair = first + (half < present ? half : 0);
      float x[kLoads];
      for_each_number(
          present, [&](int j, int from, int, bool inside) { x[j] = inside ? logits[from] : 0.0f; });
      const int bin = bin_of(a.action[at + pair], a.bins) - lane * kOwn;
      const float weight = weight_of(a, first_row, pair);
      __syncwarp();  // the last rows' gradients have been read
      for_each_number(2, [&](int j, int, int to, bool) { both[to] = x[j]; });
      __syncwarp();

      float value[kOwn];
      filter(value);
      float largest = -INFINITY;
#pragma unroll
      for (int k = 0; k < kOwn; ++k) {
        value[k] = lane * kOwn + k < a.bins ? value[k] * norm[k] : -INFINITY;
        largest = fmaxf(largest, value[k]);
      }
      largest = warp_max<kLanes>(largest);
      float total = 0.0f, picked = 0.0f;
#pragma unroll
      for (int k = 0; k < kOwn; ++k) {
        if (k == bin) picked = value[k];
        value[k] = expf(value[k] - largest);
        total += value[k];
      }
      total = warp_sum<kLanes>(total);
      if (bin >= 0 && bin < kOwn && half < present) nll[pair] = logf(total) + (largest - picked);

      const float factor = weight / (static_cast<float>(a.rows) * total);
#pragma unroll
      for (int k = 0; k < kOwn; ++k) {
        if (k == bin) value[k] -= total;
        value[k] *= factor * norm[k];
      }
      keep(value);
      filter(value);
      keep(value);
      float* const gradient = a.gradient + (at + first) * a.bins;
      for_each_number(present, [&](int, int from, int to, bool inside) {
        if (inside) gradient[from] = both[to];
      });
    }
  }

  // Calls body(j, place in memory, place in `both`, whether it is a bin) for this lane's share of
  // the numbers of `present` rows; neighbours are neighbours in memory.
  template <typename Body>
  __device__ __forceinline__ void for_each_number(int present, const Body& body) const {
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      constexpr int kTurns = kBins / kWarp;
      const int r = j / kTurns, bin = j % kTurns * kWarp + static_cast<int>(threadIdx.x % kWarp);
      body(j, r * a.bins + bin, r * kPadded + place(bin), r < present && bin < a.bins);
    }
  }
};

// A warp a row.
template <typename T>
struct AnyHead {
  using Number = T;

  static int64_t numbers(int64_t bins, int64_t radius, int64_t warps) {
    return radius + 1 + warps * 2 * bins;
  }

  const Arguments<T>& a;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  T* taps;
  T *raw, *value;  // this warp's row
  const T* norm = nullptr;

  __device__ AnyHead(const Arguments<T>& arguments, T* memory)
      : a(arguments),
        taps(memory),
        raw(memory + a.radius + 1 + warp * 2 * a.bins),
        value(raw + a.bins) {}

  // Between barriers of the block.
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

  // value = the smoothed logits. Returns the largest.
  __device__ T smooth(const T* logits) {
    __syncwarp();  // the last row has been read
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

  // value = exp(value - largest), each lane its own. Returns the sum.
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

  // The bin whose cumulative weight is the first above `uniform` times the total.
  __device__ int sample(const T* logits, T uniform) {
    const T threshold = uniform * exponentiate(smooth(logits));
    T reached = T(0);
    int passed = 0;  // bins whose cumulative weight does not exceed it
    for (int first = 0; first < a.bins; first += kWarp) {
      const int i = first + lane;
      const T sum = reached + warp_scan(i < a.bins ? value[i] : T(0));
      passed += __popc(__ballot_sync(kAllLanes, i < a.bins - 1 && sum <= threshold));
      reached = __shfl_sync(kAllLanes, sum, kWarp - 1);
    }
    return passed;
  }

  __device__ int mode(const T* logits) {
    smooth(logits);
    T best = value[lane < a.bins ? lane : 0];
    int found = lane < a.bins ? lane : 0;
    for (int i = lane + kWarp; i < a.bins; i += kWarp) {
      if (goes_before(value[i], i, best, found)) best = value[i], found = i;
    }
    return warp_first(best, found);
  }
};

}  // namespace
}  // namespace fastifo

// Adam on the GPU: parameter, moments and gradient are read once, parameter and moments written
// once, 28 bytes per number in float; a target that moves adds 8, one that is copied 4. Memory
// speed is the floor. One launch takes up to 24 tensors. blockIdx.x walks chunks of 2,048 numbers,
// counted through the tensors, blockIdx.y the members, both with a grid stride; a thread takes 16
// bytes at a time where the member's rows allow it.
#include <algorithm>

#include "common/reduce.cuh"
#include "ops/adam.h"

namespace fastifo {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxTensors = 24;
constexpr int64_t kChunk = 2048;
constexpr int kPackBytes = 16;
constexpr int64_t kMaxBlocksX = 1 << 30;
constexpr int64_t kMaxBlocksY = 65535;  // the hardware's limit

struct Plan {
  AdamTensor tensor[kMaxTensors];
  int64_t chunks[kMaxTensors];  // of one member, up to the end of this tensor
  int count;
};

struct Settings {
  const int64_t* update;
  const double *rate, *decay, *polyak;
  int64_t members, every;
  bool decoupled;
  double beta1, beta2, eps;
};

// One member's factors of one step.
template <typename T>
struct Factors {
  T keep;   // 1 - rate * decay if decoupled, else 1
  T decay;  // times the parameter is added to the gradient if not decoupled
  T first_share, beta2, second_share;  // 1 - beta1, beta2, 1 - beta2
  T root;                              // sqrt(1 - beta2^t)
  T eps;
  T step;  // rate / (1 - beta1^t)
  T polyak;
  bool decoupled;
  bool moves, copies;  // the targets, at this step
};

// Two threads of different warps fill it, because a power in double takes a microsecond.
template <typename T>
__device__ void fill_factors(const Settings& s, int64_t member, Factors<T>& f) {
  const int64_t t = *s.update + 1;
  if (threadIdx.x == 0) {
    const double rate = s.rate[member], decay = s.decay[member], polyak = s.polyak[member];
    f.keep = static_cast<T>(s.decoupled ? 1.0 - rate * decay : 1.0);
    f.decay = static_cast<T>(decay);
    f.decoupled = s.decoupled;
    f.step = static_cast<T>(rate / (1.0 - pow(s.beta1, static_cast<double>(t))));
    f.polyak = static_cast<T>(polyak);
    f.moves = t % s.every == 0;
    f.copies = polyak == 1.0;
  } else if (threadIdx.x == kWarp) {
    f.first_share = static_cast<T>(1.0 - s.beta1);
    f.beta2 = static_cast<T>(s.beta2);
    f.second_share = static_cast<T>(1.0 - s.beta2);
    f.root = static_cast<T>(sqrt(1.0 - pow(s.beta2, static_cast<double>(t))));
    f.eps = static_cast<T>(s.eps);
  }
}

// One number. Sums that could be fused in two ways are written as fma, so that the bits do not
// depend on the code path.
template <typename T>
__device__ __forceinline__ void step(T& w, T& m, T& v, T g, T& target, const Factors<T>& f) {
  if (!f.decoupled) g = fma(f.decay, w, g);
  m = fma(f.first_share, g - m, m);
  v = fma(f.beta2, v, f.second_share * g * g);
  w = fma(f.keep, w, -(f.step * m / (sqrt(v) / f.root + f.eps)));
  target = f.copies ? w : fma(f.polyak, w - target, target);
}

template <typename T, int kLanes>
struct alignas(kLanes * sizeof(T)) Pack {
  T lane[kLanes];
};

// `count` numbers from `first` of one member's row, kLanes at a time.
template <typename T, int kLanes>
__device__ void step_chunk(const AdamTensor& tensor, int64_t at, int count, const Factors<T>& f) {
  using Lanes = Pack<T, kLanes>;
  T* const __restrict__ w = static_cast<T*>(tensor.parameter) + at;
  T* const __restrict__ m = static_cast<T*>(tensor.first) + at;
  T* const __restrict__ v = static_cast<T*>(tensor.second) + at;
  const T* const __restrict__ g = static_cast<const T*>(tensor.gradient) + at;
  const bool moves = f.moves && tensor.target != nullptr;
  T* const __restrict__ target = moves ? static_cast<T*>(tensor.target) + at : nullptr;
  const bool reads = moves && !f.copies;
#pragma unroll 2
  for (int i = static_cast<int>(threadIdx.x) * kLanes; i < count; i += kThreads * kLanes) {
    Lanes wi = *reinterpret_cast<const Lanes*>(w + i), mi = *reinterpret_cast<const Lanes*>(m + i);
    Lanes vi = *reinterpret_cast<const Lanes*>(v + i), gi = *reinterpret_cast<const Lanes*>(g + i);
    Lanes ti{};
    if (reads) ti = *reinterpret_cast<const Lanes*>(target + i);
#pragma unroll
    for (int k = 0; k < kLanes; ++k) {
      step(wi.lane[k], mi.lane[k], vi.lane[k], gi.lane[k], ti.lane[k], f);
    }
    *reinterpret_cast<Lanes*>(w + i) = wi;
    *reinterpret_cast<Lanes*>(m + i) = mi;
    *reinterpret_cast<Lanes*>(v + i) = vi;
    if (moves) *reinterpret_cast<Lanes*>(target + i) = ti;
  }
}

// Whether the row from number `at` can be taken 16 bytes at a time in every array.
template <typename T>
__device__ __forceinline__ bool is_aligned(const AdamTensor& tensor, int64_t at) {
  const auto address = [at](const void* array) {
    return reinterpret_cast<uintptr_t>(static_cast<const T*>(array) + at);
  };
  const uintptr_t all = address(tensor.parameter) | address(tensor.first) | address(tensor.second) |
                        address(tensor.gradient) |
                        (tensor.target == nullptr ? 0 : address(tensor.target));
  return all % kPackBytes == 0;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    adam_kernel(const __grid_constant__ Plan plan, const __grid_constant__ Settings settings) {
  constexpr int kLanes = kPackBytes / static_cast<int>(sizeof(T));
  __shared__ Factors<T> shared;
  for (int64_t member = blockIdx.y; member < settings.members; member += gridDim.y) {
    __syncthreads();  // the last member's factors may still be read
    fill_factors(settings, member, shared);
    __syncthreads();
    const Factors<T> f = shared;
    for (int64_t chunk = blockIdx.x; chunk < plan.chunks[plan.count - 1]; chunk += gridDim.x) {
      int k = 0;
      while (chunk >= plan.chunks[k]) ++k;
      const AdamTensor& tensor = plan.tensor[k];
      const int64_t first = (chunk - (k > 0 ? plan.chunks[k - 1] : 0)) * kChunk;
      const int64_t left = tensor.size - first, at = member * tensor.size + first;
      const int count = static_cast<int>(left < kChunk ? left : kChunk);
      if (count % kLanes == 0 && is_aligned<T>(tensor, at)) {
        step_chunk<T, kLanes>(tensor, at, count, f);
      } else {
        step_chunk<T, 1>(tensor, at, count, f);
      }
    }
  }
}

// The tensors from entries[next] on, as many as one launch takes; moves `next` past them.
Plan next_plan(const std::vector<int64_t>& entries, size_t& next) {
  Plan plan{};
  int64_t chunks = 0;
  for (; next + kAdamEntries <= entries.size() && plan.count < kMaxTensors; next += kAdamEntries) {
    const int64_t* entry = entries.data() + next;
    if (entry[5] == 0) continue;
    chunks += (entry[5] + kChunk - 1) / kChunk;
    plan.chunks[plan.count] = chunks;
    plan.tensor[plan.count++] = {
        reinterpret_cast<void*>(entry[0]), reinterpret_cast<void*>(entry[1]),
        reinterpret_cast<void*>(entry[2]), reinterpret_cast<const void*>(entry[3]),
        reinterpret_cast<void*>(entry[4]), entry[5]};
  }
  return plan;
}

}  // namespace

template <typename T>
void adam_cuda(const std::vector<int64_t>& plan, const int64_t* update, const double* rate,
               const double* decay, const double* polyak, int64_t members, int64_t every,
               int64_t decoupled, double beta1, double beta2, double eps, cudaStream_t stream) {
  FASTIFO_CHECK(plan.size() % kAdamEntries == 0,
                "plan: expected " << kAdamEntries << " entries per tensor, found " << plan.size());
  FASTIFO_CHECK(every >= 1, "every: expected at least 1, found " << every);
  if (members <= 0) return;  // a launch of zero blocks is an error
  const Settings settings{update, rate,           decay, polyak, members,
                          every,  decoupled != 0, beta1, beta2,  eps};
  for (size_t next = 0; next < plan.size();) {
    const Plan part = next_plan(plan, next);
    if (part.count == 0) continue;
    const dim3 blocks(static_cast<unsigned>(std::min(part.chunks[part.count - 1], kMaxBlocksX)),
                      static_cast<unsigned>(std::min(members, kMaxBlocksY)));
    adam_kernel<T><<<blocks, kThreads, 0, stream>>>(part, settings);
    check_launch("adam");
  }
}

#define FASTIFO_INSTANTIATE(T)                                                                \
  template void adam_cuda<T>(const std::vector<int64_t>&, const int64_t*, const double*,      \
                             const double*, const double*, int64_t, int64_t, int64_t, double, \
                             double, double, cudaStream_t)
FASTIFO_INSTANTIATE(float);
FASTIFO_INSTANTIATE(double);

}  // namespace fastifo

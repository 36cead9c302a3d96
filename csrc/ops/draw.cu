// Uniform indices on the GPU. Writes 8 bytes per index and reads only the seeds and the counter,
// and for windows log2(episodes) entries of a table that stays in the caches. One thread makes one
// Philox block, two neighbouring indices of one member: blockIdx.x and threadIdx.x walk a member's
// pairs, blockIdx.y the members, both with a grid stride. An even row length keeps pairs 16-byte
// aligned: one store each.
#include <algorithm>

#include "common/philox.h"
#include "ops/draw.h"

namespace fastifo {
namespace {

constexpr int kThreads = 128;
constexpr int64_t kMaxBlocksX = 4096;
constexpr int64_t kMaxBlocksY = 65535;  // the hardware's limit

// Leaves an index of [0, limit) as it is.
struct Plain {
  int64_t limit;

  __device__ __forceinline__ uint64_t high() const { return static_cast<uint64_t>(limit); }
  __device__ __forceinline__ int64_t operator()(int64_t index) const { return index; }
};

// Turns the index of a window into its first transition.
struct Windows {
  const int64_t* first;   // [episodes]
  const int64_t* before;  // [episodes + 1]
  int64_t episodes;

  __device__ __forceinline__ uint64_t high() const {
    return static_cast<uint64_t>(before[episodes]);
  }

  __device__ __forceinline__ int64_t operator()(int64_t index) const {
    int64_t episode = 0;  // before[episode] <= index < before[episode + left], no branch on data
    for (int64_t left = episodes; left > 1;) {
      const int64_t half = left / 2;
      episode += before[episode + half] <= index ? half : 0;
      left -= half;
    }
    return first[episode] + index - before[episode];
  }
};

template <typename ToRow>
__global__ void draw_kernel(const int64_t* __restrict__ seed,    // [members]
                            const int64_t* __restrict__ update,  // [1]
                            int64_t* __restrict__ out,           // [members, size]
                            int64_t members, int64_t size, uint32_t purpose, ToRow to_row) {
  const int64_t step = *update;
  const uint64_t high = to_row.high();
  const int64_t pairs = (size + 1) / 2;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t member = blockIdx.y; member < members; member += gridDim.y) {
    const int64_t key = seed[member];
    int64_t* row = out + member * size;
    for (int64_t pair = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; pair < pairs;
         pair += stride) {
      uint32_t c0 = static_cast<uint32_t>(pair), c1 = purpose, c2 = low_word(step),
               c3 = high_word(step);
      philox4x32_10(c0, c1, c2, c3, low_word(key), high_word(key));
      const int64_t even = to_row(bounded(c0, c1, high)), odd = to_row(bounded(c2, c3, high));
      if (size % 2 == 0) {
        reinterpret_cast<longlong2*>(row)[pair] = make_longlong2(even, odd);
      } else {
        row[2 * pair] = even;
        if (2 * pair + 1 < size) row[2 * pair + 1] = odd;
      }
    }
  }
}

template <typename ToRow>
void draw_all(const char* name, const int64_t* seed, const int64_t* update, int64_t* out,
              int64_t members, int64_t size, int64_t purpose, ToRow to_row, cudaStream_t stream) {
  FASTIFO_CHECK(members >= 0 && size >= 0,
                "out: expected sizes of at least 0, found " << members << " x " << size);
  if (members == 0 || size == 0) return;  // a launch of zero blocks is an error
  const int64_t pairs = (size + 1) / 2;
  const dim3 blocks(static_cast<unsigned>(std::min((pairs + kThreads - 1) / kThreads, kMaxBlocksX)),
                    static_cast<unsigned>(std::min(members, kMaxBlocksY)));
  draw_kernel<<<blocks, kThreads, 0, stream>>>(seed, update, out, members, size,
                                               static_cast<uint32_t>(purpose), to_row);
  check_launch(name);
}

}  // namespace

void draw_cuda(const int64_t* seed, const int64_t* update, int64_t* out, int64_t members,
               int64_t size, int64_t purpose, int64_t high, cudaStream_t stream) {
  FASTIFO_CHECK(high >= 1, "high: expected at least 1, found " << high);
  draw_all("draw", seed, update, out, members, size, purpose, Plain{high}, stream);
}

void draw_windows_cuda(const int64_t* seed, const int64_t* update, const int64_t* first,
                       const int64_t* before, int64_t* out, int64_t members, int64_t size,
                       int64_t purpose, int64_t episodes, cudaStream_t stream) {
  FASTIFO_CHECK(episodes >= 1, "first: expected at least one episode, found " << episodes);
  draw_all("draw_windows", seed, update, out, members, size, purpose,
           Windows{first, before, episodes}, stream);
}

}  // namespace fastifo

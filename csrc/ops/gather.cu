// A batch gathered on the GPU. Reads each row and index once from memory and writes each output
// once. A block takes a tile of 32 rows: its threads first look up where the rows are, then walk
// the tile's outputs one number each, so every write is contiguous; a number of an observation is
// read from the cache once per scale. blockIdx.x walks tiles, blockIdx.y the
// observations' steps and then the columns, both with a grid stride.
#include <algorithm>

#include "ops/gather.h"

namespace fastifo {
namespace {

constexpr int kThreads = 256;
constexpr int kTileRows = 32;
constexpr int kMaxColumns = 16;
constexpr int64_t kMaxBlocksX = 1 << 20;
constexpr int64_t kMaxBlocksY = 65535;    // the hardware's limit
constexpr int64_t kMaxOutputs = 1 << 26;  // of a row, so that a tile's numbers count in 32 bits

struct Columns {
  GatherColumn column[kMaxColumns];
  int count;
};

// As in the header.
template <typename T>
struct Arguments {
  const int64_t *index, *row;
  const T *obs, *scale, *mean, *deviation;
  T* out;
  int64_t members, size, width, scales, steps;
};

// Writes the observations of one tile at one step; `source[r]` is row r's observation at step 0.
template <typename T>
__device__ void encode_tile(const Arguments<T>& a, const int64_t* source, int64_t first,
                            int tile_rows, int64_t step) {
  const auto scales = static_cast<uint32_t>(a.scales > 0 ? a.scales : 1);
  const uint32_t outputs = static_cast<uint32_t>(a.width) * scales;
  T* const out = a.out + (step * a.members * a.size + first) * outputs;
  for (uint32_t i = threadIdx.x; i < tile_rows * outputs; i += kThreads) {
    const uint32_t r = i / outputs, output = i - r * outputs;
    const uint32_t feature = output / scales;
    T x = a.obs[(source[r] + step) * a.width + feature];
    if (a.mean != nullptr) x = (x - a.mean[feature]) / a.deviation[feature];
    if (a.scales > 0) x = tanh(x * a.scale[output - feature * scales]);
    out[i] = x;
  }
}

// Copies every column's rows of one tile; `transition[r]` is row r's transition.
template <typename T>
__device__ void copy_tile(const Columns& columns, const int64_t* transition, const int64_t* member,
                          int64_t first, int tile_rows) {
  for (int c = 0; c < columns.count; ++c) {
    const GatherColumn& column = columns.column[c];
    const auto* const source = static_cast<const T*>(column.source);
    const auto width = static_cast<uint32_t>(column.width);
    T* const target = static_cast<T*>(column.target) + first * column.width;
    for (uint32_t i = threadIdx.x; i < tile_rows * width; i += kThreads) {
      const uint32_t r = i / width;
      target[i] =
          source[member[r] * column.stride + transition[r] * column.width + (i - r * width)];
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(const Arguments<T> a, const __grid_constant__ Columns columns) {
  __shared__ int64_t source[kTileRows], member[kTileRows];
  const int64_t rows = a.members * a.size, tiles = (rows + kTileRows - 1) / kTileRows;
  const int64_t passes = a.steps + (columns.count > 0 ? 1 : 0);
  for (int64_t pass = blockIdx.y; pass < passes; pass += gridDim.y) {
    const bool copies = pass == a.steps;
    for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
      const int64_t first = tile * kTileRows;
      const int tile_rows = static_cast<int>(rows - first < kTileRows ? rows - first : kTileRows);
      if (threadIdx.x < tile_rows) {
        const int64_t transition = a.index[first + threadIdx.x];
        source[threadIdx.x] = copies ? transition : a.row[transition];
        member[threadIdx.x] = (first + threadIdx.x) / a.size;
      }
      __syncthreads();
      if (copies) {
        copy_tile<T>(columns, source, member, first, tile_rows);
      } else {
        encode_tile(a, source, first, tile_rows, pass);
      }
      __syncthreads();  // before the next tile's rows replace these
    }
  }
}

Columns columns_of(const std::vector<int64_t>& plan) {
  const size_t count = plan.size() / kPlanEntries;
  FASTIFO_CHECK(plan.size() % kPlanEntries == 0 && count <= kMaxColumns,
                "columns: expected at most " << kMaxColumns << " on a GPU, found " << count);
  Columns columns{};
  for (size_t c = 0; c < count; ++c) {
    const int64_t* entry = plan.data() + c * kPlanEntries;
    FASTIFO_CHECK(entry[2] <= kMaxOutputs, "columns[" << c << "]: expected at most " << kMaxOutputs
                                                      << " numbers in a row, found " << entry[2]);
    columns.column[columns.count++] = {reinterpret_cast<const void*>(entry[0]),
                                       reinterpret_cast<void*>(entry[1]), entry[2], entry[3]};
  }
  return columns;
}

}  // namespace

template <typename T>
void gather_cuda(const int64_t* index, const int64_t* row, const T* obs, const T* scale,
                 const T* mean, const T* deviation, T* out, int64_t members, int64_t size,
                 int64_t width, int64_t scales, int64_t steps, const std::vector<int64_t>& plan,
                 cudaStream_t stream) {
  FASTIFO_CHECK(width <= kMaxOutputs / std::max<int64_t>(1, scales),
                "obs: expected at most " << kMaxOutputs << " numbers in a row, found " << width
                                         << " x " << scales);
  const Columns columns = columns_of(plan);
  const int64_t tiles = (members * size + kTileRows - 1) / kTileRows;
  const int64_t passes = steps + (columns.count > 0 ? 1 : 0);
  if (tiles <= 0 || passes <= 0) return;  // a launch of zero blocks is an error
  const dim3 blocks(static_cast<unsigned>(std::min(tiles, kMaxBlocksX)),
                    static_cast<unsigned>(std::min(passes, kMaxBlocksY)));
  const Arguments<T> arguments{index, row,     obs,  scale, mean,   deviation,
                               out,   members, size, width, scales, steps};
  gather_kernel<<<blocks, kThreads, 0, stream>>>(arguments, columns);
  check_launch("gather");
}

#define FASTIFO_INSTANTIATE(T)                                                            \
  template void gather_cuda(const int64_t*, const int64_t*, const T*, const T*, const T*, \
                            const T*, T*, int64_t, int64_t, int64_t, int64_t, int64_t,    \
                            const std::vector<int64_t>&, cudaStream_t)
FASTIFO_INSTANTIATE(float);
FASTIFO_INSTANTIATE(double);

}  // namespace fastifo

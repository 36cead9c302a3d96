// The discretised-action head on the CPU. Each logit is read once and each gradient written once;
// in between a tile of rows stays in the first-level cache. The kernel is a filter of
// 2 * radius + 1 taps, a sixth of the work of its matrix. Threads take ranges of tiles, counted
// through all members.
#include "ops/binned_nll.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/bins.h"
#include "common/parallel.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

constexpr int64_t kNumbersPerThread = 1 << 18;  // about 0.4 ms of work

// Calls body(tile, first, count) for tiles that cover every (row, dimension) of every member.
template <typename T, typename Body>
void for_each_tile(const T* taps, const T* norm, int64_t members, int64_t rows, int64_t dims,
                   int64_t bins, int64_t radius, const Body& body) {
  const int64_t count = rows * dims, tiles = (count + Tile<T>::kRows - 1) / Tile<T>::kRows;
  const int64_t grain = std::max<int64_t>(1, kNumbersPerThread / (Tile<T>::kRows * bins));
  parallel_for(members * tiles, grain, [=, &body](int64_t begin, int64_t end) {
    Tile<T> tile(bins, radius);
    int64_t used = -1;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t member = i / tiles, first = i % tiles * Tile<T>::kRows;
      if (member != used) tile.use(taps + member * (radius + 1), norm + member * bins);
      used = member;
      body(tile, member * count + first, std::min(Tile<T>::kRows, count - first));
    }
  });
}

}  // namespace

template <typename T>
void binned_nll_cpu(const T* logits, const T* action, const T* weight, const T* taps, const T* norm,
                    T* row_loss, T* loss, T* gradient, int64_t members, int64_t rows, int64_t dims,
                    int64_t bins, int64_t radius) {
  constexpr int64_t kRows = Tile<T>::kRows;
  struct Part {
    double total, below;  // sum of exp(l - largest), largest - l[bin]
  };
  std::vector<Part> part(static_cast<size_t>(members * rows * dims));
  for_each_tile<T>(taps, norm, members, rows, dims, bins, radius,
                   [=, &part](Tile<T>& tile, int64_t first, int64_t count) {
                     int64_t bin[kRows];
                     T picked[kRows] = {}, total[kRows], largest[kRows], factor[kRows] = {};
                     store(largest, tile.smooth(logits + first * bins, count));
                     for (int64_t i = 0; i < count; ++i) {
                       bin[i] = bin_of(action[first + i], bins);
                       picked[i] = tile.at(bin[i], i);
                     }
                     store(total, tile.template exponentiate<true>(load(largest)));
                     int64_t row = first / dims, left = dims - first % dims;
                     for (int64_t i = 0; i < count; ++i) {
                       const T scale = weight == nullptr ? T(1) : weight[row];
                       if (--left == 0) {
                         ++row;
                         left = dims;
                       }
                       tile.at(bin[i], i) -= total[i] * tile.norm(bin[i]);
                       factor[i] = scale / (static_cast<T>(rows) * total[i]);
                       part[static_cast<size_t>(first + i)] = {total[i], largest[i] - picked[i]};
                     }
                     tile.write_filtered(load(factor), gradient + first * bins, count);
                   });
  for (int64_t member = 0; member < members; ++member) {
    double sum = 0.0;
    for (int64_t row = member * rows; row < (member + 1) * rows; ++row) {
      double nll = 0.0, product = 1.0;  // one logarithm for many sums
      for (int64_t i = row * dims; i < (row + 1) * dims; ++i) {
        nll += part[static_cast<size_t>(i)].below;
        product *= part[static_cast<size_t>(i)].total;
        if (product > 1e200) {
          nll += std::log(product);
          product = 1.0;
        }
      }
      nll += std::log(product);
      row_loss[row] = static_cast<T>(weight == nullptr ? nll : weight[row] * nll);
      sum += row_loss[row];
    }
    loss[member] = static_cast<T>(sum / static_cast<double>(std::max<int64_t>(1, rows)));
  }
}

template <typename T>
void binned_sample_cpu(const T* logits, const T* uniform, const T* taps, const T* norm,
                       int64_t* out, int64_t members, int64_t rows, int64_t dims, int64_t bins,
                       int64_t radius) {
  for_each_tile<T>(taps, norm, members, rows, dims, bins, radius,
                   [=](Tile<T>& tile, int64_t first, int64_t count) {
                     const Vec<T> largest = tile.smooth(logits + first * bins, count);
                     const Bits<T> bin = tile.sample(largest, load_some(uniform + first, count));
                     for (int64_t i = 0; i < count; ++i) out[first + i] = bin[i];
                   });
}

template <typename T>
void binned_mode_cpu(const T* logits, const T* taps, const T* norm, int64_t* out, int64_t members,
                     int64_t rows, int64_t dims, int64_t bins, int64_t radius) {
  for_each_tile<T>(taps, norm, members, rows, dims, bins, radius,
                   [=](Tile<T>& tile, int64_t first, int64_t count) {
                     tile.smooth(logits + first * bins, count);
                     const Bits<T> bin = tile.mode();
                     for (int64_t i = 0; i < count; ++i) out[first + i] = bin[i];
                   });
}

#define FASTIFO_INSTANTIATE(T)                                                                     \
  template void binned_nll_cpu(const T*, const T*, const T*, const T*, const T*, T*, T*, T*,       \
                               int64_t, int64_t, int64_t, int64_t, int64_t);                       \
  template void binned_sample_cpu(const T*, const T*, const T*, const T*, int64_t*, int64_t,       \
                                  int64_t, int64_t, int64_t, int64_t);                             \
  template void binned_mode_cpu(const T*, const T*, const T*, int64_t*, int64_t, int64_t, int64_t, \
                                int64_t, int64_t)
FASTIFO_INSTANTIATE(float);
FASTIFO_INSTANTIATE(double);

}  // namespace FASTIFO_ISA
}  // namespace fastifo

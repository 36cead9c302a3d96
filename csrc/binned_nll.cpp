// The discretised-action head on the CPU. Each logit is read once and each gradient written once;
// in between a tile of rows stays in the first-level cache. The kernel is a filter of
// 2 * radius + 1 taps, a sixth of the work of its matrix. Threads take ranges of tiles, counted
// through all members.
#include "binned_nll.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/parallel.h"
#include "common/simd.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

constexpr int64_t kNumbersPerThread = 1 << 18;  // about 0.4 ms of work

// Rounds a product, so that the compiler does not fuse it with a sum: bins must be those of
// separate operations.
template <typename T>
FASTIFO_INLINE T rounded(T product) {
#if defined(__x86_64__)
  asm("" : "+x"(product));
#endif
  return product;
}

// Index of the bin whose centre is nearest; a NaN falls into bin 0.
template <typename T>
FASTIFO_INLINE int64_t bin_of(T action, int64_t bins) {
  const T half = T(0.5) * static_cast<T>(bins - 1);
  const T place = std::floor(rounded(action * half) + (half + T(0.5)));
  if (!(place > T(0))) return 0;
  return place < static_cast<T>(bins - 1) ? static_cast<int64_t>(place) : bins - 1;
}

// As many rows of one dimension as a vector has lanes, turned so that a lane is a row: the filter
// then reads aligned vectors only, and sums and maxima need no work across lanes.
template <typename T>
class Tile {
 public:
  static constexpr int64_t kRows = kLanes<T>;

  Tile(int64_t bins, int64_t radius)
      : bins_(bins), radius_(radius), storage_(2 * padded() + kRows), norm_(size_t(bins)) {
    const size_t misplaced = reinterpret_cast<uintptr_t>(storage_.data()) / sizeof(T) % kRows;
    raw_ = storage_.data() + (kRows - misplaced) % kRows + radius_ * kRows;
    value_ = raw_ + padded();
  }

  // The filter of the member whose rows follow.
  void use(const T* taps, const T* norm) {
    taps_ = taps;
    std::copy(norm, norm + bins_, norm_.begin());
  }

  // The number of row `row` in bin `bin`.
  T& at(int64_t bin, int64_t row) { return value_[bin * kRows + row]; }
  Vec<T> bin(int64_t bin) const { return load(value_ + bin * kRows); }

  // Values of the rows [0, count) = their smoothed logits; the other rows are 0. Returns the
  // largest.
  Vec<T> smooth(const T* logits, int64_t count) {
    if (count == kRows && bins_ >= kRows) {
      for (int64_t first = 0; first + kRows <= bins_; first += kRows) read_square(logits, first);
      if (bins_ % kRows != 0) read_square(logits, bins_ - kRows);
    } else {
      for (int64_t first = 0; first < bins_; first += kRows) read_rest(logits, count, first);
    }
    Vec<T> largest = fill(-std::numeric_limits<T>::infinity());
    filter(raw_, [&](int64_t bin, Vec<T> sum) __attribute__((always_inline)) {
      const Vec<T> value = sum * norm_[static_cast<size_t>(bin)];
      largest = value > largest ? value : largest;
      store(value_ + bin * kRows, value);
    });
    return largest;
  }

  // values = exp(values - largest), times the filter's norm if `kNormed`. Returns the plain sums.
  template <bool kNormed>
  Vec<T> exponentiate(Vec<T> largest) {
    Vec<T> sum{};
    for (int64_t i = 0; i < bins_; ++i) {
      const Vec<T> weight = exp(bin(i) - largest);
      sum += weight;
      store(value_ + i * kRows, kNormed ? weight * norm_[static_cast<size_t>(i)] : weight);
    }
    return sum;
  }

  T norm(int64_t bin) const { return norm_[static_cast<size_t>(bin)]; }

  // out = factor * filtered values, for the rows [0, count).
  void write_filtered(Vec<T> factor, T* out, int64_t count) {
    filter(value_, [&](int64_t bin, Vec<T> sum)
                       __attribute__((always_inline)) { store(raw_ + bin * kRows, sum * factor); });
    if (count == kRows && bins_ >= kRows) {
      for (int64_t first = 0; first + kRows <= bins_; first += kRows) write_square(out, first);
      if (bins_ % kRows != 0) write_square(out, bins_ - kRows);
    } else {
      for (int64_t first = 0; first < bins_; first += kRows) write_rest(out, count, first);
    }
  }

 private:
  // kRows bins of kRows rows, turned.
  FASTIFO_INLINE void read_square(const T* logits, int64_t first) {
    Vec<T> square[kRows];
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) square[row] = load(logits + row * bins_ + first);
    transpose<T>(square);
#pragma GCC unroll 16
    for (int k = 0; k < kRows; ++k) store(raw_ + (first + k) * kRows, square[k]);
  }

  FASTIFO_INLINE void write_square(T* out, int64_t first) {
    Vec<T> square[kRows];
#pragma GCC unroll 16
    for (int k = 0; k < kRows; ++k) square[k] = load(raw_ + (first + k) * kRows);
    transpose<T>(square);
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) store(out + row * bins_ + first, square[row]);
  }

  // A square of which rows or bins are missing.
  void read_rest(const T* logits, int64_t count, int64_t first) {
    const int64_t width = std::min(kRows, bins_ - first);
    Vec<T> square[kRows] = {};
    for (int64_t row = 0; row < count; ++row) {
      square[row] = load_some(logits + row * bins_ + first, width);
    }
    transpose<T>(square);
    for (int64_t k = 0; k < width; ++k) store(raw_ + (first + k) * kRows, square[k]);
  }

  void write_rest(T* out, int64_t count, int64_t first) {
    const int64_t width = std::min(kRows, bins_ - first);
    Vec<T> square[kRows] = {};
    for (int64_t k = 0; k < width; ++k) square[k] = load(raw_ + (first + k) * kRows);
    transpose<T>(square);
    for (int64_t row = 0; row < count; ++row) {
      store_some(out + row * bins_ + first, square[row], width);
    }
  }

  // Numbers of one array: margins of `radius` zeros on both sides spare the filter its bounds.
  size_t padded() const { return static_cast<size_t>((bins_ + 2 * radius_) * kRows); }

  // Calls write(bin, sum) for the sum over |d| <= radius of taps[|d|] * from[bin + d].
  template <typename Write>
  FASTIFO_INLINE void filter(const T* from, const Write& write) {
    if (bins_ < 8) {
      for (int64_t bin = 0; bin < bins_; ++bin) block<1>(from, bin, write);
      return;
    }
    for (int64_t bin = 0; bin + 8 <= bins_; bin += 8) block<8>(from, bin, write);
    if (bins_ % 8 != 0) block<8>(from, bins_ - 8, write);  // some bins twice: cheaper than alone
  }

  // N bins at once, so that N sums hide each other's latency.
  template <int N, typename Write>
  FASTIFO_INLINE void block(const T* from, int64_t bin, const Write& write) {
    const T* centre = from + bin * kRows;
    Vec<T> sum[N];
    for (int k = 0; k < N; ++k) sum[k] = load(centre + k * kRows) * taps_[0];
    for (int64_t d = 1; d <= radius_; ++d) {
      const Vec<T> tap = fill(taps_[d]);
      for (int k = 0; k < N; ++k) {
        sum[k] += tap * load(centre + (k + d) * kRows);
        sum[k] += tap * load(centre + (k - d) * kRows);
      }
    }
    for (int k = 0; k < N; ++k) write(bin + k, sum[k]);
  }

  int64_t bins_, radius_;
  const T* taps_ = nullptr;
  std::vector<T> storage_;
  std::vector<T> norm_;
  T* raw_;  // [bins, kRows] between margins, aligned
  T* value_;
};

// Calls body(tile, first, count) for tiles that cover every (row, dimension) of every member.
template <typename T, typename Body>
void for_each_tile(const T* taps, const T* norm, int64_t members, int64_t rows, int64_t dims,
                   int64_t bins, int64_t radius, const Body& body) {
  const int64_t own = rows * dims, tiles = (own + Tile<T>::kRows - 1) / Tile<T>::kRows;
  const int64_t grain = std::max<int64_t>(1, kNumbersPerThread / (Tile<T>::kRows * bins));
  parallel_for(members * tiles, grain, [=, &body](int64_t begin, int64_t end) {
    Tile<T> tile(bins, radius);
    int64_t used = -1;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t member = i / tiles, first = i % tiles * Tile<T>::kRows;
      if (member != used) tile.use(taps + member * (radius + 1), norm + member * bins);
      used = member;
      body(tile, member * own + first, std::min(Tile<T>::kRows, own - first));
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
                     for (int64_t i = 0; i < count; ++i) {
                       const T scale = weight == nullptr ? T(1) : weight[(first + i) / dims];
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
                     const Vec<T> total = tile.template exponentiate<false>(largest);
                     const Vec<T> threshold = load_some(uniform + first, count) * total;
                     Vec<T> reached{};
                     Bits<T> passed{};  // bins whose cumulative weight does not exceed it
                     for (int64_t i = 0; i < bins - 1; ++i) {
                       reached += tile.bin(i);
                       passed -= reached <= threshold;
                     }
                     for (int64_t i = 0; i < count; ++i) out[first + i] = passed[i];
                   });
}

template <typename T>
void binned_mode_cpu(const T* logits, const T* taps, const T* norm, int64_t* out, int64_t members,
                     int64_t rows, int64_t dims, int64_t bins, int64_t radius) {
  for_each_tile<T>(taps, norm, members, rows, dims, bins, radius,
                   [=](Tile<T>& tile, int64_t first, int64_t count) {
                     tile.smooth(logits + first * bins, count);
                     Vec<T> largest = tile.bin(0);
                     Bits<T> found{};
                     for (int64_t i = 1; i < bins; ++i) {
                       const Bits<T> better = tile.bin(i) > largest;
                       largest = better ? tile.bin(i) : largest;
                       found = better ? Bits<T>{} + static_cast<int32_t>(i) : found;
                     }
                     for (int64_t i = 0; i < count; ++i) out[first + i] = found[i];
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

// One tile of the discretised-action head: takes a few rows of one action dimension through the
// kernel filter, the exponentials and back, within the L1 cache.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "common/simd.h"

namespace fastifo {
namespace FASTIFO_ISA {

// Returns the rounded product, so that the compiler cannot fuse it into a multiply-add: bins must
// not depend on the instruction set.
template <typename T>
FASTIFO_INLINE T rounded(T product) {
#if defined(__x86_64__)
  asm("" : "+x"(product));
#endif
  return product;
}

// The bin whose centre is nearest to the action; bin 0 for a NaN.
template <typename T>
FASTIFO_INLINE int64_t bin_of(T action, int64_t bins) {
  const T half = T(0.5) * static_cast<T>(bins - 1);
  const T index = std::floor(rounded(action * half) + (half + T(0.5)));
  if (!(index > T(0))) return 0;
  return index < static_cast<T>(bins - 1) ? static_cast<int64_t>(index) : bins - 1;
}

// As many rows of one dimension as a vector has lanes, transposed so that each lane holds one row.
// The filter then reads aligned vectors only, and sums and maxima need no operation across lanes.
template <typename T>
class Tile {
 public:
  static constexpr int64_t kRows = kLanes<T>;

  Tile(int64_t bins, int64_t radius)
      : bins_(bins), radius_(radius), storage_(2 * padded() + kRows), norm_(size_t(bins)) {
    const size_t offset = reinterpret_cast<uintptr_t>(storage_.data()) / sizeof(T) % kRows;
    raw_ = storage_.data() + (kRows - offset) % kRows + radius_ * kRows;
    value_ = raw_ + padded();
  }

  // Sets the filter of the member whose rows follow.  taps: [radius + 1].  norm: [bins].
  void use(const T* taps, const T* norm) {
    taps_ = taps;
    std::copy(norm, norm + bins_, norm_.begin());
  }

  // The value of row `row` in bin `bin`.
  T& at(int64_t bin, int64_t row) { return value_[bin * kRows + row]; }
  Vec<T> bin(int64_t bin) const { return load(value_ + bin * kRows); }

  // Sets the values of rows [0, count) to their smoothed logits and the other rows to 0. Returns
  // each row's largest value.  logits: [count, bins].
  Vec<T> smooth(const T* logits, int64_t count) {
    if (count == kRows && bins_ >= kRows) {
      for (int64_t first = 0; first + kRows <= bins_; first += kRows) read_square(logits, first);
      if (bins_ % kRows != 0) read_square(logits, bins_ - kRows);
    } else {
      for (int64_t first = 0; first < bins_; first += kRows) read_partial(logits, count, first);
    }
    return smooth_raw();
  }

  // Like `smooth`, but reads one line of numbers per bin, `stride` apart, with one column per row.
  Vec<T> smooth_lines(const T* lines, int64_t stride) {
    for (int64_t bin = 0; bin < bins_; ++bin) {
      store(raw_ + bin * kRows, load(lines + bin * stride));
    }
    return smooth_raw();
  }

  // values = exp(values - largest), times the filter's norm if `kNormed`. Returns each row's sum
  // without the norm.
  template <bool kNormed>
  Vec<T> exponentiate(Vec<T> largest) {
    constexpr int kUnroll = 4;
    Vec<T> sum{};
    int64_t i = 0;
    for (; i + kUnroll <= bins_; i += kUnroll) weigh<kUnroll, kNormed>(i, largest, sum);
    for (; i < bins_; ++i) weigh<1, kNormed>(i, largest, sum);
    return sum;
  }

  // Samples a bin for each row by inverse transform: p(bin) is the softmax of the values.
  // Overwrites the values.  largest: each row's largest value.  uniform: numbers in [0, 1).
  Bits<T> sample(Vec<T> largest, Vec<T> uniform) {
    const Vec<T> threshold = uniform * exponentiate<false>(largest);
    Vec<T> reached{};
    Bits<T> passed{};  // how many bins have a cumulative weight up to the threshold
    for (int64_t i = 0; i < bins_ - 1; ++i) {
      reached += bin(i);
      passed -= reached <= threshold;
    }
    return passed;
  }

  // The most likely bin of each row, the lowest on ties.
  Bits<T> mode() const {
    Vec<T> largest = bin(0);
    Bits<T> index{};
    for (int64_t i = 1; i < bins_; ++i) {
      const Bits<T> better = bin(i) > largest;
      largest = better ? bin(i) : largest;
      index = better ? Bits<T>{} + static_cast<int32_t>(i) : index;
    }
    return index;
  }

  T norm(int64_t bin) const { return norm_[static_cast<size_t>(bin)]; }

  // out = factor * filtered values, for rows [0, count).  out: [count, bins].
  void write_filtered(Vec<T> factor, T* out, int64_t count) {
    filter(value_, [&](int64_t bin, Vec<T> sum)
                       __attribute__((always_inline)) { store(raw_ + bin * kRows, sum * factor); });
    if (count == kRows && bins_ >= kRows) {
      for (int64_t first = 0; first + kRows <= bins_; first += kRows) write_square(out, first);
      if (bins_ % kRows != 0) write_square(out, bins_ - kRows);
    } else {
      for (int64_t first = 0; first < bins_; first += kRows) write_partial(out, count, first);
    }
  }

  // Like `write_filtered`, but writes one line of numbers per bin.
  void write_filtered_lines(Vec<T> factor, T* lines, int64_t stride) {
    filter(value_, [&](int64_t bin, Vec<T> sum) __attribute__((always_inline)) {
      store(lines + bin * stride, sum * factor);
    });
  }

 private:
  // `exponentiate` for N bins.
  template <int N, bool kNormed>
  FASTIFO_INLINE void weigh(int64_t first, Vec<T> largest, Vec<T>& sum) {
    Vec<T> weight[N];
    for (int k = 0; k < N; ++k) weight[k] = bin(first + k) - largest;
    exp_each<N>(weight);
    for (int k = 0; k < N; ++k) {
      sum += weight[k];
      const T norm = norm_[static_cast<size_t>(first + k)];
      store(value_ + (first + k) * kRows, kNormed ? weight[k] * norm : weight[k]);
    }
  }

  Vec<T> smooth_raw() {
    Vec<T> largest = fill(-std::numeric_limits<T>::infinity());
    filter(raw_, [&](int64_t bin, Vec<T> sum) __attribute__((always_inline)) {
      const Vec<T> value = sum * norm_[static_cast<size_t>(bin)];
      largest = value > largest ? value : largest;
      store(value_ + bin * kRows, value);
    });
    return largest;
  }

  // Reads kRows bins of kRows rows, transposed.
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

  // Reads a square that lacks some rows or bins.
  void read_partial(const T* logits, int64_t count, int64_t first) {
    const int64_t width = std::min(kRows, bins_ - first);
    Vec<T> square[kRows] = {};
    for (int64_t row = 0; row < count; ++row) {
      square[row] = load_some(logits + row * bins_ + first, width);
    }
    transpose<T>(square);
    for (int64_t k = 0; k < width; ++k) store(raw_ + (first + k) * kRows, square[k]);
  }

  void write_partial(T* out, int64_t count, int64_t first) {
    const int64_t width = std::min(kRows, bins_ - first);
    Vec<T> square[kRows] = {};
    for (int64_t k = 0; k < width; ++k) square[k] = load(raw_ + (first + k) * kRows);
    transpose<T>(square);
    for (int64_t row = 0; row < count; ++row) {
      store_some(out + row * bins_ + first, square[row], width);
    }
  }

  // The size of one array. `radius` zeros on both sides let the filter read beyond the bins.
  size_t padded() const { return static_cast<size_t>((bins_ + 2 * radius_) * kRows); }

  // Calls write(bin, sum) for the sum over |d| <= radius of taps[|d|] * from[bin + d].
  template <typename Write>
  FASTIFO_INLINE void filter(const T* from, const Write& write) {
    if (bins_ < 8) {
      for (int64_t bin = 0; bin < bins_; ++bin) block<1, 0>(from, bin, write);
    } else if (radius_ == kDefaultRadius) {
      blocks<kDefaultRadius>(from, write);
    } else {
      blocks<0>(from, write);
    }
  }

  template <int kRadius, typename Write>
  FASTIFO_INLINE void blocks(const T* from, const Write& write) {
    for (int64_t bin = 0; bin + 8 <= bins_; bin += 8) block<8, kRadius>(from, bin, write);
    if (bins_ % 8 != 0) {
      // Recomputing some bins is cheaper than computing the remaining ones one by one.
      block<8, kRadius>(from, bins_ - 8, write);
    }
  }

  // N bins together, so that N independent sums hide latency. kRadius > 0 is a radius known at
  // compile time, which unrolls the loop; 0 reads `radius_`.
  template <int N, int kRadius, typename Write>
  FASTIFO_INLINE void block(const T* from, int64_t bin, const Write& write) {
    const T* centre = from + bin * kRows;
    const int64_t radius = kRadius > 0 ? kRadius : radius_;
    Vec<T> sum[N];
    for (int k = 0; k < N; ++k) sum[k] = load(centre + k * kRows) * taps_[0];
#pragma GCC unroll 8
    for (int64_t d = 1; d <= radius; ++d) {
      const Vec<T> tap = fill(taps_[d]);
      for (int k = 0; k < N; ++k) {
        sum[k] += tap * load(centre + (k + d) * kRows);
        sum[k] += tap * load(centre + (k - d) * kRows);
      }
    }
    for (int k = 0; k < N; ++k) write(bin + k, sum[k]);
  }

  // A kernel of width 0.04 over 101 bins, cut off at four standard deviations.
  static constexpr int kDefaultRadius = 8;

  int64_t bins_, radius_;
  const T* taps_ = nullptr;
  std::vector<T> storage_;
  std::vector<T> norm_;
  T* raw_;    // [bins, kRows], aligned, with `radius` zeros before and after; the logits
  T* value_;  // likewise; the values
};

}  // namespace FASTIFO_ISA
}  // namespace fastifo

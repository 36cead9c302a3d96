// Matrices in panels of 16 columns: element (row, column) lies at
// (column / 16 * rows + row) * 16 + column % 16, so that a line of 16 numbers is one row of one
// panel. Activations are [features, batch], weights [inputs, outputs]; both sizes are multiples of
// 32, and what lies beyond the true sizes is 0 and stays 0.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include "common/simd.h"

namespace fastifo {
namespace FASTIFO_ISA {

#ifndef FASTIFO_REAL
#define FASTIFO_REAL float
#endif
using Real = FASTIFO_REAL;  // double in the build that the tests judge by

constexpr int64_t kPanel = 16;
constexpr int64_t kVectors = kPanel / kLanes<Real>;  // of a line

constexpr int64_t kBlock = 32;  // two panels, or what a product takes of terms at once

constexpr int64_t padded(int64_t size) { return (size + kBlock - 1) / kBlock * kBlock; }

struct Range {
  int64_t first, last;

  int64_t count() const { return last - first; }
  // What lies in [begin, begin + size) too, counted from `begin`.
  Range within(int64_t begin, int64_t size) const {
    const int64_t from = std::clamp<int64_t>(first - begin, 0, size);
    return {from, std::clamp<int64_t>(last - begin, from, size)};
  }
};

struct Panels {
  Real* data;
  int64_t rows;
  int64_t columns;

  Real* panel(int64_t index) const { return data + index * rows * kPanel; }
  Real* line(int64_t index, int64_t row) const { return panel(index) + row * kPanel; }
  int64_t panels() const { return columns / kPanel; }
  int64_t size() const { return rows * columns; }

  // What begins at row `first`, for `line` alone.
  Panels below(int64_t first) const { return {data + first * kPanel, rows, columns}; }

  // The columns [first, first + count), both multiples of 16.
  Panels part(int64_t first, int64_t count) const { return {data + first * rows, rows, count}; }
  Panels part(const Range& range) const { return part(range.first, range.count()); }
};

// Zeroed memory at addresses that vectors like. Own code: what the standard library compiles here
// for one instruction set, the linker could hand to another.
class Buffer {
 public:
  explicit Buffer(int64_t numbers) {
    const size_t bytes = static_cast<size_t>(std::max<int64_t>(numbers, kPanel)) * sizeof(Real);
    data_ = static_cast<Real*>(std::aligned_alloc(kAlign, (bytes + kAlign - 1) / kAlign * kAlign));
    if (data_ == nullptr) throw std::bad_alloc();
    std::memset(data_, 0, bytes);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }

  Real* data() const { return data_; }

 private:
  static constexpr size_t kAlign = 4096;
  Real* data_;
};

// Panels that own their memory.
class Matrix {
 public:
  Matrix(int64_t rows, int64_t columns)
      : rows_(padded(rows)), columns_(padded(columns)), buffer_(rows_ * columns_) {}

  operator Panels() const { return {buffer_.data(), rows_, columns_}; }
  Panels all() const { return *this; }

 private:
  int64_t rows_, columns_;
  Buffer buffer_;
};

// out(j, i - first) = in(i, j) for the rows [first, last) of `in`. `out` is panels of its own.
FASTIFO_INLINE void transpose_panels(const Panels& in, const Range& which, const Panels& out) {
  constexpr int kSquares = static_cast<int>(kVectors);
  constexpr int64_t kWidth = kLanes<Real>;
  for (int64_t panel = 0; panel < in.panels(); ++panel) {
    for (int64_t row = which.first; row < which.last; row += kPanel) {
      const Real* from = in.line(panel, row);
      Real* to = out.line((row - which.first) / kPanel, panel * kPanel);
      for (int a = 0; a < kSquares; ++a) {
        for (int b = 0; b < kSquares; ++b) {
          Vec<Real> square[kWidth];
#pragma GCC unroll 16
          for (int64_t i = 0; i < kWidth; ++i) {
            square[i] = load(from + (a * kWidth + i) * kPanel + b * kWidth);
          }
          transpose<Real>(square);
#pragma GCC unroll 16
          for (int64_t i = 0; i < kWidth; ++i) {
            store(to + (b * kWidth + i) * kPanel + a * kWidth, square[i]);
          }
        }
      }
    }
  }
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

// Matrices stored in panels of 16 columns. Element (row, column) is at
// (column / 16 * rows + row) * 16 + column % 16, so 16 consecutive numbers ("a line") are one row
// of one panel. Activations are [features, batch], weights [inputs, outputs]. Both sizes are padded
// to multiples of 32. The padding of features, inputs and outputs is 0 and stays 0. In the padding
// of the batch gradients are 0 and activations any numbers that come from this member's data and
// weights: a NaN that another member left there would survive the product with 0.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include "common/huge_pages.h"
#include "common/simd.h"

namespace fastifo {
namespace FASTIFO_ISA {

#ifndef FASTIFO_REAL
#define FASTIFO_REAL float
#endif
using Real = FASTIFO_REAL;  // double in the fp64 build, the reference in the tests

constexpr int64_t kPanel = 16;
constexpr int64_t kVectors = kPanel / kLanes<Real>;  // vectors in a line

constexpr int64_t kBlock = 32;  // padding unit: two panels, or one block of terms in a bf16 product

constexpr int64_t padded(int64_t size) { return (size + kBlock - 1) / kBlock * kBlock; }

struct Range {
  int64_t first, last;  // `last` is excluded

  int64_t count() const { return last - first; }
  // The part of this range inside [begin, begin + size), relative to `begin`.
  Range within(int64_t begin, int64_t size) const {
    const int64_t from = std::clamp<int64_t>(first - begin, 0, size);
    return {from, std::clamp<int64_t>(last - begin, from, size)};
  }
};

// A view of a matrix in panels.
struct Panels {
  Real* data;
  int64_t rows;
  int64_t columns;

  Real* panel(int64_t index) const { return data + index * rows * kPanel; }
  Real* line(int64_t index, int64_t row) const { return panel(index) + row * kPanel; }
  int64_t panels() const { return columns / kPanel; }
  int64_t size() const { return rows * columns; }

  // The same matrix with row `first` as row 0. Only `line` is valid on the result.
  Panels from_row(int64_t first) const { return {data + first * kPanel, rows, columns}; }

  // The columns [first, first + count); both must be multiples of 16.
  Panels part(int64_t first, int64_t count) const { return {data + first * rows, rows, count}; }
  Panels part(const Range& range) const { return part(range.first, range.count()); }
};

// Requests a line of the next tile: a product needs its operands and its result's memory in L2 by
// the time it gets there. L1 would lose the line again while the current tile is computed.
FASTIFO_INLINE void prefetch_l2(const void* at) { __builtin_prefetch(at, 1, 2); }

// Zeroed, page-aligned memory. Uses no library templates: the linker keeps one copy of an inline
// library function for all instruction sets, and that copy may be built for the wrong one.
class Buffer {
 public:
  explicit Buffer(int64_t numbers) {
    const size_t bytes = static_cast<size_t>(std::max<int64_t>(numbers, kPanel)) * sizeof(Real);
    const size_t align = bytes < kHugePage ? kPage : kHugePage;
    data_ = static_cast<Real*>(std::aligned_alloc(align, (bytes + align - 1) / align * align));
    if (data_ == nullptr) throw std::bad_alloc();
    advise_huge_pages(data_, bytes);
    std::memset(data_, 0, bytes);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }

  Real* data() const { return data_; }

 private:
  static constexpr size_t kPage = 4096;
  Real* data_;
};

// A matrix in panels that owns its memory.
class Matrix {
 public:
  Matrix(int64_t rows, int64_t columns)
      : rows_(padded(rows)), columns_(padded(columns)), buffer_(rows_ * columns_) {}

  operator Panels() const { return {buffer_.data(), rows_, columns_}; }
  Panels view() const { return *this; }

 private:
  int64_t rows_, columns_;
  Buffer buffer_;
};

// out(j, i - rows.first) = in(i, j) for the given rows of `in`.  out: [in.columns, rows.count()].
FASTIFO_INLINE void transpose_panels(const Panels& in, const Range& rows, const Panels& out) {
  constexpr int kSquares = static_cast<int>(kVectors);
  constexpr int64_t kWidth = kLanes<Real>;
  for (int64_t panel = 0; panel < in.panels(); ++panel) {
    for (int64_t row = rows.first; row < rows.last; row += kPanel) {
      const Real* from = in.line(panel, row);
      Real* to = out.line((row - rows.first) / kPanel, panel * kPanel);
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

// Products of matrices in panels. A tile of the result stays in registers while 16 terms after 16
// are added to it; then a function of the caller's takes it line by line, so that bias, activation
// or Adam's step cost no pass of their own. The terms of one number are added in one order whatever
// the other sizes are: a column's result does not depend on its neighbours.
#pragma once

#include "engine/panels.h"

namespace fastifo {
namespace FASTIFO_ISA {

// Rows and panels of a tile: as many sums as hide the latency of a multiply-add and stay in
// registers.
#if defined(__AVX512F__)
constexpr int kTileRows = 8, kTilePanels = 2;
#elif defined(__AVX2__)
constexpr int kTileRows = 4, kTilePanels = 1;
#else
constexpr int kTileRows = 2, kTilePanels = 1;
#endif
// Blocks that fit the caches: kDepth lines of a tile's columns and the strip's sums stay in the
// first level, a strip of `a` in the second.
constexpr int64_t kStripRows = 64;
constexpr int64_t kDepth = 128;

// tile(i, j) = or += sum over `blocks` blocks of 16 terms. A block of `a` is 16 lines, the next one
// `a_stride` further: term t of row i is number i of line t if kTransposed, else t of line i.
template <int kWide, bool kTransposed>
__attribute__((noinline)) void multiply_tile(const Real* a, int64_t a_stride, const Real* b,
                                             int64_t b_stride, int64_t blocks, bool adds,
                                             Real* tile) {
  constexpr int kColumns = kWide * static_cast<int>(kVectors);
  Vec<Real> sum[kTileRows][kColumns];
#pragma GCC unroll 8
  for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kColumns; ++j) {
      sum[i][j] = adds ? load(tile + (i * kColumns + j) * kLanes<Real>) : Vec<Real>{};
    }
  }
  for (int64_t block = 0; block < blocks; ++block) {
#pragma GCC unroll 4
    for (int t = 0; t < kPanel; ++t) {
      Vec<Real> right[kColumns];
#pragma GCC unroll 8
      for (int j = 0; j < kColumns; ++j) {
        right[j] = load(b + (j / kVectors) * b_stride + t * kPanel + j % kVectors * kLanes<Real>);
      }
#pragma GCC unroll 8
      for (int i = 0; i < kTileRows; ++i) {
        const Vec<Real> left = fill(kTransposed ? a[t * kPanel + i] : a[i * kPanel + t]);
#pragma GCC unroll 8
        for (int j = 0; j < kColumns; ++j) sum[i][j] += left * right[j];
      }
    }
    a += a_stride;
    b += kPanel * kPanel;
  }
#pragma GCC unroll 8
  for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kColumns; ++j) store(tile + (i * kColumns + j) * kLanes<Real>, sum[i][j]);
  }
}

// The rows [first, last) of kWide panels of the result.
template <int kWide, bool kTransposed, typename Finish>
FASTIFO_INLINE void multiply_strip(const Panels& a, const Panels& b, int64_t first, int64_t last,
                                   int64_t panel, const Finish& finish) {
  alignas(64) Real sums[kStripRows * kWide * kPanel];
  for (int64_t term = 0; term < b.rows; term += kDepth) {
    const int64_t blocks = std::min(kDepth, b.rows - term) / kPanel;
    for (int64_t row = first; row < last; row += kTileRows) {
      const Real* left =
          kTransposed ? a.line(row / kPanel, term) + row % kPanel : a.line(term / kPanel, row);
      multiply_tile<kWide, kTransposed>(left, (kTransposed ? kPanel : a.rows) * kPanel,
                                        b.line(panel, term), b.rows * kPanel, blocks, term > 0,
                                        sums + (row - first) * kWide * kPanel);
    }
  }
  for (int j = 0; j < kWide; ++j) {
    for (int64_t row = first; row < last; ++row) {
      finish(row, panel + j, sums + ((row - first) * kWide + j) * kPanel);
    }
  }
}

// Result (i, j) = sum over t of a(i, t) * b(t, j), or of a(t, i) * b(t, j) if kTransposed, for the
// rows [0, rows) and a few more up to whole tiles. Calls finish(row, panel, line) for every 16
// numbers.
template <bool kTransposed, typename Finish>
FASTIFO_INLINE void multiply(const Panels& a, const Panels& b, int64_t rows, const Finish& finish) {
  const int64_t end = (rows + kTileRows - 1) / kTileRows * kTileRows;
  for (int64_t first = 0; first < end; first += kStripRows) {
    const int64_t last = std::min(first + kStripRows, end);
    int64_t panel = 0;
    for (; panel + kTilePanels <= b.panels(); panel += kTilePanels) {
      multiply_strip<kTilePanels, kTransposed>(a, b, first, last, panel, finish);
    }
    for (; panel < b.panels(); ++panel) {
      multiply_strip<1, kTransposed>(a, b, first, last, panel, finish);
    }
  }
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

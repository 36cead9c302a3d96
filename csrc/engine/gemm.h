// Matrix products on panels. A tile of the result stays in registers while terms are added to it in
// blocks of 16; a callback then receives it line by line, so that bias, activation or Adam's step
// need no separate pass over memory. The order in which an element's terms are added does not
// depend on the other sizes, so a column's result is independent of its neighbours.
#pragma once

#include "engine/panels.h"

namespace fastifo {
namespace FASTIFO_ISA {

// Size of a tile: its sums hide the latency of a multiply-add and still fit in registers.
#if defined(__AVX512F__)
constexpr int kTileRows = 8, kTilePanels = 2;
#elif defined(__AVX2__)
constexpr int kTileRows = 4, kTilePanels = 1;
#else
constexpr int kTileRows = 2, kTilePanels = 1;
#endif
// Cache blocking: kDepth lines of a tile's columns and a strip's sums fit in L1, the strip of `a`
// that they multiply fits in L2.
constexpr int64_t kStripRows = 64;
constexpr int64_t kDepth = 128;

// tile(i, j) = the sum over `blocks` blocks of 16 terms, added to the tile if `accumulates`. A
// block of `a` is 16 lines; blocks are `a_stride` apart. Term t of row i is element i of line t if
// kTransposed, else element t of line i.
template <int kWide, bool kTransposed>
__attribute__((noinline)) void gemm_tile(const Real* a, int64_t a_stride, const Real* b,
                                         int64_t b_stride, int64_t blocks, bool accumulates,
                                         Real* tile) {
  constexpr int kColumns = kWide * static_cast<int>(kVectors);
  Vec<Real> sum[kTileRows][kColumns];
#pragma GCC unroll 8
  for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < kColumns; ++j) {
      sum[i][j] = accumulates ? load(tile + (i * kColumns + j) * kLanes<Real>) : Vec<Real>{};
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

// Rows [first, last) of kWide panels of the result, starting at `panel`.
template <int kWide, bool kTransposed, typename Finish>
FASTIFO_INLINE void gemm_strip(const Panels& a, const Panels& b, int64_t first, int64_t last,
                               int64_t panel, const Finish& finish) {
  alignas(64) Real sums[kStripRows * kWide * kPanel];
  for (int64_t term = 0; term < b.rows; term += kDepth) {
    const int64_t blocks = std::min(kDepth, b.rows - term) / kPanel;
    for (int64_t row = first; row < last; row += kTileRows) {
      const Real* left =
          kTransposed ? a.line(row / kPanel, term) + row % kPanel : a.line(term / kPanel, row);
      gemm_tile<kWide, kTransposed>(left, (kTransposed ? kPanel : a.rows) * kPanel,
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

// result(i, j) = sum over t of a(i, t) * b(t, j), or of a(t, i) * b(t, j) if kTransposed, for rows
// [0, rows), rounded up to complete tiles. Calls finish(row, panel, line) for every line.
template <bool kTransposed, typename Finish>
FASTIFO_INLINE void gemm(const Panels& a, const Panels& b, int64_t rows, const Finish& finish) {
  const int64_t end = (rows + kTileRows - 1) / kTileRows * kTileRows;
  for (int64_t first = 0; first < end; first += kStripRows) {
    const int64_t last = std::min(first + kStripRows, end);
    int64_t panel = 0;
    for (; panel + kTilePanels <= b.panels(); panel += kTilePanels) {
      gemm_strip<kTilePanels, kTransposed>(a, b, first, last, panel, finish);
    }
    for (; panel < b.panels(); ++panel) {
      gemm_strip<1, kTransposed>(a, b, first, last, panel, finish);
    }
  }
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

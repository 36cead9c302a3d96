// What becomes of a 32 x 32 block of a bf16 product while it is in L1: bias and activation or its
// derivative, and the packed copies that the next products read. A product finishes a block two
// rows at a time (engine/gemm_bf16.h): rows i and i + 1, in order for every even i below 32.
#pragma once

#include "engine/pack_bf16.h"

namespace fastifo {
namespace FASTIFO_ISA {

// Sums of a product, two panels of 32 lines.
template <typename Number>
FASTIFO_INLINE Block<Number> block_of(const Number* sums) {
  return {{sums, sums + kBlock * kPanel}};
}

// Calls body(line, panel, row) for the lines of rows i and i + 1.
template <typename Number, typename Body>
FASTIFO_INLINE void each_line(Number* sums, int64_t i, const Body& body) {
  for (int64_t panel = 0; panel < 2; ++panel) {
    body(sums + (panel * kBlock + i) * kPanel, panel, i);
    body(sums + (panel * kBlock + i + 1) * kPanel, panel, i + 1);
  }
}

// Adds a bias to every row, and if `relu` replaces what is negative by 0. A NaN stays.
template <typename Number>
FASTIFO_INLINE void add_bias(Number* sums, int64_t i, const Number* bias, bool relu) {
  const Vec<Number> least = fill(relu ? Number(0) : -std::numeric_limits<Number>::infinity());
  each_line(sums, i, [&](Number* line, int64_t, int64_t row) __attribute__((always_inline)) {
    const Vec<Number> shift = fill(bias[row]);
    for (int64_t v = 0; v < kPanel; v += kLanes<Number>) {
      const Vec<Number> y = load(line + v) + shift;
      store(line + v, y < least ? least : y);
    }
  });
}

// Keeps the gradient where the activation was positive and replaces it by 0 elsewhere.  active: the
// activation's tiles as `Packs::down` has them, of the left and of the right 16 columns.
template <typename Number>
FASTIFO_INLINE void mask_rows(Number* sums, int64_t i, const Bf16* first, const Bf16* second) {
  for (int64_t panel = 0; panel < 2; ++panel) {
    for (int64_t v = 0; v < kPanel; v += kLanes<Number>) {
      Words pairs;
      std::memcpy(&pairs, (panel == 0 ? first : second) + i * kPanel + 2 * v, sizeof(pairs));
      Number* const line = sums + (panel * kBlock + i) * kPanel + v;
      store(line, (Bits<Number>)(pairs << 16) > 0 ? load(line) : Vec<Number>{});
      store(line + kPanel,
            (Bits<Number>)(pairs & 0xFFFF0000u) > 0 ? load(line + kPanel) : Vec<Number>{});
    }
  }
}

// The same with the activation itself.
template <typename Number>
FASTIFO_INLINE void mask_rows(Number* sums, int64_t i, const Block<Number>& active) {
  each_line(sums, i, [&](Number* line, int64_t panel, int64_t row) __attribute__((always_inline)) {
    for (int64_t v = 0; v < kPanel; v += kLanes<Number>) {
      const Vec<Number> x = load(active.line(panel, row) + v);
      store(line + v, x > Number(0) ? load(line + v) : Vec<Number>{});
    }
  });
}

// Packs rows of an activation's block that begins at (row, column).
template <int kParts, typename Number>
FASTIFO_INLINE void pack_activation(const Number* sums, int64_t i, const Packs& to, int64_t row,
                                    int64_t column, bool hardware) {
  for (int part = 0; part < kParts; ++part) {
    Bf16* const down = to.down_tile(row, column) + part * to.size();
    pack_rows_right(block_of(sums), i, down, down + to.rows * kPanel, part, hardware);
    if (to.along == nullptr) continue;
    Bf16* const along = to.along_tile(row, column) + part * to.size();
    pack_rows_left(block_of(sums), i, along, along + to.columns * kPanel, part, hardware);
  }
}

// Packs rows of a gradient's block that begins at (row, column).
template <int kParts, typename Number>
FASTIFO_INLINE void pack_gradient(const Number* sums, int64_t i, const Packs& to, int64_t row,
                                  int64_t column, bool hardware) {
  for (int part = 0; part < kParts; ++part) {
    if (to.down != nullptr) {
      Bf16* const down = to.down_tile(row, column) + part * to.size();
      pack_rows_right(block_of(sums), i, down, down + to.rows * kPanel, part, hardware);
    }
    if (i % kPanel != kPanel - 2) continue;
    const int64_t first = i / kPanel * kPanel;  // of the 16 rows that are complete
    pack_transposed(block_of(sums), first, to.along_tile(row + first, column) + part * to.size(),
                    part, hardware);
  }
}

// line[i] = the sum of the first `columns` columns in row `row` + i of a gradient that was packed
// by `pack_gradient`, for 16 rows.
template <int kParts, typename Number>
FASTIFO_INLINE void packed_row_sums(const Packs& gradient, int64_t row, int64_t columns,
                                    Number* line) {
  for (int64_t v = 0; v < kPanel; v += kLanes<Number>) {
    Vec<Number> sum[2] = {};
    for (int part = 0; part < kParts; ++part) {
      const Bf16* const tiles = gradient.along_tile(row, 0) + part * gradient.size();
      for (int64_t pair = 0; pair < columns / 2; ++pair) {
        Words words;
        std::memcpy(&words, tiles + pair * kBlock + 2 * v, sizeof(words));
        sum[0] += (Vec<Number>)(words << 16);
        sum[1] += (Vec<Number>)(words & 0xFFFF0000u);
      }
    }
    store(line + v, sum[0] + sum[1]);
  }
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

// Operands of bf16 products: rounding to bfloat16 and packing into tiles of one kilobyte, the shape
// that AMX tile registers take.
//   left  L(i, t): [rows / 16][terms / 32][16 rows][32 terms]
//   right R(t, j): [columns / 16][terms / 2][16 columns][2 terms]
// With kParts = 2 each number is the sum of two bf16 numbers; all first parts are stored before all
// second parts.
#pragma once

#include "engine/panels.h"

namespace fastifo {
namespace FASTIFO_ISA {

using Bf16 = uint16_t;  // the bits of a bfloat16 number
constexpr int64_t kTileSize = kPanel * kBlock;

template <int kWidth>
struct BitsOf {
  typedef uint32_t type __attribute__((vector_size(kWidth)));
};
using Words = BitsOf<kVectorBytes>::type;

FASTIFO_INLINE Words words_of(Vec<float> x) { return (Words)x; }

// The bits of x rounded to the nearest bf16 number, ties to even, in the upper half of each word.
FASTIFO_INLINE Words rounded_words(Vec<float> x) {
  const Words bits = words_of(x);
  const Words nearest = (bits + (0x7FFFu + ((bits >> 16) & 1u))) & 0xFFFF0000u;
  return x == x ? nearest : bits & 0xFFFF0000u;  // cut off: a NaN stays a NaN
}

// x minus its first part, which is what the second part holds.
FASTIFO_INLINE Vec<float> remainder_of(Vec<float> x) { return x - (Vec<float>)rounded_words(x); }

// Stores part `part` of a line of 16 numbers.
template <typename Number>  // float; a template, so that the fp64 build need not compile it
FASTIFO_INLINE void store_line(Bf16* to, const Number* line, int part) {
  for (int64_t v = 0; v < kPanel; v += kLanes<float>) {
    Vec<float> x = load(line + v);
    if (part == 1) x = remainder_of(x);
    const Words bits = rounded_words(x) >> 16;
    typedef uint16_t Narrow __attribute__((vector_size(kVectorBytes / 2)));
    const Narrow narrow = __builtin_convertvector(bits, Narrow);
    std::memcpy(to + v, &narrow, sizeof(narrow));
  }
}

// Stores part `part` of two lines as pairs (a[i], b[i]).
template <typename Number>
FASTIFO_INLINE void store_pairs(Bf16* to, const Number* a, const Number* b, int part) {
  for (int64_t v = 0; v < kPanel; v += kLanes<float>) {
    Vec<float> x = load(a + v), y = load(b + v);
    if (part == 1) {
      x = remainder_of(x);
      y = remainder_of(y);
    }
    const Words bits = (rounded_words(x) >> 16) | rounded_words(y);
    std::memcpy(to + 2 * v, &bits, sizeof(bits));
  }
}

// R(t, j) = in(t, j).
template <int kParts>
FASTIFO_INLINE void pack_right(const Panels& in, Bf16* out) {
  for (int part = 0; part < kParts; ++part, out += in.size()) {
    for (int64_t panel = 0; panel < in.panels(); ++panel) {
      for (int64_t row = 0; row < in.rows; row += 2) {
        store_pairs(out + (panel * in.rows + row) * kPanel, in.line(panel, row),
                    in.line(panel, row + 1), part);
      }
    }
  }
}

// L(i, t) = in(i, t).
template <int kParts>
FASTIFO_INLINE void pack_left(const Panels& in, Bf16* out) {
  const int64_t blocks = in.columns / kBlock;
  for (int part = 0; part < kParts; ++part, out += in.size()) {
    for (int64_t block = 0; block < blocks; ++block) {
      for (int64_t row = 0; row < in.rows; ++row) {
        Bf16* const to = out + (row / kPanel * blocks + block) * kTileSize + row % kPanel * kBlock;
        store_line(to, in.line(2 * block, row), part);
        store_line(to + kPanel, in.line(2 * block + 1, row), part);
      }
    }
  }
}

// Transposes a square of 16 x 16 words.
template <typename Number>
FASTIFO_INLINE void transpose_words(const Number* in, int64_t in_stride, float* out,
                                    int64_t out_stride) {
  constexpr int64_t kWidth = kLanes<float>;
  for (int64_t a = 0; a < kPanel; a += kWidth) {
    for (int64_t b = 0; b < kPanel; b += kWidth) {
      Vec<float> square[kWidth];
#pragma GCC unroll 16
      for (int64_t i = 0; i < kWidth; ++i) square[i] = load(in + (a + i) * in_stride + b);
      transpose<float>(square);
#pragma GCC unroll 16
      for (int64_t i = 0; i < kWidth; ++i) store(out + (b + i) * out_stride + a, square[i]);
    }
  }
}

// R(t, j - rows.first) = in(j, t) for the given rows of `in`. Neighbours in a line form the pairs
// of the result, so 32-bit words are transposed and not single numbers.
template <int kParts>
FASTIFO_INLINE void pack_right_transposed(const Panels& in, const Range& rows, Bf16* out) {
  for (int part = 0; part < kParts; ++part, out += rows.count() * in.columns) {
    for (int64_t row = rows.first; row < rows.last; row += kPanel) {
      for (int64_t column = 0; column < in.columns; column += kBlock) {
        alignas(64) float pairs[kPanel * kPanel], transposed[kPanel * kPanel];
        Bf16 line[kBlock];
        for (int64_t i = 0; i < kPanel; ++i) {
          store_line(line, in.line(column / kPanel, row + i), part);
          store_line(line + kPanel, in.line(column / kPanel + 1, row + i), part);
          std::memcpy(pairs + i * kPanel, line, sizeof(line));
        }
        transpose_words(pairs, kPanel, transposed, kPanel);
        Bf16* const to = out + ((row - rows.first) / kPanel * in.columns + column) * kPanel;
        std::memcpy(to, transposed, sizeof(transposed));
      }
    }
  }
}

// Packs the 32 x 32 block of w that starts at (row, column) as left operands: L(k, n) = w(k, n)
// into `plain` and L(n, k) = w(k, n) into `transposed`.
template <int kParts>
FASTIFO_INLINE void pack_weights(const Panels& w, int64_t row, int64_t column, Bf16* plain,
                                 Bf16* transposed) {
  const int64_t across = w.columns / kBlock, down = w.rows / kBlock;
  for (int part = 0; part < kParts; ++part, plain += w.size(), transposed += w.size()) {
    for (int64_t half = 0; half < 2; ++half) {
      const int64_t first = row + half * kPanel;
      Bf16* to = plain + (first / kPanel * across + column / kBlock) * kTileSize;
      for (int64_t i = 0; i < kPanel; ++i) {
        store_line(to + i * kBlock, w.line(column / kPanel, first + i), part);
        store_line(to + i * kBlock + kPanel, w.line(column / kPanel + 1, first + i), part);
      }
      alignas(64) float square[kPanel * kPanel];
      to = transposed + ((column / kPanel + half) * down + row / kBlock) * kTileSize;
      for (int64_t side = 0; side < 2; ++side) {
        transpose_words(w.line(column / kPanel + half, row + side * kPanel), kPanel, square,
                        kPanel);
        for (int64_t i = 0; i < kPanel; ++i) {
          store_line(to + i * kBlock + side * kPanel, square + i * kPanel, part);
        }
      }
    }
  }
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

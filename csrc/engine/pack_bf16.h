// Operands of bf16 products: rounding to bfloat16 and packing into tiles of one kilobyte, the shape
// that AMX tile registers take.
//   left  L(i, t): [rows / 16][terms / 32][16 rows][32 terms]
//   right R(t, j): [columns / 16][terms / 2][16 columns][2 terms]
// With kParts = 2 each number is the sum of two bf16 numbers; all first parts are stored before all
// second parts. `hardware` rounds by an instruction of AVX-512 BF16. The result is the same but for
// subnormal numbers, which the instruction replaces by 0, and the bits of a NaN.
#pragma once

#include "engine/panels.h"

#if defined(__AVX512F__) && defined(__linux__) && defined(__GNUC__) && \
    (__GNUC__ >= 11 || defined(__clang__))
#define FASTIFO_BF16_UNITS 1
#include <immintrin.h>
#endif

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

// Part `part` of a vector of numbers: the second part is what the first leaves.
template <typename Number>  // float; a template, so that the fp64 build need not compile it
FASTIFO_INLINE Vec<float> load_part(const Number* from, int part) {
  const Vec<float> x = load(from);
  return part == 0 ? x : x - (Vec<float>)rounded_words(x);
}

#if defined(FASTIFO_BF16_UNITS)
// The numbers of a and then those of b in bf16.
FASTIFO_INLINE __m512i round_both(Vec<float> a, Vec<float> b, bool hardware) {
  if (hardware) {  // not the intrinsic, which cannot be inlined into code for other processors
    __m512i both;
    __asm__("vcvtne2ps2bf16 %1, %2, %0" : "=v"(both) : "v"(a), "v"(b));
    return both;
  }
  alignas(64) static constexpr uint16_t kUpper[] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21,
                                                    23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43,
                                                    45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  return _mm512_permutex2var_epi16((__m512i)rounded_words(a), _mm512_load_si512(kUpper),
                                   (__m512i)rounded_words(b));
}

// Stores a line of 16 numbers and another one behind it.
template <typename Number>
FASTIFO_INLINE void store_lines(Bf16* to, const Number* a, const Number* b, int part,
                                bool hardware) {
  _mm512_storeu_si512(to, round_both(load_part(a, part), load_part(b, part), hardware));
}

// Stores two lines as pairs (a[i], b[i]).
template <typename Number>
FASTIFO_INLINE void store_pairs(Bf16* to, const Number* a, const Number* b, int part,
                                bool hardware) {
  alignas(64) static constexpr uint16_t kPairs[] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                    21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                    11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i both = round_both(load_part(a, part), load_part(b, part), hardware);
  _mm512_storeu_si512(to, _mm512_permutexvar_epi16(_mm512_load_si512(kPairs), both));
}
#else
template <typename Number>
FASTIFO_INLINE void store_lines(Bf16* to, const Number* a, const Number* b, int part, bool) {
  typedef uint16_t Narrow __attribute__((vector_size(kVectorBytes / 2)));
  for (const Number* line : {a, b}) {
    for (int64_t v = 0; v < kPanel; v += kLanes<float>, to += kLanes<float>) {
      const Words bits = rounded_words(load_part(line + v, part)) >> 16;
      const Narrow narrow = __builtin_convertvector(bits, Narrow);
      std::memcpy(to, &narrow, sizeof(narrow));
    }
  }
}

template <typename Number>
FASTIFO_INLINE void store_pairs(Bf16* to, const Number* a, const Number* b, int part, bool) {
  for (int64_t v = 0; v < kPanel; v += kLanes<float>) {
    const Words bits =
        (rounded_words(load_part(a + v, part)) >> 16) | rounded_words(load_part(b + v, part));
    std::memcpy(to + 2 * v, &bits, sizeof(bits));
  }
}
#endif

// Transposes a square of 16 x 16 words. Pairs of bf16 numbers stay together.
template <typename Number>
FASTIFO_INLINE void transpose_words(const Number* in, Bf16* out) {
  constexpr int64_t kWidth = kLanes<float>;
  for (int64_t a = 0; a < kPanel; a += kWidth) {
    for (int64_t b = 0; b < kPanel; b += kWidth) {
      Vec<float> square[kWidth];
#pragma GCC unroll 16
      for (int64_t i = 0; i < kWidth; ++i) square[i] = load(in + (a + i) * kPanel + b);
      transpose<float>(square);
#pragma GCC unroll 16
      for (int64_t i = 0; i < kWidth; ++i) {
        std::memcpy(out + 2 * ((b + i) * kPanel + a), &square[i], sizeof(square[i]));
      }
    }
  }
}

// A block of 32 x 32 numbers: 32 lines of one panel and 32 of the next.
template <typename Number>
struct Block {
  const Number* half[2];

  FASTIFO_INLINE const Number* line(int64_t panel, int64_t row) const {
    return half[panel] + row * kPanel;
  }
};

FASTIFO_INLINE Block<Real> block_of(const Panels& in, int64_t row, int64_t column) {
  return {{in.line(column / kPanel, row), in.line(column / kPanel + 1, row)}};
}

// Rows `row` and `row` + 1 of the block R(t, j) = in(t, j); `row` is even. `first` and `second` are
// the tiles of the left and of the right 16 columns.
template <typename Number>
FASTIFO_INLINE void pack_rows_right(const Block<Number>& in, int64_t row, Bf16* first, Bf16* second,
                                    int part, bool hardware) {
  store_pairs(first + row * kPanel, in.line(0, row), in.line(0, row + 1), part, hardware);
  store_pairs(second + row * kPanel, in.line(1, row), in.line(1, row + 1), part, hardware);
}

// Rows `row` and `row` + 1 of the block L(i, t) = in(i, t). `first` and `second` are the tiles of
// the upper and of the lower 16 rows.
template <typename Number>
FASTIFO_INLINE void pack_rows_left(const Block<Number>& in, int64_t row, Bf16* first, Bf16* second,
                                   int part, bool hardware) {
  Bf16* const to = (row < kPanel ? first : second) + row % kPanel * kBlock;
  store_lines(to, in.line(0, row), in.line(1, row), part, hardware);
  store_lines(to + kBlock, in.line(0, row + 1), in.line(1, row + 1), part, hardware);
}

// The tile of R(t, j) = in(j, t) for the 16 rows of the block that begin at `row`. Neighbours in a
// line form the pairs of the result, so 32-bit words are transposed and not single numbers.
template <typename Number>
FASTIFO_INLINE void pack_transposed(const Block<Number>& in, int64_t row, Bf16* to, int part,
                                    bool hardware) {
  alignas(64) Number words[kPanel * kPanel];
  for (int64_t i = 0; i < kPanel; ++i) {
    store_lines(reinterpret_cast<Bf16*>(words + i * kPanel), in.line(0, row + i),
                in.line(1, row + i), part, hardware);
  }
  transpose_words(words, to);
}

// R(t, j) = in(t, j).
template <int kParts>
FASTIFO_INLINE void pack_right(const Panels& in, Bf16* out, bool hardware) {
  for (int part = 0; part < kParts; ++part, out += in.size()) {
    for (int64_t column = 0; column < in.columns; column += kBlock) {
      for (int64_t row = 0; row < in.rows; row += kBlock) {
        Bf16* const to = out + column * in.rows + row * kPanel;
        for (int64_t i = 0; i < kBlock; i += 2) {
          pack_rows_right(block_of(in, row, column), i, to, to + in.rows * kPanel, part, hardware);
        }
      }
    }
  }
}

// L(i, t) = in(i, t).
template <int kParts>
FASTIFO_INLINE void pack_left(const Panels& in, Bf16* out, bool hardware) {
  for (int part = 0; part < kParts; ++part, out += in.size()) {
    for (int64_t column = 0; column < in.columns; column += kBlock) {
      for (int64_t row = 0; row < in.rows; row += kBlock) {
        Bf16* const to = out + row * in.columns + column * kPanel;
        for (int64_t i = 0; i < kBlock; i += 2) {
          pack_rows_left(block_of(in, row, column), i, to, to + in.columns * kPanel, part,
                         hardware);
        }
      }
    }
  }
}

// R(t, j - rows.first) = in(j, t) for the given rows of `in`.
template <int kParts>
FASTIFO_INLINE void pack_right_transposed(const Panels& in, const Range& rows, Bf16* out,
                                          bool hardware) {
  for (int part = 0; part < kParts; ++part, out += rows.count() * in.columns) {
    for (int64_t row = rows.first; row < rows.last; row += kPanel) {
      for (int64_t column = 0; column < in.columns; column += kBlock) {
        pack_transposed(block_of(in, row, column), 0,
                        out + (row - rows.first) * in.columns + column * kPanel, part, hardware);
      }
    }
  }
}

// The packed copies of an activation or a gradient x, [features, rows of the batch], that the
// layer which computes x writes. `down` is R(t, j) = x(t, j), whose terms are features: the right
// operand of the next product of the same pass. In `along` the terms are rows of the batch:
// L(i, t) = x(i, t) of an activation, R(t, j) = x(j, t) of a gradient, for the weight gradients.
// Either may be null: then nobody needs it. A view of some columns has the same pointers.
struct Packs {
  Bf16* down = nullptr;
  Bf16* along = nullptr;
  int64_t rows = 0, columns = 0;  // of the matrix
  int64_t first = 0;              // the first column of this view

  int64_t size() const { return rows * columns; }  // of one part
  Bf16* down_tile(int64_t row, int64_t column) const {
    return down + (first + column) * rows + row * kPanel;
  }
  Bf16* along_tile(int64_t row, int64_t column) const {
    return along + row * columns + (first + column) * kPanel;
  }
  Packs part(const Range& range) const { return {down, along, rows, columns, first + range.first}; }
};

// Packs blocks of weights w as left operands: L(k, n) = w(k, n) into `plain` and L(n, k) = w(k, n)
// into `transposed`.
template <int kParts>
class WeightPacker {
 public:
  WeightPacker(const Panels& w, Bf16* plain, Bf16* transposed, bool hardware)
      : w_(w), plain_(plain), transposed_(transposed), hardware_(hardware) {}

  // Rows `i` and `i` + 1 of the block at (row, column), in order for every even i below 32. The
  // last call completes the block. Requests the memory that the next block of the row will be
  // written to.
  FASTIFO_INLINE void pack_rows(int64_t row, int64_t column, int64_t i) {
    const Block block = block_of(w_, row, column);
    for (int part = 0; part < kParts; ++part) {
      Bf16* const to = plain_ + part * w_.size() + row * w_.columns + column * kPanel;
      pack_rows_left(block, i, to, to + w_.columns * kPanel, part, hardware_);
      Bf16* const next = to + (i < kPanel ? 0 : w_.columns * kPanel) + kTileSize;
      prefetch_l2(next + i % kPanel * kBlock);
      prefetch_l2(next + (i % kPanel + 1) * kBlock);
      Real* const words = words_ + part * 2 * kPanel * kPanel + i / 2 * kPanel;
      store_pairs(reinterpret_cast<Bf16*>(words), block.line(0, i), block.line(0, i + 1), part,
                  hardware_);
      store_pairs(reinterpret_cast<Bf16*>(words + kPanel * kPanel), block.line(1, i),
                  block.line(1, i + 1), part, hardware_);
    }
    if (i == kBlock - 2) transpose_block(row, column);
  }

  void pack_all() {
    for (int64_t row = 0; row < w_.rows; row += kBlock) {
      for (int64_t column = 0; column < w_.columns; column += kBlock) {
        for (int64_t i = 0; i < kBlock; i += 2) pack_rows(row, column, i);
      }
    }
  }

 private:
  FASTIFO_INLINE void transpose_block(int64_t row, int64_t column) {
    for (int64_t k = 0; k < 2 * kParts; ++k) {
      Bf16* const to =
          transposed_ + k / 2 * w_.size() + (column + k % 2 * kPanel) * w_.rows + row * kPanel;
      transpose_words(words_ + k * kPanel * kPanel, to);
      for (int64_t i = 0; i < kPanel; ++i) prefetch_l2(to + kBlock * w_.rows + i * kBlock);
    }
  }

  Panels w_;
  Bf16 *plain_, *transposed_;
  bool hardware_;
  // Of each part and panel, the words of each pair of rows.
  alignas(64) Real words_[kParts * 2 * kPanel * kPanel];
};

}  // namespace FASTIFO_ISA
}  // namespace fastifo

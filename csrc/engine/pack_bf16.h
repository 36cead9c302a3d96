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

// R(t, j) = in(t, j).
template <int kParts>
FASTIFO_INLINE void pack_right(const Panels& in, Bf16* out, bool hardware) {
  for (int part = 0; part < kParts; ++part, out += in.size()) {
    for (int64_t panel = 0; panel < in.panels(); ++panel) {
      for (int64_t row = 0; row < in.rows; row += 2) {
        store_pairs(out + (panel * in.rows + row) * kPanel, in.line(panel, row),
                    in.line(panel, row + 1), part, hardware);
      }
    }
  }
}

// L(i, t) = in(i, t).
template <int kParts>
FASTIFO_INLINE void pack_left(const Panels& in, Bf16* out, bool hardware) {
  const int64_t blocks = in.columns / kBlock;
  for (int part = 0; part < kParts; ++part, out += in.size()) {
    for (int64_t block = 0; block < blocks; ++block) {
      for (int64_t row = 0; row < in.rows; ++row) {
        store_lines(out + (row / kPanel * blocks + block) * kTileSize + row % kPanel * kBlock,
                    in.line(2 * block, row), in.line(2 * block + 1, row), part, hardware);
      }
    }
  }
}

// R(t, j - rows.first) = in(j, t) for the given rows of `in`. Neighbours in a line form the pairs
// of the result, so 32-bit words are transposed and not single numbers.
template <int kParts>
FASTIFO_INLINE void pack_right_transposed(const Panels& in, const Range& rows, Bf16* out,
                                          bool hardware) {
  alignas(64) float words[kPanel * kPanel];
  for (int part = 0; part < kParts; ++part, out += rows.count() * in.columns) {
    for (int64_t row = rows.first; row < rows.last; row += kPanel) {
      for (int64_t column = 0; column < in.columns; column += kBlock) {
        for (int64_t i = 0; i < kPanel; ++i) {
          store_lines(reinterpret_cast<Bf16*>(words + i * kPanel),
                      in.line(column / kPanel, row + i), in.line(column / kPanel + 1, row + i),
                      part, hardware);
        }
        transpose_words(words, out + ((row - rows.first) / kPanel * in.columns + column) * kPanel);
      }
    }
  }
}

// Packs the 32 x 32 block of w that starts at (row, column) as left operands: L(k, n) = w(k, n)
// into `plain` and L(n, k) = w(k, n) into `transposed`. Requests the memory that the next block of
// the row will be written to.
template <int kParts>
FASTIFO_INLINE void pack_weights(const Panels& w, int64_t row, int64_t column, Bf16* plain,
                                 Bf16* transposed, bool hardware) {
  const int64_t across = w.columns / kBlock, down = w.rows / kBlock, panel = column / kPanel;
  alignas(64) float words[kPanel * kPanel];
  for (int part = 0; part < kParts; ++part, plain += w.size(), transposed += w.size()) {
    for (int64_t half = 0; half < 2; ++half) {
      const int64_t first = row + half * kPanel;
      Bf16* const to = plain + (first / kPanel * across + column / kBlock) * kTileSize;
      for (int64_t i = 0; i < kPanel; ++i) {
        store_lines(to + i * kBlock, w.line(panel, first + i), w.line(panel + 1, first + i), part,
                    hardware);
        prefetch_l2(to + kTileSize + i * kBlock);
      }
    }
    for (int64_t half = 0; half < 2; ++half) {
      for (int64_t i = 0; i < kPanel; ++i) {
        store_pairs(reinterpret_cast<Bf16*>(words + i * kPanel), w.line(panel + half, row + 2 * i),
                    w.line(panel + half, row + 2 * i + 1), part, hardware);
      }
      Bf16* const to = transposed + ((panel + half) * down + row / kBlock) * kTileSize;
      transpose_words(words, to);
      for (int64_t i = 0; i < kPanel; ++i) prefetch_l2(to + 2 * down * kTileSize + i * kBlock);
    }
  }
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

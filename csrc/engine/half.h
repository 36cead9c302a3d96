// Products of matrices in bfloat16 with single-precision sums. Operands are packed in tiles of one
// kilobyte, as the matrix unit of recent server processors (AMX) takes them:
//   left  L(i, t): [rows / 16][terms / 32][16 rows][32 terms]
//   right R(t, j): [columns / 16][terms / 2][16 columns][2 terms]
// kParts = 2 keeps each number as a sum of two bfloat16 numbers, packed one after the other, and
// takes three products: its error is near 4e-6.
#pragma once

#include "engine/panels.h"

#if defined(__AVX512F__) && defined(__linux__) && defined(__GNUC__) && \
    (__GNUC__ >= 11 || defined(__clang__))
#define FASTIFO_MATRIX_UNIT 1
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fastifo {
namespace FASTIFO_ISA {

using Half = uint16_t;  // bits of a bfloat16 number
constexpr int64_t kTileSize = kPanel * kBlock;

// out(i, j) = sum over t of L(i, t) R(t, j) for 32 rows and 32 columns, as two panels of 32 lines.
// `left_part` and `right_part` lead from an operand's first part to its second.
struct HalfOperands {
  const Half* left;
  const Half* right;
  int64_t blocks;  // of 32 terms
  int64_t parts;
  int64_t left_part, right_part;
};
using HalfKernel = void (*)(const HalfOperands&, float* out);

// The pairs of parts whose products are summed; of two, the smallest product is left out.
constexpr int kFirstOf[] = {0, 0, 1}, kSecondOf[] = {0, 1, 0};
FASTIFO_INLINE int product_count(int64_t parts) { return parts == 1 ? 1 : 3; }

template <int kWidth>
struct BitsOf {
  typedef uint32_t type __attribute__((vector_size(kWidth)));
};
using Words = BitsOf<kVectorBytes>::type;

FASTIFO_INLINE Words words_of(Vec<float> x) { return (Words)x; }

// The bits of x rounded to the nearest bfloat16 number, ties to even, in the upper half of a word.
FASTIFO_INLINE Words rounded_words(Vec<float> x) {
  const Words bits = words_of(x);
  const Words near = (bits + (0x7FFFu + ((bits >> 16) & 1u))) & 0xFFFF0000u;
  return x == x ? near : bits & 0xFFFF0000u;  // a NaN stays one
}

// What is left of x beyond its first part.
FASTIFO_INLINE Vec<float> remainder_of(Vec<float> x) { return x - (Vec<float>)rounded_words(x); }

// A line of 16 numbers as bfloat16.
template <typename Number>  // float: the build in double compiles none of this
FASTIFO_INLINE void store_line(Half* to, const Number* line, int part) {
  for (int64_t v = 0; v < kPanel; v += kLanes<float>) {
    Vec<float> x = load(line + v);
    if (part == 1) x = remainder_of(x);
    const Words bits = rounded_words(x) >> 16;
    typedef uint16_t Narrow __attribute__((vector_size(kVectorBytes / 2)));
    const Narrow narrow = __builtin_convertvector(bits, Narrow);
    std::memcpy(to + v, &narrow, sizeof(narrow));
  }
}

// Two lines as pairs (a[i], b[i]).
template <typename Number>
FASTIFO_INLINE void store_pairs(Half* to, const Number* a, const Number* b, int part) {
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
FASTIFO_INLINE void pack_right(const Panels& in, Half* out) {
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
FASTIFO_INLINE void pack_left(const Panels& in, Half* out) {
  const int64_t blocks = in.columns / kBlock;
  for (int part = 0; part < kParts; ++part, out += in.size()) {
    for (int64_t block = 0; block < blocks; ++block) {
      for (int64_t row = 0; row < in.rows; ++row) {
        Half* const to = out + (row / kPanel * blocks + block) * kTileSize + row % kPanel * kBlock;
        store_line(to, in.line(2 * block, row), part);
        store_line(to + kPanel, in.line(2 * block + 1, row), part);
      }
    }
  }
}

// A square of 16 x 16 words, turned.
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

// R(t, j - first) = in(j, t) for the rows [first, last) of `in`: pairs along a line stay pairs, so
// that words are turned and not numbers.
template <int kParts>
FASTIFO_INLINE void pack_right_turned(const Panels& in, const Range& which, Half* out) {
  for (int part = 0; part < kParts; ++part, out += which.count() * in.columns) {
    for (int64_t row = which.first; row < which.last; row += kPanel) {
      for (int64_t column = 0; column < in.columns; column += kBlock) {
        alignas(64) float rows[kPanel * kPanel], turned[kPanel * kPanel];
        Half line[kBlock];
        for (int64_t i = 0; i < kPanel; ++i) {
          store_line(line, in.line(column / kPanel, row + i), part);
          store_line(line + kPanel, in.line(column / kPanel + 1, row + i), part);
          std::memcpy(rows + i * kPanel, line, sizeof(line));
        }
        transpose_words(rows, kPanel, turned, kPanel);
        Half* const to = out + ((row - which.first) / kPanel * in.columns + column) * kPanel;
        std::memcpy(to, turned, sizeof(turned));
      }
    }
  }
}

// Packs 32 x 32 numbers of w, from row and column on, as left operands: L(k, n) = w(k, n) into
// `straight` and L(n, k) = w(k, n) into `turned`.
template <int kParts>
FASTIFO_INLINE void pack_weights(const Panels& w, int64_t row, int64_t column, Half* straight,
                                 Half* turned) {
  const int64_t across = w.columns / kBlock, down = w.rows / kBlock;
  for (int part = 0; part < kParts; ++part, straight += w.size(), turned += w.size()) {
    for (int64_t half = 0; half < 2; ++half) {
      const int64_t first = row + half * kPanel;
      Half* to = straight + (first / kPanel * across + column / kBlock) * kTileSize;
      for (int64_t i = 0; i < kPanel; ++i) {
        store_line(to + i * kBlock, w.line(column / kPanel, first + i), part);
        store_line(to + i * kBlock + kPanel, w.line(column / kPanel + 1, first + i), part);
      }
      alignas(64) float square[kPanel * kPanel];
      to = turned + ((column / kPanel + half) * down + row / kBlock) * kTileSize;
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

// The first and the second number of every pair, as single precision.
FASTIFO_INLINE Vec<float> first_of(Words pairs) { return (Vec<float>)(pairs << 16); }
FASTIFO_INLINE Vec<float> second_of(Words pairs) { return (Vec<float>)(pairs & 0xFFFF0000u); }

// Any processor: numbers widen on the way to the multiply-adds.
inline void half_product_widened(const HalfOperands& o, float* out) {
  constexpr int64_t kRows = 4;
  for (int64_t panel = 0; panel < 2; ++panel) {
    for (int64_t first = 0; first < kBlock; first += kRows) {
      Vec<float> sum[kRows][kVectors] = {};
      for (int p = 0; p < product_count(o.parts); ++p) {
        const Half* left = o.left + kFirstOf[p] * o.left_part +
                           first / kPanel * o.blocks * kTileSize + first % kPanel * kBlock;
        const Half* right = o.right + kSecondOf[p] * o.right_part + panel * o.blocks * kTileSize;
        for (int64_t block = 0; block < o.blocks; ++block) {
          for (int64_t pair = 0; pair < kBlock / 2; ++pair) {
            Words words[kVectors];
            // A register each: more at once go by way of memory.
            for (int64_t v = 0; v < kVectors; ++v) {
              std::memcpy(&words[v], right + pair * kBlock + v * kLanes<float> * 2,
                          sizeof(words[v]));
            }
            for (int64_t i = 0; i < kRows; ++i) {
              uint32_t both;
              std::memcpy(&both, left + i * kBlock + 2 * pair, sizeof(both));
              const Words wide = both - Words{};
              for (int64_t v = 0; v < kVectors; ++v) {
                sum[i][v] += first_of(wide) * first_of(words[v]);
                sum[i][v] += second_of(wide) * second_of(words[v]);
              }
            }
          }
          left += kTileSize;
          right += kTileSize;
        }
      }
      for (int64_t i = 0; i < kRows; ++i) {
        for (int64_t v = 0; v < kVectors; ++v) {
          store(out + (panel * kBlock + first + i) * kPanel + v * kLanes<float>, sum[i][v]);
        }
      }
    }
  }
}

#if defined(FASTIFO_MATRIX_UNIT)
// AVX-512 with bfloat16: a dot product of pairs in one instruction.
__attribute__((target("avx512bf16"))) inline void half_product_dot(const HalfOperands& o,
                                                                   float* out) {
  constexpr int64_t kRows = 8;
  for (int64_t first = 0; first < kBlock; first += kRows) {
    __m512 sum[kRows][2];
    for (auto& row : sum) row[0] = row[1] = _mm512_setzero_ps();
    for (int p = 0; p < product_count(o.parts); ++p) {
      const Half* left = o.left + kFirstOf[p] * o.left_part +
                         first / kPanel * o.blocks * kTileSize + first % kPanel * kBlock;
      const Half* right = o.right + kSecondOf[p] * o.right_part;
      for (int64_t block = 0; block < o.blocks; ++block) {
        for (int64_t pair = 0; pair < kBlock / 2; ++pair) {
          const __m512bh a = (__m512bh)_mm512_loadu_si512(right + pair * kBlock);
          const __m512bh b =
              (__m512bh)_mm512_loadu_si512(right + o.blocks * kTileSize + pair * kBlock);
#pragma GCC unroll 8
          for (int64_t i = 0; i < kRows; ++i) {
            int32_t both;
            std::memcpy(&both, left + i * kBlock + 2 * pair, sizeof(both));
            const __m512bh wide = (__m512bh)_mm512_set1_epi32(both);
            sum[i][0] = _mm512_dpbf16_ps(sum[i][0], wide, a);
            sum[i][1] = _mm512_dpbf16_ps(sum[i][1], wide, b);
          }
        }
        left += kTileSize;
        right += kTileSize;
      }
    }
    for (int64_t i = 0; i < kRows; ++i) {
      for (int64_t panel = 0; panel < 2; ++panel) {
        _mm512_storeu_ps(out + (panel * kBlock + first + i) * kPanel, sum[i][panel]);
      }
    }
  }
}

// The matrix unit: four sums of 16 x 16 in tile registers.
__attribute__((target("amx-tile,amx-bf16"))) inline void half_product_matrix(const HalfOperands& o,
                                                                             float* out) {
  constexpr int kLine = 64;           // bytes of a tile's row
  __asm__ volatile("" ::: "memory");  // `_tile_loadd` does not say that it reads memory
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int p = 0; p < product_count(o.parts); ++p) {
    const Half* left = o.left + kFirstOf[p] * o.left_part;
    const Half* right = o.right + kSecondOf[p] * o.right_part;
    const int64_t next = o.blocks * kTileSize;
    for (int64_t block = 0; block < o.blocks; ++block) {
      _tile_loadd(4, left, kLine);
      _tile_loadd(6, right, kLine);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, right + next, kLine);
      _tile_dpbf16ps(1, 4, 7);
      _tile_loadd(5, left + next, kLine);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
      left += kTileSize;
      right += kTileSize;
    }
  }
  _tile_stored(0, out, kLine);
  _tile_stored(2, out + kPanel * kPanel, kLine);
  _tile_stored(1, out + kBlock * kPanel, kLine);
  _tile_stored(3, out + kBlock * kPanel + kPanel * kPanel, kLine);
}

// The matrix unit's shape for this thread: eight tiles of 16 rows of 64 bytes.
__attribute__((target("amx-tile"))) inline void configure_matrix_unit() {
  struct alignas(64) {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } shape;
  static_assert(sizeof(shape) == 64);
  // Not `_tile_loadconfig`, which tells the compiler of 8 of the 64 bytes it reads.
  __asm__ volatile("ldtilecfg %0" : : "m"(shape));
}

__attribute__((target("amx-tile"))) inline void release_matrix_unit() { _tile_release(); }
#endif

#if defined(FASTIFO_MATRIX_UNIT)
inline bool has_half_dot() { return __builtin_cpu_supports("avx512bf16"); }

// Whether the processor has the unit and the system lets this process use it.
inline bool has_matrix_unit() {
  constexpr unsigned kAmxHalf = 1u << 22, kAmxTile = 1u << 24;  // CPUID leaf 7, EDX
  constexpr long kRequest = 0x1023, kTileData = 18;             // arch_prctl
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  if ((d & kAmxHalf) == 0 || (d & kAmxTile) == 0) return false;
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}
#endif

// Result (i, j) = sum over t of L(i, t) R(t, j). Calls finish(row, panel, line) for every 16
// numbers and done(row, column) after every 32 x 32.
template <int kParts, typename Finish, typename Done>
FASTIFO_INLINE void multiply_half(HalfKernel kernel, const Half* left, const Half* right,
                                  int64_t rows, int64_t columns, int64_t terms,
                                  const Finish& finish, const Done& done) {
  alignas(64) float sums[kBlock * kBlock];
  for (int64_t row = 0; row < rows; row += kBlock) {
    for (int64_t column = 0; column < columns; column += kBlock) {
      kernel({left + row * terms, right + column * terms, terms / kBlock, kParts, rows * terms,
              columns * terms},
             sums);
      for (int64_t panel = 0; panel < 2; ++panel) {
        for (int64_t i = 0; i < kBlock; ++i) {
          finish(row + i, column / kPanel + panel, sums + (panel * kBlock + i) * kPanel);
        }
      }
      done(row, column);
    }
  }
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

// Kernels of bf16 products, each for one 32 x 32 tile of the result, with single-precision sums:
// `emulated` runs on every processor, `avx512bf16` needs AVX-512 BF16, `amx` needs AMX-BF16.
#pragma once

#include "engine/pack_bf16.h"

#if defined(FASTIFO_BF16_UNITS)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fastifo {
namespace FASTIFO_ISA {

// out(i, j) = sum over t of L(i, t) R(t, j) for 32 rows and 32 columns.
// out: two panels of 32 lines.
struct Bf16Operands {
  const Bf16* left;
  const Bf16* right;
  int64_t blocks;  // of 32 terms each
  int64_t parts;
  int64_t left_part, right_part;  // distance from an operand's first part to its second
};
using Bf16Kernel = void (*)(const Bf16Operands&, float* out);

// Which parts are multiplied. With two parts, the smallest product (second by second) is left out.
constexpr int kLeftPart[] = {0, 0, 1}, kRightPart[] = {0, 1, 0};
FASTIFO_INLINE int product_count(int64_t parts) { return parts == 1 ? 1 : 3; }

// The first and the second number of every pair, in single precision.
FASTIFO_INLINE Vec<float> first_of(Words pairs) { return (Vec<float>)(pairs << 16); }
FASTIFO_INLINE Vec<float> second_of(Words pairs) { return (Vec<float>)(pairs & 0xFFFF0000u); }

// For any processor: widens bf16 numbers to single precision and multiplies those.
inline void bf16_tile_emulated(const Bf16Operands& o, float* out) {
  constexpr int64_t kRows = 4;
  for (int64_t panel = 0; panel < 2; ++panel) {
    for (int64_t first = 0; first < kBlock; first += kRows) {
      Vec<float> sum[kRows][kVectors] = {};
      for (int p = 0; p < product_count(o.parts); ++p) {
        const Bf16* left = o.left + kLeftPart[p] * o.left_part +
                           first / kPanel * o.blocks * kTileSize + first % kPanel * kBlock;
        const Bf16* right = o.right + kRightPart[p] * o.right_part + panel * o.blocks * kTileSize;
        for (int64_t block = 0; block < o.blocks; ++block) {
          for (int64_t pair = 0; pair < kBlock / 2; ++pair) {
            Words words[kVectors];
            // One register at a time: a larger copy would go through memory.
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

#if defined(FASTIFO_BF16_UNITS)
// AVX-512 BF16: one instruction multiplies and adds pairs.
__attribute__((target("avx512bf16"))) inline void bf16_tile_avx512bf16(const Bf16Operands& o,
                                                                       float* out) {
  constexpr int64_t kRows = 8;
  for (int64_t first = 0; first < kBlock; first += kRows) {
    __m512 sum[kRows][2];
    for (auto& row : sum) row[0] = row[1] = _mm512_setzero_ps();
    for (int p = 0; p < product_count(o.parts); ++p) {
      const Bf16* left = o.left + kLeftPart[p] * o.left_part +
                         first / kPanel * o.blocks * kTileSize + first % kPanel * kBlock;
      const Bf16* right = o.right + kRightPart[p] * o.right_part;
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

// AMX: four sums of 16 x 16 in tile registers. `gemm_bf16` has these steps inlined and takes them
// if the kernel is a null pointer.
constexpr Bf16Kernel kAmxKernel = nullptr;
#define FASTIFO_AMX_CODE __attribute__((target("amx-tile,amx-bf16")))
#define FASTIFO_AMX FASTIFO_AMX_CODE __attribute__((always_inline)) inline

FASTIFO_AMX void amx_clear() {
  __asm__ volatile("" ::: "memory");  // `_tile_loadd` does not declare that it reads memory
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// Adds the product of 32 terms. `next` is the distance to the tiles of the next 16 rows and
// columns. What is read from R is not kept in L1, where the rows of L stay.
FASTIFO_AMX void amx_multiply(const Bf16* left, const Bf16* right, int64_t next) {
  constexpr int kLine = 64;  // bytes of a tile's row
  _tile_loadd(4, left, kLine);
  _tile_stream_loadd(6, right, kLine);
  _tile_dpbf16ps(0, 4, 6);
  _tile_stream_loadd(7, right + next, kLine);
  _tile_dpbf16ps(1, 4, 7);
  _tile_loadd(5, left + next, kLine);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

// Writes the sums as two panels of 32 lines.
FASTIFO_AMX void amx_store(float* out) {
  constexpr int kLine = 64;
  _tile_stored(0, out, kLine);
  _tile_stored(2, out + kPanel * kPanel, kLine);
  _tile_stored(1, out + kBlock * kPanel, kLine);
  _tile_stored(3, out + kBlock * kPanel + kPanel * kPanel, kLine);
}

// Configures AMX for the calling thread: eight tiles of 16 rows of 64 bytes.
__attribute__((target("amx-tile"))) inline void configure_amx() {
  struct alignas(64) {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } shape;
  static_assert(sizeof(shape) == 64);
  // Not `_tile_loadconfig`: it tells the compiler about only 8 of the 64 bytes it reads.
  __asm__ volatile("ldtilecfg %0" : : "m"(shape));
}

__attribute__((target("amx-tile"))) inline void release_amx() { _tile_release(); }

inline bool has_avx512bf16() { return __builtin_cpu_supports("avx512bf16"); }

// Whether the processor has AMX-BF16 and the operating system lets this process use it.
inline bool has_amx() {
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;  // CPUID leaf 7, EDX
  constexpr long kRequest = 0x1023, kTileData = 18;             // arch_prctl
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  if ((d & kAmxBf16) == 0 || (d & kAmxTile) == 0) return false;
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}
#else  // never reached
#define FASTIFO_AMX_CODE
inline void amx_clear() {}
inline void amx_multiply(const Bf16*, const Bf16*, int64_t) {}
inline void amx_store(float*) {}
#endif

}  // namespace FASTIFO_ISA
}  // namespace fastifo

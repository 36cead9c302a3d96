// Matrix products in bfloat16 with single-precision sums. With kParts = 2 a product of two-part
// operands takes three bf16 products, and its relative error is near 4e-6.
#pragma once

#include "engine/kernels_bf16.h"

namespace fastifo {
namespace FASTIFO_ISA {

// result(i, j) = sum over t of L(i, t) R(t, j), on packed operands. Calls finish(row, panel, line)
// for every line of the result and done(row, column) after every 32 x 32 tile.
template <int kParts, typename Finish, typename Done>
FASTIFO_INLINE void gemm_bf16(Bf16Kernel kernel, const Bf16* left, const Bf16* right, int64_t rows,
                              int64_t columns, int64_t terms, const Finish& finish,
                              const Done& done) {
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

// Matrix products in bfloat16 with single-precision sums. With kParts = 2 a product of two-part
// operands takes three bf16 products, and its relative error is near 4e-6.
#pragma once

#include "engine/kernels_bf16.h"

namespace fastifo {
namespace FASTIFO_ISA {

// A packed operand; the second of two parts lies `part` numbers after the first.
struct PackedOperand {
  const Bf16* data;
  int64_t part;
};

// The 32 x 32 blocks of a product, row by row.
struct BlockGrid {
  int64_t rows, columns;

  int64_t count() const { return rows / kBlock * (columns / kBlock); }
  int64_t row(int64_t block) const { return block / (columns / kBlock) * kBlock; }
  int64_t column(int64_t block) const { return block % (columns / kBlock) * kBlock; }
};

#if defined(FASTIFO_BF16_UNITS)
// `gemm_bf16` with AMX. Between the instructions of one block, rows of the block before it are
// finished: the matrix unit works meanwhile.
template <int kParts, typename Finish>
__attribute__((target("amx-tile,amx-bf16"))) void gemm_amx(const PackedOperand& left,
                                                           const PackedOperand& right,
                                                           const BlockGrid& grid, int64_t terms,
                                                           const Finish& finish) {
  alignas(64) float sums[2][kBlock * kBlock];
  const int64_t blocks = grid.count(), steps = product_count(kParts) * terms / kBlock;
  for (int64_t block = 0; block <= blocks; ++block) {
    float* const before = sums[(block + 1) % 2];
    const int64_t row = grid.row(block), column = grid.column(block);
    const int64_t row_before = grid.row(block - 1), column_before = grid.column(block - 1);
    int64_t finished = block == 0 ? kBlock : 0;  // rows of the block before
    if (block < blocks) {
      amx_clear();
      int64_t step = 0;
      for (int p = 0; p < product_count(kParts); ++p) {
        const Bf16* from = left.data + kLeftPart[p] * left.part + row * terms;
        const Bf16* to = right.data + kRightPart[p] * right.part + column * terms;
        for (int64_t term = 0; term < terms; term += kBlock) {
          amx_multiply(from, to, terms * kPanel);
          from += kTileSize;
          to += kTileSize;
          for (++step; finished * steps < kBlock * step; finished += 2) {
            finish(row_before, column_before, before, finished);
          }
        }
      }
      amx_store(sums[block % 2]);
    }
    for (; finished < kBlock; finished += 2) finish(row_before, column_before, before, finished);
  }
}
#endif

// result(i, j) = sum over t of L(i, t) R(t, j). Calls finish(row, column, sums, i) for every even i
// below 32, in order, of every 32 x 32 block of the result, which begins at (row, column): it
// finishes the block's rows i and i + 1.
template <int kParts, typename Finish>
FASTIFO_INLINE void gemm_bf16(Bf16Kernel kernel, const PackedOperand& left,
                              const PackedOperand& right, int64_t rows, int64_t columns,
                              int64_t terms, const Finish& finish) {
  const BlockGrid grid{rows, columns};
#if defined(FASTIFO_BF16_UNITS)
  if (kernel == nullptr) return gemm_amx<kParts>(left, right, grid, terms, finish);
#endif
  alignas(64) float sums[kBlock * kBlock];
  for (int64_t block = 0; block < grid.count(); ++block) {
    const int64_t row = grid.row(block), column = grid.column(block);
    kernel({left.data + row * terms, right.data + column * terms, terms / kBlock, kParts, left.part,
            right.part},
           sums);
    for (int64_t i = 0; i < kBlock; i += 2) finish(row, column, sums, i);
  }
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

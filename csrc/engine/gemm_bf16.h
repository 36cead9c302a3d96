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

// result(i, j) = sum over t of L(i, t) R(t, j). Calls finish(row, column, sums, i) for every even i
// below 32, in order, of every 32 x 32 block of the result, which begins at (row, column): it
// finishes the block's rows i and i + 1.
//
// A block is finished while the next one is multiplied: with AMX a few rows follow each multiplying
// instruction, because the matrix unit works meanwhile.
template <int kParts, typename Finish>
FASTIFO_AMX_CODE void gemm_bf16(Bf16Kernel kernel, const PackedOperand& left,
                                const PackedOperand& right, int64_t rows, int64_t columns,
                                int64_t terms, const Finish& finish) {
  alignas(64) float sums[2][kBlock * kBlock];
  const bool uses_amx = kernel == nullptr;
  const int64_t across = columns / kBlock, blocks = rows / kBlock * across;
  if (blocks == 0) return;               // a thread's share may be empty
  const int64_t pairs = terms / kBlock;  // of tiles, in one product of parts
  const int64_t steps = uses_amx ? product_count(kParts) * pairs : 1;
  for (int64_t block = 0; block <= blocks; ++block) {
    const int64_t row = block / across * kBlock, column = block % across * kBlock;
    const int64_t row_before = (block - 1) / across * kBlock;
    const int64_t column_before = (block - 1) % across * kBlock;
    int64_t finished = block == 0 ? kBlock : 0;  // rows of the block before
    for (int64_t step = 0; step <= steps; ++step) {
      if (block == blocks) {
        step = steps;
      } else if (!uses_amx) {
        if (step == 0) {
          kernel({left.data + row * terms, right.data + column * terms, pairs, kParts, left.part,
                  right.part},
                 sums[block % 2]);
        }
      } else if (step < steps) {
        const int64_t product = kParts == 1 ? 0 : step / pairs;
        const int64_t tile = (step - product * pairs) * kTileSize;
        if (step == 0) amx_clear();
        amx_multiply(left.data + kLeftPart[product] * left.part + row * terms + tile,
                     right.data + kRightPart[product] * right.part + column * terms + tile,
                     terms * kPanel);
      } else {
        amx_store(sums[block % 2]);
      }
      const int64_t due = step < steps ? kBlock * (step + 1) / steps : kBlock;
      for (; finished < due; finished += 2) {
        finish(row_before, column_before, sums[(block + 1) % 2], finished);
      }
    }
  }
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

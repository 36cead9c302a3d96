// What a layer reads and writes, and its packed form.
#pragma once

#include "engine/blocks_bf16.h"
#include "engine/gemm_bf16.h"

namespace fastifo {
namespace FASTIFO_ISA {

// A thread's workspace for transposed or packed operands.
struct Scratch {
  explicit Scratch(int64_t numbers) : left(numbers), right(numbers) {}
  Buffer left, right;
};

// An activation or the gradient in one, [features, rows of the batch]. With bf16 products `packs`
// can replace the numbers, which then are not stored and have no data.
struct Operand {
  Operand(const Panels& panels, const Packs& copies = {}) : values(panels), packs(copies) {}

  Panels values;
  Packs packs;

  Operand part(const Range& range) const {
    if (values.data != nullptr) return {values.part(range), packs.part(range)};
    return {{nullptr, values.rows, range.count()}, packs.part(range)};
  }
};

FASTIFO_INLINE Bf16* bf16(const Buffer& buffer) { return reinterpret_cast<Bf16*>(buffer.data()); }

// R(t, j) = x(t, j): terms are features. Packed into `scratch` if it is not yet.
template <int kParts>
FASTIFO_INLINE PackedOperand down_operand(const Operand& x, Scratch& scratch, bool hardware) {
  if (x.packs.down != nullptr) return {x.packs.down_tile(0, 0), x.packs.size()};
  pack_right<kParts>(x.values, bf16(scratch.right), hardware);
  return {bf16(scratch.right), x.values.size()};
}

// L(i, t) = x(i, t) of an activation: terms are rows of the batch.
template <int kParts>
FASTIFO_INLINE PackedOperand along_operand(const Operand& x, Scratch& scratch, bool hardware) {
  if (x.packs.along != nullptr) return {x.packs.along_tile(0, 0), x.packs.size()};
  pack_left<kParts>(x.values, bf16(scratch.left), hardware);
  return {bf16(scratch.left), x.values.size()};
}

// R(t, j) = gradient(first + j, t) for some outputs: terms are rows of the batch.
template <int kParts>
FASTIFO_INLINE PackedOperand along_operand(const Operand& gradient, const Range& outputs,
                                           Scratch& scratch, bool hardware) {
  if (gradient.packs.along != nullptr) {
    return {gradient.packs.along_tile(outputs.first, 0), gradient.packs.size()};
  }
  pack_right_transposed<kParts>(gradient.values, outputs, bf16(scratch.right), hardware);
  return {bf16(scratch.right), outputs.count() * gradient.values.columns};
}

// Stores rows i and i + 1 of a block of a product at (row, column).
FASTIFO_INLINE void store_rows(Real* sums, int64_t i, const Panels& out, int64_t row,
                               int64_t column) {
  each_line(
      sums, i, [&](const Real* line, int64_t panel, int64_t index) __attribute__((always_inline)) {
        std::memcpy(out.line(column / kPanel + panel, row + index), line, kPanel * sizeof(Real));
      });
}

// Masks rows of a product's block by an activation; without one they stay.
FASTIFO_INLINE void mask_as(const Operand& active, Real* sums, int64_t i, int64_t row,
                            int64_t column) {
  if (active.packs.down != nullptr) {
    const Bf16* const tile = active.packs.down_tile(row, column);
    mask_rows(sums, i, tile, tile + active.packs.rows * kPanel);
  } else if (active.values.data != nullptr) {
    mask_rows(sums, i, block_of(active.values, row, column));
  }
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

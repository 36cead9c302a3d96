// The bf16 copies of a net's weights, packed as left operands of products.
#pragma once

#include "engine/gemm_bf16.h"
#include "engine/layer.h"
#include "engine/pack_bf16.h"

namespace fastifo {
namespace FASTIFO_ISA {

// The copies of a layer's weights: for backward, for forward, for the target's forward.
enum class Pack { kPlain, kTransposed, kTarget };

// One member's copies.
template <int kParts>
class WeightPacks {
 public:
  WeightPacks(Bf16* data, bool hardware) : data_(data), hardware_(hardware) {}

  PackedOperand operand(const Layer& layer, Pack which) const {
    return {copy(layer, which), layer.size()};
  }

  // Packs a layer of `weights` into the plain copy and `transposed`.
  WeightPacker<kParts> packer(Real* weights, const Layer& layer,
                              Pack transposed = Pack::kTransposed) const {
    const Panels panels{weights + layer.weights, layer.rows(), layer.columns()};
    return {panels, copy(layer, Pack::kPlain), copy(layer, transposed), hardware_};
  }

  void copy_to_target(const Layers& layers) const {
    for (const Layer& layer : layers) {
      std::memcpy(copy(layer, Pack::kTarget), copy(layer, Pack::kTransposed),
                  static_cast<size_t>(kParts * layer.size()) * sizeof(Bf16));
    }
  }

  // Packs all layers anew.  target: the target's weights, or null.
  void pack_all(const Layers& layers, Real* weights, Real* target) const {
    for (const Layer& layer : layers) {
      if (target != nullptr) {  // the plain copy is overwritten below
        packer(target, layer, Pack::kTarget).pack_all();
      }
      packer(weights, layer).pack_all();
    }
  }

 private:
  static constexpr int64_t kCopies = 3;

  Bf16* copy(const Layer& layer, Pack which) const {
    return data_ + kParts * (kCopies * layer.packs + static_cast<int64_t>(which) * layer.size());
  }

  Bf16* data_;
  bool hardware_;
};

}  // namespace FASTIFO_ISA
}  // namespace fastifo

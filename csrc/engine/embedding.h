// Distances of observations in the embedding z(s) of a frozen net, which has no backward pass.
#pragma once

#include "engine/activations.h"

namespace fastifo {
namespace FASTIFO_ISA {

// out[b] = |z(b) - z'(b)|^2, where z = x / max(|x|, 1e-12) and z' is that of `other`; sums run over
// the first `features` rows.
FASTIFO_INLINE void unit_distance(const Panels& x, const Panels& other, int64_t features,
                                  Real* out) {
  const auto inverse_norm = [](Vec<Real> square) __attribute__((always_inline)) {
    const Vec<Real> norm = root(square), smallest = fill(Real(1e-12));
    return Real(1) / (norm < smallest ? smallest : norm);  // a NaN stays
  };
  for (int64_t panel = 0; panel < x.panels(); ++panel) {
    for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
      Vec<Real> square{}, other_square{}, sum{};
      for (int64_t row = 0; row < features; ++row) {
        const Vec<Real> a = load(x.line(panel, row) + v), b = load(other.line(panel, row) + v);
        square += a * a;
        other_square += b * b;
      }
      const Vec<Real> scale = inverse_norm(square), other_scale = inverse_norm(other_square);
      for (int64_t row = 0; row < features; ++row) {
        const Vec<Real> difference =
            load(x.line(panel, row) + v) * scale - load(other.line(panel, row) + v) * other_scale;
        sum += difference * difference;
      }
      store(out + panel * kPanel + v, sum);
    }
  }
}

namespace {

constexpr int64_t kEmbeddingChunk = 256;  // rows at a time

// One thread's memory for the embeddings of pairs of observations.
class PairEmbedding {
 public:
  PairEmbedding(const NetPlan& plan, int parts)
      : first_(plan, kEmbeddingChunk, 0, parts), second_(plan, kEmbeddingChunk, 0, parts) {}

  // out[b] = the squared distance of the embeddings of column b of two matrices, for some columns.
  template <int kParts>
  void squared_distance(const Mlp<kParts>& net, const Panels& first, const Panels& second,
                        const Range& columns, Scratch& scratch, Real* out) const {
    const int last = net.depth() - 1;
    for (int64_t at = columns.first; at < columns.last; at += kEmbeddingChunk) {
      const Range chunk{0, std::min(kEmbeddingChunk, columns.last - at)};
      forward(net, false, first.part(at, chunk.count()), first_, chunk, scratch);
      forward(net, false, second.part(at, chunk.count()), second_, chunk, scratch);
      unit_distance(first_.output(last).part(chunk), second_.output(last).part(chunk),
                    net.layer(last).outputs, out + at);
    }
  }

 private:
  Activations first_, second_;
};

}  // namespace
}  // namespace FASTIFO_ISA
}  // namespace fastifo

// One CPU thread as the team of a batch loss (the contract: losses/batch.h). Its functions are
// always inlined, so that each instruction set has separate code.
#pragma once

#include "common/simd.h"
#include "losses/batch.h"

namespace fastifo {
namespace FASTIFO_ISA {

class SerialTeam {
 public:
  FASTIFO_INLINE bool leads() const { return true; }

  template <typename Body>
  FASTIFO_INLINE void each(const Rows& rows, const Body& body) const {
    for (int64_t source = 0; source < rows.sources; ++source) {
      const int64_t first = source * rows.stride;
      for (int64_t row = 0; row < rows.batch; ++row) body(first + row);
    }
  }

  // Row r of a source is added to partial sum r % kPartial: the partial sums vectorise, and their
  // order is the same for every instruction set.
  template <int N, typename Terms>
  FASTIFO_INLINE Sums<N> sums(const Rows& rows, const Terms& terms) const {
    double partial[N][kPartial] = {};
    in_blocks(rows, [&](int64_t i, int64_t k) {
      const Sums<N> term = terms(i);
      for (int n = 0; n < N; ++n) partial[n][k] += term.value[n];
    });
    Sums<N> total{};
    for (int n = 0; n < N; ++n) {
      for (int width = kPartial / 2; width > 0; width /= 2) {
        for (int k = 0; k < width; ++k) partial[n][k] += partial[n][k + width];
      }
      total.value[n] = partial[n][0];
    }
    return total;
  }

  template <typename Term>
  FASTIFO_INLINE auto max(const Rows& rows, const Term& term) const {
    using Real = decltype(term(int64_t{0}));
    Real partial[kPartial];
    for (Real& largest : partial) largest = -kInfinity<Real>;
    in_blocks(rows, [&](int64_t i, int64_t k) {
      const Real value = term(i);
      partial[k] = value > partial[k] ? value : partial[k];
    });
    Real largest = partial[0];
    for (const Real value : partial) largest = value > largest ? value : largest;
    return largest;
  }

  // Writes the exponents to `weight`, then takes the exponential of full vectors: std::exp row by
  // row would cost more than the rest of a loss.
  template <typename Real, typename Exponent>
  FASTIFO_INLINE Sums<2> capped_exp(const Rows& rows, const Exponent& exponent, Real cap,
                                    Real* weight) const {
    const Real log_cap = std::log(cap);
    each(rows, [&](int64_t i) { weight[i] = exponent(i); });
    int64_t capped = 0;
    each(rows, [&](int64_t i) { capped += weight[i] >= log_cap; });
    const Vec<Real> high = fill(log_cap), highest = fill(cap);
    for (int64_t source = 0; source < rows.sources; ++source) {
      Real* const first = weight + source * rows.stride;
      int64_t row = 0;
      for (; row + kLanes<Real> <= rows.batch; row += kLanes<Real>) {
        const Vec<Real> x = load(first + row);
        store(first + row, x >= high ? highest : exp(x));
      }
      if (row == rows.batch) continue;
      const Vec<Real> x = load_some(first + row, rows.batch - row);
      store_some(first + row, x >= high ? highest : exp(x), rows.batch - row);
    }
    const Sums<1> total =
        sums<1>(rows, [&](int64_t i) -> Sums<1> { return {{static_cast<double>(weight[i])}}; });
    return {{total[0], static_cast<double>(capped)}};
  }

 private:
  static constexpr int64_t kPartial = 16;

  // body(i, k) for every row; in each source k cycles through 0 .. kPartial - 1.
  template <typename Body>
  FASTIFO_INLINE static void in_blocks(const Rows& rows, const Body& body) {
    for (int64_t source = 0; source < rows.sources; ++source) {
      const int64_t first = source * rows.stride, full = rows.batch / kPartial * kPartial;
      for (int64_t row = 0; row < full; row += kPartial) {
        for (int64_t k = 0; k < kPartial; ++k) body(first + row + k, k);
      }
      for (int64_t k = 0; full + k < rows.batch; ++k) body(first + full + k, k);
    }
  }
};

}  // namespace FASTIFO_ISA
}  // namespace fastifo

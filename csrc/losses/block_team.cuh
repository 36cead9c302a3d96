// A CUDA block of kThreads as the team of a batch loss (the contract: losses/batch.h). Thread t
// takes rows t, t + kThreads, ... of every source. Sums are carried in double and reduced in a
// fixed order; every sum, maximum and capped_exp is a barrier for the block.
#pragma once

#include "common/reduce.cuh"
#include "losses/batch.h"

namespace fastifo {

template <int kThreads>
class BlockTeam {
 public:
  __device__ bool leads() const { return threadIdx.x == 0; }

  template <typename Body>
  __device__ void each(const Rows& rows, const Body& body) const {
    for (int64_t source = 0; source < rows.sources; ++source) {
      const int64_t first = source * rows.stride;
      for (int64_t row = threadIdx.x; row < rows.batch; row += kThreads) body(first + row);
    }
  }

  template <int N, typename Terms>
  __device__ Sums<N> sums(const Rows& rows, const Terms& terms) const {
    Sums<N> total{};
    each(rows, [&](int64_t i) {
      const Sums<N> term = terms(i);
      for (int n = 0; n < N; ++n) total.value[n] += term.value[n];
    });
    block_sum<kThreads>(total.value);
    return total;
  }

  template <typename Term>
  __device__ auto max(const Rows& rows, const Term& term) const {
    using Real = decltype(term(int64_t{0}));
    Real largest = -kInfinity<Real>;
    each(rows, [&](int64_t i) {
      const Real value = term(i);
      largest = value > largest ? value : largest;
    });
    return block_max<kThreads>(largest);
  }

  template <typename Real, typename Exponent>
  __device__ Sums<2> capped_exp(const Rows& rows, const Exponent& exponent, Real cap,
                                Real* weight) const {
    const Real log_cap = std::log(cap);
    return sums<2>(rows, [&](int64_t i) -> Sums<2> {
      const Real x = exponent(i);
      const bool capped = x >= log_cap;  // false for NaN, which stays
      weight[i] = capped ? cap : std::exp(x);
      return {{static_cast<double>(weight[i]), capped ? 1.0 : 0.0}};
    });
  }
};

}  // namespace fastifo

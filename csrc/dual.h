// Dual value losses with gradients through both values: SMODICE and DILO.
#pragma once

#include <cstdint>

#include "common/check.h"
#include "common/isa.h"

namespace fastifo {

enum Divergence : int64_t { kKL = 0, kChi2 = 1 };

FASTIFO_EACH_ISA(
    // delta = reward + gamma * next_v - v (no bootstrap at a terminal; absorbing: reward / (1 -
    // gamma))
    //   kl:   loss = (1 - gamma) mean(initial_v) + log mean exp(delta),        weight = exp(delta)
    //   chi2: loss = (1 - gamma) mean(initial_v) + mean(delta + delta^2 / 2),  weight = max(0,
    //   delta + 1)
    // `normalizes` divides the weights by their mean; then the cap.
    template <typename T>
    void smodice_cpu(const T* v, const T* next_v,          // [members, rows]
                     const T* initial_v,                   // [members, initial_rows]
                     const T* reward, const T* terminal,   // [members, rows]
                     const T* gamma, const T* max_weight,  // [members]
                     T* loss,                              // [members]
                     T* v_gradient, T* next_v_gradient,    // [members, rows]
                     T* initial_v_gradient,                // [members, initial_rows]
                     T* weight,                            // [members, rows]
                     T* statistics,                        // [members, 4] of delta
                     int64_t members, int64_t rows, int64_t initial_rows, int64_t divergence,
                     int64_t absorbing, int64_t normalizes);

    // y = gamma (1 - terminal) next_v - v,  w = max(y / 2 + 1, 0),  f(y) = y w - (w - 1)^2
    //   loss = (1 - residual_share) mean_B(v)
    //        + residual_share (beta mean_E f(y) + (1 - beta) mean_B(f(y) - y))
    //   weight = min(exp(inverse_temperature v), max_weight) on B, the rows after the expert's
    template <typename T>
    void dilo_cpu(const T* v, const T* next_v, const T* terminal,  // [members, rows]
                  const T* gamma, const T* beta, const T* residual_share,
                  const T* inverse_temperature, const T* max_weight,  // [members]
                  T* loss,                                            // [members]
                  T* v_gradient, T* next_v_gradient,                  // [members, rows]
                  T* weight,      // [members, rows - expert_rows]
                  T* statistics,  // [members, 4] of B's y
                  int64_t members, int64_t rows, int64_t expert_rows);)

template <typename T>
void smodice_cuda(const T* v, const T* next_v, const T* initial_v, const T* reward,
                  const T* terminal, const T* gamma, const T* max_weight, T* loss, T* v_gradient,
                  T* next_v_gradient, T* initial_v_gradient, T* weight, T* statistics,
                  int64_t members, int64_t rows, int64_t initial_rows, int64_t divergence,
                  int64_t absorbing, int64_t normalizes, cudaStream_t stream);

template <typename T>
void dilo_cuda(const T* v, const T* next_v, const T* terminal, const T* gamma, const T* beta,
               const T* residual_share, const T* inverse_temperature, const T* max_weight, T* loss,
               T* v_gradient, T* next_v_gradient, T* weight, T* statistics, int64_t members,
               int64_t rows, int64_t expert_rows, cudaStream_t stream);

}  // namespace fastifo

// Dual value losses with gradients through both values: SMODICE, LobsDICE and DILO. The formulas
// are in losses/smodice.h and losses/dilo.h.
#pragma once

#include <cstdint>

#include "common/check.h"
#include "common/isa.h"
#include "losses/dilo.h"
#include "losses/smodice.h"

namespace fastifo {

enum Divergence : int64_t { kKL = 0, kChi2 = 1 };

FASTIFO_EACH_ISA(
    // delta = reward + gamma * next_v - v (no bootstrap at a terminal; absorbing: reward / (1 -
    // gamma))
    //   kl:   loss = (1 - gamma) mean(initial_v) + t log mean exp(delta / t)
    //         weight = exp(delta / t)
    //   chi2: loss = (1 - gamma) mean(initial_v) + mean(delta + delta^2 / (2 t))
    //         weight = max(0, delta / t + 1)
    // t: the temperature, 1 in SMODICE. `normalizes` divides the weights by their mean; then the
    // cap.
    template <typename T>
    void smodice_cpu(const T* v, const T* next_v,         // [members, rows]
                     const T* initial_v,                  // [members, initial_rows]
                     const T* reward, const T* terminal,  // [members, rows]
                     const T* gamma, const T* temperature, const T* max_weight,  // [members]
                     T* loss,                                                    // [members]
                     T* v_gradient, T* next_v_gradient,                          // [members, rows]
                     T* initial_v_gradient,  // [members, initial_rows]
                     T* weight,              // [members, rows]
                     T* statistics,          // [members, 4] of delta
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
                  const T* terminal, const T* gamma, const T* temperature, const T* max_weight,
                  T* loss, T* v_gradient, T* next_v_gradient, T* initial_v_gradient, T* weight,
                  T* statistics, int64_t members, int64_t rows, int64_t initial_rows,
                  int64_t divergence, int64_t absorbing, int64_t normalizes, cudaStream_t stream);

template <typename T>
void dilo_cuda(const T* v, const T* next_v, const T* terminal, const T* gamma, const T* beta,
               const T* residual_share, const T* inverse_temperature, const T* max_weight, T* loss,
               T* v_gradient, T* next_v_gradient, T* weight, T* statistics, int64_t members,
               int64_t rows, int64_t expert_rows, cudaStream_t stream);

// The arguments of smodice_cpu, in their order.
template <typename T>
struct SmodiceArguments {
  const T *v, *next_v, *initial_v, *reward, *terminal, *gamma, *temperature, *max_weight;
  T *loss, *v_gradient, *next_v_gradient, *initial_v_gradient, *weight, *statistics;
  int64_t members, rows, initial_rows, divergence, absorbing, normalizes;
};

template <typename Team, typename T>
FASTIFO_HOST_DEVICE void smodice_member(const Team& team, const SmodiceArguments<T>& a,
                                        int64_t member) {
  const int64_t first = member * a.rows, initial = member * a.initial_rows;
  double statistics[4];
  const typename SMODICE<T>::Values values{a.v + first,
                                           a.next_v + first,
                                           a.terminal + first,
                                           a.initial_v + initial,
                                           a.rows,
                                           a.initial_rows,
                                           a.v_gradient + first,
                                           a.next_v_gradient + first,
                                           a.initial_v_gradient + initial,
                                           a.weight + first,
                                           statistics};
  const double loss =
      SMODICE<T>::compute_loss(team,
                               {a.gamma[member], a.temperature[member], a.max_weight[member],
                                a.divergence == kChi2, a.absorbing != 0, a.normalizes != 0},
                               values, [&](int64_t i) { return a.reward[first + i]; });
  if (!team.leads()) return;
  a.loss[member] = static_cast<T>(loss);
  for (int k = 0; k < 4; ++k) a.statistics[4 * member + k] = static_cast<T>(statistics[k]);
}

// The arguments of dilo_cpu, in their order.
template <typename T>
struct DiloArguments {
  const T *v, *next_v, *terminal;
  const T *gamma, *beta, *residual_share, *inverse_temperature, *max_weight;
  T *loss, *v_gradient, *next_v_gradient, *weight, *statistics;
  int64_t members, rows, expert_rows;
};

template <typename Team, typename T>
FASTIFO_HOST_DEVICE void dilo_member(const Team& team, const DiloArguments<T>& a, int64_t member) {
  const int64_t background_rows = a.rows - a.expert_rows;
  const int64_t expert = member * a.rows, background = expert + a.expert_rows;
  const auto source = [&](int64_t first, int64_t rows) {
    return typename DILO<T>::Source{rows, a.v + first, a.next_v + first, a.v_gradient + first,
                                    a.next_v_gradient + first};
  };
  double statistics[4];
  const double loss = DILO<T>::compute_loss(
      team,
      {a.gamma[member], a.beta[member], a.residual_share[member], a.inverse_temperature[member],
       a.max_weight[member]},
      source(expert, a.expert_rows), source(background, background_rows),
      [&](int64_t i) { return a.terminal[expert + i]; }, a.weight + member * background_rows,
      statistics);
  if (!team.leads()) return;
  a.loss[member] = static_cast<T>(loss);
  for (int k = 0; k < 4; ++k) a.statistics[4 * member + k] = static_cast<T>(statistics[k]);
}

}  // namespace fastifo

// Value loss, its gradient and the policy's weights for VfO, AWR, SQIL and IQL; the formulas are in
// losses/advantage.h.
//   y = reward + gamma * next_v, or at a terminal reward / (1 - gamma) if absorbing, else reward
//   loss = sum over groups of share * mean(|expectile - 1(y < v)| * (y - v)^2)
//   weight = min(exp((y - v) / temperature), max_weight) on the last policy_rows rows
#pragma once

#include <cstdint>

#include "common/check.h"
#include "common/isa.h"
#include "losses/advantage.h"

namespace fastifo {

FASTIFO_EACH_ISA(template <typename T> void advantage_cpu(
                     const T* v,              // [members, rows]
                     const T* next_v,         // [members, rows]
                     const T* policy_next_v,  // [members, policy_rows], or null: next_v's rows
                     const T* reward,         // [members, reward_groups], which divides rows
                     const T* terminal,       // [members, rows] 0 or 1
                     const T* share,          // [members, share_groups], which divides rows
                     const T* gamma, const T* temperature, const T* max_weight,  // [members]
                     const T* expectile,  // [members], or null for the plain square
                     T* loss,             // [members]
                     T* gradient,         // [members, rows] of the loss in v
                     T* weight,           // [members, policy_rows]
                     T* statistics,       // [members, 4] advantage mean and deviation, mean
                                          // weight, share of rows at the cap
                     int64_t members, int64_t rows, int64_t reward_groups, int64_t share_groups,
                     int64_t policy_rows, int64_t absorbing, int64_t policy_absorbing);)

template <typename T>
void advantage_cuda(const T* v, const T* next_v, const T* policy_next_v, const T* reward,
                    const T* terminal, const T* share, const T* gamma, const T* temperature,
                    const T* max_weight, const T* expectile, T* loss, T* gradient, T* weight,
                    T* statistics, int64_t members, int64_t rows, int64_t reward_groups,
                    int64_t share_groups, int64_t policy_rows, int64_t absorbing,
                    int64_t policy_absorbing, cudaStream_t stream);

// The arguments above, in their order.
template <typename T>
struct AdvantageArguments {
  const T *v, *next_v, *policy_next_v, *reward, *terminal, *share;
  const T *gamma, *temperature, *max_weight, *expectile;
  T *loss, *gradient, *weight, *statistics;
  int64_t members, rows, reward_groups, share_groups, policy_rows, absorbing, policy_absorbing;
};

// One member. reward(row), scale(row): of its rows; scale is the share over its group's rows.
template <typename Team, typename T, typename Reward, typename Scale>
FASTIFO_HOST_DEVICE void advantage_member(const Team& team, const AdvantageArguments<T>& a,
                                          int64_t member, const Reward& reward,
                                          const Scale& scale) {
  const int64_t first = member * a.rows, policy_first = a.rows - a.policy_rows;
  const T gamma = a.gamma[member];
  const OneStepTarget<T> target(gamma, a.absorbing != 0);
  const OneStepTarget<T> policy_target(gamma, a.policy_absorbing != 0);

  // Value.
  const Transitions rows{a.v + first, a.next_v + first, a.terminal + first, reward};
  const auto cost =
      a.expectile == nullptr ? SquaredCost<T>() : SquaredCost<T>::expectile(a.expectile[member]);
  const double loss = squared_loss(
      team, a.rows, [&](int64_t i) { return rows.error(target, i); }, cost, scale,
      a.gradient + first);

  // Policy.
  const Transitions policy_rows{
      rows.value + policy_first,
      a.policy_next_v == nullptr ? rows.next_value + policy_first
                                 : a.policy_next_v + member * a.policy_rows,
      rows.terminal + policy_first, [&](int64_t i) { return reward(policy_first + i); }};
  double statistics[4];
  advantage_weights(
      team, a.policy_rows, [&](int64_t i) { return policy_rows.error(policy_target, i); },
      a.temperature[member], a.max_weight[member], a.weight + member * a.policy_rows, statistics);

  if (!team.leads()) return;
  a.loss[member] = a.rows > 0 ? static_cast<T>(loss) : static_cast<T>(std::nan(""));
  for (int k = 0; k < 4; ++k) a.statistics[4 * member + k] = static_cast<T>(statistics[k]);
}

}  // namespace fastifo

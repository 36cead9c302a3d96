// Value loss, its gradient and the policy's weights for VfO, AWR, SQIL and IQL.
//   y = reward + gamma * next_v, or at a terminal reward / (1 - gamma) if absorbing, else reward
//   loss = sum over groups of share * mean(|expectile - 1(y < v)| * (y - v)^2)
//   weight = min(exp((y - v) / temperature), max_weight) on the last policy_rows rows
#pragma once

#include <cstdint>

#include "common/check.h"
#include "common/isa.h"

namespace fastifo {

constexpr int64_t kStatistics = 4;  // advantage mean, its deviation, mean weight, capped share

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
                     T* statistics,       // [members, 4]
                     int64_t members, int64_t rows, int64_t reward_groups, int64_t share_groups,
                     int64_t policy_rows, int64_t absorbing, int64_t policy_absorbing);)

template <typename T>
void advantage_cuda(const T* v, const T* next_v, const T* policy_next_v, const T* reward,
                    const T* terminal, const T* share, const T* gamma, const T* temperature,
                    const T* max_weight, const T* expectile, T* loss, T* gradient, T* weight,
                    T* statistics, int64_t members, int64_t rows, int64_t reward_groups,
                    int64_t share_groups, int64_t policy_rows, int64_t absorbing,
                    int64_t policy_absorbing, cudaStream_t stream);

}  // namespace fastifo

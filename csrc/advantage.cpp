// Value loss, gradient and policy weights on the CPU: each value is read once, sums are carried in
// double in a fixed order. Threads take members.
#include "advantage.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/parallel.h"
#include "common/weights.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

constexpr int64_t kRowsPerThread = 1 << 15;

// y - v for rows [0, count); `final_factor` turns a terminal's reward into its value.
template <typename T>
FASTIFO_INLINE void errors(const T* v, const T* next_v, const T* reward, const T* terminal,
                           int64_t count, T gamma, T final_factor, T* error) {
  for (int64_t i = 0; i < count; ++i) {
    const T going = reward[i] + gamma * next_v[i], ending = reward[i] * final_factor;
    error[i] = (terminal[i] > T(0) ? ending : going) - v[i];
  }
}

// The loss of one member and its gradient in v.
template <typename T>
FASTIFO_INLINE T value_loss(const T* error, const T* share, int64_t rows, int64_t groups,
                            const T* expectile, T* gradient) {
  const int64_t count = rows / groups;
  double loss = 0.0;
  for (int64_t group = 0; group < groups; ++group) {
    const T scale = share[group] / static_cast<T>(count);
    double sum = 0.0;
    for (int64_t i = group * count; i < (group + 1) * count; ++i) {
      T slope = error[i];
      if (expectile != nullptr) slope *= std::abs(*expectile - (error[i] < T(0) ? T(1) : T(0)));
      sum += static_cast<double>(slope) * static_cast<double>(error[i]);
      gradient[i] = T(-2) * scale * slope;
    }
    loss += sum * static_cast<double>(scale);
  }
  return static_cast<T>(loss);
}

}  // namespace

template <typename T>
void advantage_cpu(const T* v, const T* next_v, const T* policy_next_v, const T* reward,
                   const T* terminal, const T* share, const T* gamma, const T* temperature,
                   const T* max_weight, const T* expectile, T* loss, T* gradient, T* weight,
                   T* statistics, int64_t members, int64_t rows, int64_t reward_groups,
                   int64_t share_groups, int64_t policy_rows, int64_t absorbing,
                   int64_t policy_absorbing) {
  const int64_t grain = std::max<int64_t>(1, kRowsPerThread / std::max<int64_t>(1, rows));
  parallel_for(members, grain, [=](int64_t begin, int64_t end) {
    std::vector<T> own_reward(static_cast<size_t>(rows)), error(own_reward.size());
    for (int64_t m = begin; m < end; ++m) {
      const int64_t repeats = rows / reward_groups, first = rows - policy_rows;
      for (int64_t group = 0; group < reward_groups; ++group) {
        std::fill_n(own_reward.begin() + group * repeats, repeats,
                    reward[m * reward_groups + group]);
      }
      const T forever = T(1) / (T(1) - gamma[m]);
      errors(v + m * rows, next_v + m * rows, own_reward.data(), terminal + m * rows, rows,
             gamma[m], absorbing ? forever : T(1), error.data());
      loss[m] = value_loss(error.data(), share + m * share_groups, rows, share_groups,
                           expectile == nullptr ? nullptr : expectile + m, gradient + m * rows);

      T* own = error.data() + first;  // the policy rows' advantages, in place
      if (policy_next_v != nullptr || absorbing != policy_absorbing) {
        errors(
            v + m * rows + first,
            policy_next_v == nullptr ? next_v + m * rows + first : policy_next_v + m * policy_rows,
            own_reward.data() + first, terminal + m * rows + first, policy_rows, gamma[m],
            policy_absorbing ? forever : T(1), own);
      }
      T* exponent = own_reward.data() + first;
      for (int64_t i = 0; i < policy_rows; ++i) exponent[i] = own[i] / temperature[m];
      const int64_t capped =
          capped_exp(exponent, policy_rows, max_weight[m], weight + m * policy_rows);
      describe(own, weight + m * policy_rows, policy_rows, capped, statistics + m * kStatistics);
    }
  });
}

#define FASTIFO_INSTANTIATE(T)                                                                 \
  template void advantage_cpu(const T*, const T*, const T*, const T*, const T*, const T*,      \
                              const T*, const T*, const T*, const T*, T*, T*, T*, T*, int64_t, \
                              int64_t, int64_t, int64_t, int64_t, int64_t, int64_t)
FASTIFO_INSTANTIATE(float);
FASTIFO_INSTANTIATE(double);

}  // namespace FASTIFO_ISA
}  // namespace fastifo

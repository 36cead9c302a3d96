// Value loss, gradient and policy weights on the CPU: each input is read from memory once. Threads
// take members.
#include "ops/advantage.h"

#include <algorithm>
#include <vector>

#include "common/parallel.h"
#include "losses/serial_team.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

constexpr int64_t kRowsPerThread = 1 << 15;

// [groups] -> [rows]: values[group] / divisor for each row of `groups` equal groups, in `buffer`;
// or the values themselves where each row is a group and divides by 1.
template <typename T>
const T* spread(const T* values, int64_t groups, int64_t rows, T divisor, std::vector<T>& buffer) {
  if (groups == rows) return values;
  const int64_t size = rows / groups;
  buffer.resize(static_cast<size_t>(rows));
  for (int64_t group = 0; group < groups; ++group) {
    std::fill_n(buffer.data() + group * size, size, values[group] / divisor);
  }
  return buffer.data();
}

}  // namespace

template <typename T>
void advantage_cpu(const T* v, const T* next_v, const T* policy_next_v, const T* reward,
                   const T* terminal, const T* share, const T* gamma, const T* temperature,
                   const T* max_weight, const T* expectile, T* loss, T* gradient, T* weight,
                   T* statistics, int64_t members, int64_t rows, int64_t reward_groups,
                   int64_t share_groups, int64_t policy_rows, int64_t absorbing,
                   int64_t policy_absorbing) {
  const AdvantageArguments<T> arguments{
      v,           next_v,      policy_next_v,   reward,    terminal,      share,
      gamma,       temperature, max_weight,      expectile, loss,          gradient,
      weight,      statistics,  members,         rows,      reward_groups, share_groups,
      policy_rows, absorbing,   policy_absorbing};
  const int64_t grain = std::max<int64_t>(1, kRowsPerThread / std::max<int64_t>(1, rows));
  const T share_rows = static_cast<T>(rows / share_groups);
  parallel_for(members, grain, [=](int64_t begin, int64_t end) {
    std::vector<T> reward_buffer, scale_buffer;
    for (int64_t member = begin; member < end; ++member) {
      const T* const rewards =
          spread(reward + member * reward_groups, reward_groups, rows, T(1), reward_buffer);
      const T* const scales =
          spread(share + member * share_groups, share_groups, rows, share_rows, scale_buffer);
      advantage_member(
          SerialTeam(), arguments, member, [=](int64_t i) { return rewards[i]; },
          [=](int64_t i) { return scales[i]; });
    }
  });
}

template decltype(advantage_cpu<float>) advantage_cpu<float>;
template decltype(advantage_cpu<double>) advantage_cpu<double>;

}  // namespace FASTIFO_ISA
}  // namespace fastifo

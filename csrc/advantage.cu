// Value loss, gradient and policy weights on the GPU. Reads the five columns of a row from memory
// once, the policy rows again from the cache, and writes gradient and weight: 24 to 28 bytes a row
// in float, so that latency, not memory speed, is the floor.
// One block takes one member with a grid stride, its threads the rows. Sums are carried in double.
#include <algorithm>

#include "advantage.h"
#include "common/reduce.cuh"

namespace fastifo {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 20;

// As in the header.
template <typename T>
struct Arguments {
  const T *v, *next_v, *policy_next_v, *reward, *terminal, *share;
  const T *gamma, *temperature, *max_weight, *expectile;
  T *loss, *gradient, *weight, *statistics;
  int64_t members, rows, reward_groups, share_groups, policy_rows;
  bool absorbing, policy_absorbing;
};

// y - v of one row.
template <typename T>
__device__ __forceinline__ T error_of(const Arguments<T>& a, int64_t member, int64_t row, T next_v,
                                      bool absorbing) {
  const T gamma = a.gamma[member];
  const int64_t at = member * a.rows + row;
  const int64_t repeats = a.rows / a.reward_groups;
  const T reward = a.reward[member * a.reward_groups + row / repeats];
  const T going = reward + gamma * next_v;
  const T ending = absorbing ? reward / (T(1) - gamma) : reward;
  return (a.terminal[at] > T(0) ? ending : going) - a.v[at];
}

// The advantage of row `i` of the policy's.
template <typename T>
__device__ __forceinline__ T advantage_of(const Arguments<T>& a, int64_t member, int64_t i) {
  const int64_t row = a.rows - a.policy_rows + i;
  const T next_v = a.policy_next_v == nullptr ? a.next_v[member * a.rows + row]
                                              : a.policy_next_v[member * a.policy_rows + i];
  return error_of(a, member, row, next_v, a.policy_absorbing);
}

template <typename T>
__global__ void __launch_bounds__(kThreads) advantage_kernel(const Arguments<T> a) {
  const int64_t group_rows = a.rows / a.share_groups;
  for (int64_t member = blockIdx.x; member < a.members; member += gridDim.x) {
    double sum[kLogged + 1] = {};  // the last is the loss
    for (int64_t row = threadIdx.x; row < a.rows; row += kThreads) {
      const int64_t at = member * a.rows + row;
      const T error = error_of(a, member, row, a.next_v[at], a.absorbing);
      const T scale =
          a.share[member * a.share_groups + row / group_rows] / static_cast<T>(group_rows);
      T slope = error;
      if (a.expectile != nullptr) slope *= fabs(a.expectile[member] - T(error < T(0) ? 1 : 0));
      sum[kLogged] +=
          static_cast<double>(slope) * static_cast<double>(error) * static_cast<double>(scale);
      a.gradient[at] = T(-2) * scale * slope;
    }

    const T cap = a.max_weight[member], log_cap = log(cap), temperature = a.temperature[member];
    const T centre = a.policy_rows > 0 ? advantage_of(a, member, 0) : T(0);
    for (int64_t i = threadIdx.x; i < a.policy_rows; i += kThreads) {
      const T advantage = advantage_of(a, member, i);
      const T exponent = advantage / temperature;
      const T weight = capped_exp(exponent, log_cap, cap);
      a.weight[member * a.policy_rows + i] = weight;
      log_row(advantage, centre, weight, exponent >= log_cap, sum);
    }

    block_sum<kThreads>(sum);
    if (threadIdx.x == 0) {
      a.loss[member] =
          a.rows > 0 ? static_cast<T>(sum[kLogged]) : static_cast<T>(nan(""));  // a mean of none
      write_statistics(sum, a.policy_rows, a.statistics + member * kStatistics);
    }
  }
}

}  // namespace

template <typename T>
void advantage_cuda(const T* v, const T* next_v, const T* policy_next_v, const T* reward,
                    const T* terminal, const T* share, const T* gamma, const T* temperature,
                    const T* max_weight, const T* expectile, T* loss, T* gradient, T* weight,
                    T* statistics, int64_t members, int64_t rows, int64_t reward_groups,
                    int64_t share_groups, int64_t policy_rows, int64_t absorbing,
                    int64_t policy_absorbing, cudaStream_t stream) {
  FASTIFO_CHECK(reward_groups >= 1 && rows % reward_groups == 0,
                "reward: expected a divisor of " << rows << " columns, found " << reward_groups);
  FASTIFO_CHECK(share_groups >= 1 && rows % share_groups == 0,
                "share: expected a divisor of " << rows << " columns, found " << share_groups);
  if (members <= 0) return;  // a launch of zero blocks is an error
  const Arguments<T> arguments{v,           next_v,         policy_next_v,
                               reward,      terminal,       share,
                               gamma,       temperature,    max_weight,
                               expectile,   loss,           gradient,
                               weight,      statistics,     members,
                               rows,        reward_groups,  share_groups,
                               policy_rows, absorbing != 0, policy_absorbing != 0};
  const auto blocks = static_cast<unsigned>(std::min(members, kMaxBlocks));
  advantage_kernel<<<blocks, kThreads, 0, stream>>>(arguments);
  check_launch("advantage");
}

#define FASTIFO_INSTANTIATE(T)                                                                  \
  template void advantage_cuda(const T*, const T*, const T*, const T*, const T*, const T*,      \
                               const T*, const T*, const T*, const T*, T*, T*, T*, T*, int64_t, \
                               int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, cudaStream_t)
FASTIFO_INSTANTIATE(float);
FASTIFO_INSTANTIATE(double);

}  // namespace fastifo

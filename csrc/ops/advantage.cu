// Value loss, gradient and policy weights on the GPU. Reads the five columns of a row from memory
// once, the policy rows again from the cache, and writes gradient and weight: 24 to 28 bytes per
// row in float, so that latency, not memory speed, is the floor.
// One block takes one member with a grid stride, its threads the rows. Sums are carried in double.
#include <algorithm>

#include "losses/block_team.cuh"
#include "ops/advantage.h"

namespace fastifo {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 20;

template <typename T>
__global__ void __launch_bounds__(kThreads) advantage_kernel(const AdvantageArguments<T> a) {
  const int64_t reward_rows = a.rows / a.reward_groups, share_rows = a.rows / a.share_groups;
  for (int64_t member = blockIdx.x; member < a.members; member += gridDim.x) {
    const T* const reward = a.reward + member * a.reward_groups;
    const T* const share = a.share + member * a.share_groups;
    advantage_member(
        BlockTeam<kThreads>(), a, member, [=](int64_t i) { return reward[i / reward_rows]; },
        [=](int64_t i) { return share[i / share_rows] / static_cast<T>(share_rows); });
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
  const auto blocks = static_cast<unsigned>(std::min(members, kMaxBlocks));
  const AdvantageArguments<T> arguments{
      v,           next_v,      policy_next_v,   reward,    terminal,      share,
      gamma,       temperature, max_weight,      expectile, loss,          gradient,
      weight,      statistics,  members,         rows,      reward_groups, share_groups,
      policy_rows, absorbing,   policy_absorbing};
  advantage_kernel<<<blocks, kThreads, 0, stream>>>(arguments);
  check_launch("advantage");
}

template decltype(advantage_cuda<float>) advantage_cuda<float>;
template decltype(advantage_cuda<double>) advantage_cuda<double>;

}  // namespace fastifo

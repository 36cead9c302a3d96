// Dual value losses on the GPU. Each input of a row is read from memory once or twice, the second
// time from the cache; SMODICE keeps delta and exp(delta) in the outputs between its passes, where
// the caches hold them. Latency, not memory speed, is the floor. One block takes one member with a
// grid stride, its threads the rows, so that a thread reads back only what it wrote itself. Sums
// are carried in double.
#include <algorithm>

#include "losses/block_team.cuh"
#include "ops/dual.h"

namespace fastifo {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 20;

template <typename T>
__global__ void __launch_bounds__(kThreads) smodice_kernel(const SmodiceArguments<T> a) {
  for (int64_t member = blockIdx.x; member < a.members; member += gridDim.x) {
    smodice_member(BlockTeam<kThreads>(), a, member);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) dilo_kernel(const DiloArguments<T> a) {
  for (int64_t member = blockIdx.x; member < a.members; member += gridDim.x) {
    dilo_member(BlockTeam<kThreads>(), a, member);
  }
}

}  // namespace

template <typename T>
void smodice_cuda(const T* v, const T* next_v, const T* initial_v, const T* reward,
                  const T* terminal, const T* gamma, const T* temperature, const T* max_weight,
                  T* loss, T* v_gradient, T* next_v_gradient, T* initial_v_gradient, T* weight,
                  T* statistics, int64_t members, int64_t rows, int64_t initial_rows,
                  int64_t divergence, int64_t absorbing, int64_t normalizes, cudaStream_t stream) {
  FASTIFO_CHECK(rows >= 1 && initial_rows >= 1, "v: expected at least one row and one start, found "
                                                    << rows << " and " << initial_rows);
  FASTIFO_CHECK(divergence == kKL || divergence == kChi2,
                "divergence: expected 0 (kl) or 1 (chi2), found " << divergence);
  if (members <= 0) return;  // a launch of zero blocks is an error
  const auto blocks = static_cast<unsigned>(std::min(members, kMaxBlocks));
  const SmodiceArguments<T> arguments{
      v,          next_v, initial_v,    reward,          terminal,           gamma,     temperature,
      max_weight, loss,   v_gradient,   next_v_gradient, initial_v_gradient, weight,    statistics,
      members,    rows,   initial_rows, divergence,      absorbing,          normalizes};
  smodice_kernel<<<blocks, kThreads, 0, stream>>>(arguments);
  check_launch("smodice");
}

template <typename T>
void dilo_cuda(const T* v, const T* next_v, const T* terminal, const T* gamma, const T* beta,
               const T* residual_share, const T* inverse_temperature, const T* max_weight, T* loss,
               T* v_gradient, T* next_v_gradient, T* weight, T* statistics, int64_t members,
               int64_t rows, int64_t expert_rows, cudaStream_t stream) {
  FASTIFO_CHECK(1 <= expert_rows && expert_rows < rows,
                "expert_rows: expected at least 1 and fewer than the " << rows << " rows, found "
                                                                       << expert_rows);
  if (members <= 0) return;  // a launch of zero blocks is an error
  const auto blocks = static_cast<unsigned>(std::min(members, kMaxBlocks));
  const DiloArguments<T> arguments{v,
                                   next_v,
                                   terminal,
                                   gamma,
                                   beta,
                                   residual_share,
                                   inverse_temperature,
                                   max_weight,
                                   loss,
                                   v_gradient,
                                   next_v_gradient,
                                   weight,
                                   statistics,
                                   members,
                                   rows,
                                   expert_rows};
  dilo_kernel<<<blocks, kThreads, 0, stream>>>(arguments);
  check_launch("dilo");
}

template decltype(smodice_cuda<float>) smodice_cuda<float>;
template decltype(smodice_cuda<double>) smodice_cuda<double>;
template decltype(dilo_cuda<float>) dilo_cuda<float>;
template decltype(dilo_cuda<double>) dilo_cuda<double>;

}  // namespace fastifo

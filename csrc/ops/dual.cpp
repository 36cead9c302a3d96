// Dual value losses on the CPU: each input is read from memory once. Threads take members.
#include "ops/dual.h"

#include <algorithm>

#include "common/parallel.h"
#include "losses/serial_team.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

constexpr int64_t kRowsPerThread = 1 << 15;

template <typename Body>
void each_member(int64_t members, int64_t rows, const Body& body) {
  const int64_t grain = std::max<int64_t>(1, kRowsPerThread / std::max<int64_t>(1, rows));
  parallel_for(members, grain, [=](int64_t begin, int64_t end) {
    for (int64_t member = begin; member < end; ++member) body(member);
  });
}

}  // namespace

template <typename T>
void smodice_cpu(const T* v, const T* next_v, const T* initial_v, const T* reward,
                 const T* terminal, const T* gamma, const T* temperature, const T* max_weight,
                 T* loss, T* v_gradient, T* next_v_gradient, T* initial_v_gradient, T* weight,
                 T* statistics, int64_t members, int64_t rows, int64_t initial_rows,
                 int64_t divergence, int64_t absorbing, int64_t normalizes) {
  const SmodiceArguments<T> arguments{
      v,          next_v, initial_v,    reward,          terminal,           gamma,     temperature,
      max_weight, loss,   v_gradient,   next_v_gradient, initial_v_gradient, weight,    statistics,
      members,    rows,   initial_rows, divergence,      absorbing,          normalizes};
  each_member(members, rows,
              [=](int64_t member) { smodice_member(SerialTeam(), arguments, member); });
}

template <typename T>
void dilo_cpu(const T* v, const T* next_v, const T* terminal, const T* gamma, const T* beta,
              const T* residual_share, const T* inverse_temperature, const T* max_weight, T* loss,
              T* v_gradient, T* next_v_gradient, T* weight, T* statistics, int64_t members,
              int64_t rows, int64_t expert_rows) {
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
  each_member(members, rows, [=](int64_t member) { dilo_member(SerialTeam(), arguments, member); });
}

template decltype(smodice_cpu<float>) smodice_cpu<float>;
template decltype(smodice_cpu<double>) smodice_cpu<double>;
template decltype(dilo_cpu<float>) dilo_cpu<float>;
template decltype(dilo_cpu<double>) dilo_cpu<double>;

}  // namespace FASTIFO_ISA
}  // namespace fastifo

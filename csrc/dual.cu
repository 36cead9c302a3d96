// Dual value losses on the GPU. SMODICE reads each input once and keeps delta and exp(delta) in the
// outputs between its passes, where the caches hold them; DILO is one pass. Latency, not memory
// speed, is the floor. One block takes one member with a grid stride, its threads the rows, so that
// a thread reads back only what it wrote itself. Sums are carried in double.
#include <algorithm>
#include <cfloat>

#include "common/reduce.cuh"
#include "dual.h"

namespace fastifo {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 20;
constexpr int64_t kStatisticsSize = 4;

// As in the header, but for one member where `of` made it.
template <typename T>
struct Smodice {
  const T *v, *next_v, *initial_v, *reward, *terminal, *gamma, *max_weight;
  T *loss, *v_gradient, *next_v_gradient, *initial_v_gradient, *weight, *statistics;
  int64_t rows, initial_rows;
  bool kl, absorbing, normalizes;

  __device__ Smodice of(int64_t member) const {
    Smodice own = *this;
    const int64_t at = member * rows, initial = member * initial_rows;
    own.v += at, own.next_v += at, own.reward += at, own.terminal += at;
    own.v_gradient += at, own.next_v_gradient += at, own.weight += at;
    own.initial_v += initial, own.initial_v_gradient += initial;
    own.gamma += member, own.max_weight += member, own.loss += member;
    own.statistics += member * kStatisticsSize;
    return own;
  }

  __device__ T delta(int64_t i) const {
    const T going = reward[i] + *gamma * next_v[i];
    const T ending = absorbing ? reward[i] / (T(1) - *gamma) : reward[i];
    return (terminal[i] > T(0) ? ending : going) - v[i];
  }
};

// What the last pass over a member's rows needs of the passes before it.
struct Dual {
  double cost;        // the loss but for the initial values
  double slope_mean;  // KL: the mean of exp(delta - largest)
  double divisor;     // chi2: of the weights
};

// Keeps delta in the weights and exp(delta - largest) in the gradient.
template <typename T>
__device__ Dual kl_cost(const Smodice<T>& s) {
  T largest = static_cast<T>(-INFINITY);
  for (int64_t i = threadIdx.x; i < s.rows; i += kThreads) {
    const T delta = s.delta(i);
    s.weight[i] = delta;
    largest = fmax(largest, delta);
  }
  largest = block_max<kThreads>(largest);
  if (!isfinite(largest)) largest = T(0);  // then infinities and NaN go their own way
  double sum[1] = {};
  for (int64_t i = threadIdx.x; i < s.rows; i += kThreads) {
    const T normal = exp(s.weight[i] - largest);
    s.v_gradient[i] = normal;
    sum[0] += static_cast<double>(normal);
  }
  block_sum<kThreads>(sum);
  const double mean = sum[0] / static_cast<double>(s.rows);
  return {static_cast<double>(largest) + log(mean), mean, 1.0};
}

template <typename T>
__device__ __forceinline__ T chi2_weight(T delta) {
  const T weight = delta + T(1);
  return weight < T(0) ? T(0) : weight;  // a NaN stays
}

// Keeps delta in the weights.
template <typename T>
__device__ Dual chi2_cost(const Smodice<T>& s) {
  double sum[2] = {};  // cost, weight
  for (int64_t i = threadIdx.x; i < s.rows; i += kThreads) {
    const T delta = s.delta(i);
    s.weight[i] = delta;
    const double d = static_cast<double>(delta);
    sum[0] += d + 0.5 * d * d;
    sum[1] += static_cast<double>(chi2_weight(delta));
  }
  block_sum<kThreads>(sum);
  const double mean = sum[1] / static_cast<double>(s.rows);
  const double tiny = sizeof(T) == sizeof(float) ? FLT_MIN : DBL_MIN;
  return {sum[0] / static_cast<double>(s.rows), 1.0,
          !s.normalizes ? 1.0 : (mean < tiny ? tiny : mean)};
}

// Gradients and weights from delta, and the sums of the statistics.
template <typename T>
__device__ void finish_rows(const Smodice<T>& s, const Dual& dual, double* sum) {
  const T cap = *s.max_weight, log_cap = log(cap), gamma = *s.gamma;
  const T log_mean = s.normalizes ? static_cast<T>(dual.cost) : T(0);
  const T divisor = static_cast<T>(dual.divisor), centre = s.delta(0);
  for (int64_t i = threadIdx.x; i < s.rows; i += kThreads) {
    const T delta = s.weight[i];
    const T slope = s.kl ? static_cast<T>(s.v_gradient[i] / dual.slope_mean) : delta + T(1);
    const T share = slope / static_cast<T>(s.rows);
    s.v_gradient[i] = -share;
    s.next_v_gradient[i] = s.terminal[i] > T(0) ? T(0) : gamma * share;
    T weight;
    bool capped;
    if (s.kl) {
      capped = delta - log_mean >= log_cap;
      weight = capped_exp(delta - log_mean, log_cap, cap);
    } else {
      weight = chi2_weight(delta) / divisor;
      capped = weight >= cap;
      if (capped) weight = cap;
    }
    s.weight[i] = weight;
    log_row(delta, centre, weight, capped, sum);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    smodice_kernel(const Smodice<T> arguments, int64_t members) {
  for (int64_t member = blockIdx.x; member < members; member += gridDim.x) {
    const Smodice<T> s = arguments.of(member);
    const Dual dual = s.kl ? kl_cost(s) : chi2_cost(s);
    double sum[kLogged + 1] = {};  // the last is of the initial values
    finish_rows(s, dual, sum);
    const T initial_share = (T(1) - *s.gamma) / static_cast<T>(s.initial_rows);
    for (int64_t i = threadIdx.x; i < s.initial_rows; i += kThreads) {
      sum[kLogged] += static_cast<double>(s.initial_v[i]);
      s.initial_v_gradient[i] = initial_share;
    }
    block_sum<kThreads>(sum);
    if (threadIdx.x == 0) {
      *s.loss = static_cast<T>(sum[kLogged] * static_cast<double>(initial_share) + dual.cost);
      write_statistics(sum, s.rows, s.statistics);
    }
  }
}

// As in the header.
template <typename T>
struct Dilo {
  const T *v, *next_v, *terminal;
  const T *gamma, *beta, *residual_share, *inverse_temperature, *max_weight;
  T *loss, *v_gradient, *next_v_gradient, *weight, *statistics;
  int64_t members, rows, expert_rows;

  __device__ T y(int64_t member, int64_t at) const {
    return gamma[member] * (T(1) - terminal[at]) * next_v[at] - v[at];
  }
};

template <typename T>
__global__ void __launch_bounds__(kThreads) dilo_kernel(const Dilo<T> a) {
  const int64_t own = a.rows - a.expert_rows;  // the background's
  for (int64_t member = blockIdx.x; member < a.members; member += gridDim.x) {
    const T share = a.residual_share[member], beta = a.beta[member], gamma = a.gamma[member];
    const T expert_scale = share * beta / static_cast<T>(a.expert_rows);
    const T own_scale = share * (T(1) - beta) / static_cast<T>(own);
    const T linear = (T(1) - share) / static_cast<T>(own);
    const T cap = a.max_weight[member], log_cap = log(cap);
    const T centre = a.y(member, member * a.rows + a.expert_rows);
    double sum[kLogged + 3] = {};  // then f(y) of the expert, f(y) - y and v of the background
    for (int64_t i = threadIdx.x; i < a.rows; i += kThreads) {
      const int64_t at = member * a.rows + i;
      const bool expert = i < a.expert_rows;
      const T y = a.y(member, at), v = a.v[at];
      const T raw = T(0.5) * y + T(1);
      const T w = raw < T(0) ? T(0) : raw;  // f'(y); a NaN stays
      const T conjugate = y * w - (w - T(1)) * (w - T(1));
      const T slope = expert ? expert_scale * w : own_scale * (w - T(1));
      a.v_gradient[at] = (expert ? T(0) : linear) - slope;
      a.next_v_gradient[at] = gamma * (T(1) - a.terminal[at]) * slope;
      if (expert) {
        sum[kLogged] += static_cast<double>(conjugate);
        continue;
      }
      sum[kLogged + 1] += static_cast<double>(conjugate - y);
      sum[kLogged + 2] += static_cast<double>(v);
      const T exponent = a.inverse_temperature[member] * v;
      const T weight = capped_exp(exponent, log_cap, cap);
      a.weight[member * own + i - a.expert_rows] = weight;
      log_row(y, centre, weight, exponent >= log_cap, sum);
    }
    block_sum<kThreads>(sum);
    if (threadIdx.x == 0) {
      a.loss[member] = static_cast<T>(sum[kLogged] * static_cast<double>(expert_scale) +
                                      sum[kLogged + 1] * static_cast<double>(own_scale) +
                                      sum[kLogged + 2] * static_cast<double>(linear));
      write_statistics(sum, own, a.statistics + member * kStatisticsSize);
    }
  }
}

}  // namespace

template <typename T>
void smodice_cuda(const T* v, const T* next_v, const T* initial_v, const T* reward,
                  const T* terminal, const T* gamma, const T* max_weight, T* loss, T* v_gradient,
                  T* next_v_gradient, T* initial_v_gradient, T* weight, T* statistics,
                  int64_t members, int64_t rows, int64_t initial_rows, int64_t divergence,
                  int64_t absorbing, int64_t normalizes, cudaStream_t stream) {
  FASTIFO_CHECK(rows >= 1 && initial_rows >= 1, "v: expected at least one row and one start, found "
                                                    << rows << " and " << initial_rows);
  FASTIFO_CHECK(divergence == kKL || divergence == kChi2,
                "divergence: expected 0 (kl) or 1 (chi2), found " << divergence);
  if (members <= 0) return;  // a launch of zero blocks is an error
  const Smodice<T> arguments{v,
                             next_v,
                             initial_v,
                             reward,
                             terminal,
                             gamma,
                             max_weight,
                             loss,
                             v_gradient,
                             next_v_gradient,
                             initial_v_gradient,
                             weight,
                             statistics,
                             rows,
                             initial_rows,
                             divergence == kKL,
                             absorbing != 0,
                             normalizes != 0};
  const auto blocks = static_cast<unsigned>(std::min(members, kMaxBlocks));
  smodice_kernel<<<blocks, kThreads, 0, stream>>>(arguments, members);
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
  const Dilo<T> arguments{v,
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
  const auto blocks = static_cast<unsigned>(std::min(members, kMaxBlocks));
  dilo_kernel<<<blocks, kThreads, 0, stream>>>(arguments);
  check_launch("dilo");
}

#define FASTIFO_INSTANTIATE(T)                                                                     \
  template void smodice_cuda(const T*, const T*, const T*, const T*, const T*, const T*, const T*, \
                             T*, T*, T*, T*, T*, T*, int64_t, int64_t, int64_t, int64_t, int64_t,  \
                             int64_t, cudaStream_t);                                               \
  template void dilo_cuda(const T*, const T*, const T*, const T*, const T*, const T*, const T*,    \
                          const T*, T*, T*, T*, T*, T*, int64_t, int64_t, int64_t, cudaStream_t)
FASTIFO_INSTANTIATE(float);
FASTIFO_INSTANTIATE(double);

}  // namespace fastifo

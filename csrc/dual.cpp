// Dual value losses on the CPU: each value is read once, sums are carried in double in a fixed
// order. Threads take members.
#include "dual.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/parallel.h"
#include "common/weights.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

constexpr int64_t kRowsPerThread = 1 << 15;
constexpr int64_t kStatisticsSize = 4;

// log mean exp(delta), and normal = exp(delta) over its mean: the softmax times the rows.
template <typename T>
FASTIFO_INLINE double log_mean_exp(const T* delta, int64_t rows, T* normal) {
  T largest = -std::numeric_limits<T>::infinity();
  for (int64_t i = 0; i < rows; ++i) largest = delta[i] > largest ? delta[i] : largest;
  if (!std::isfinite(largest)) largest = T(0);  // then infinities and NaN go their own way
  for (int64_t i = 0; i < rows; i += kLanes<T>) {
    const int64_t left = std::min<int64_t>(kLanes<T>, rows - i);
    store_some(normal + i, exp(load_some(delta + i, left) - largest), left);
  }
  double sum = 0.0;
  for (int64_t i = 0; i < rows; ++i) sum += static_cast<double>(normal[i]);
  const double mean = sum / static_cast<double>(rows);
  for (int64_t i = 0; i < rows; ++i) normal[i] = static_cast<T>(normal[i] / mean);
  return static_cast<double>(largest) + std::log(mean);
}

// Weights of KL from delta, or over their mean; returns how many reached the cap.
template <typename T>
FASTIFO_INLINE int64_t kl_weights(std::vector<T>& delta, double log_mean, bool normalizes, T cap,
                                  T* weight) {
  const int64_t rows = static_cast<int64_t>(delta.size());
  if (!normalizes) return capped_exp(delta.data(), rows, cap, weight);
  std::vector<T> exponent(delta.size());
  for (size_t i = 0; i < delta.size(); ++i) exponent[i] = delta[i] - static_cast<T>(log_mean);
  return capped_exp(exponent.data(), rows, cap, weight);
}

// The same of chi2: max(0, delta + 1).
template <typename T>
FASTIFO_INLINE int64_t chi2_weights(const std::vector<T>& delta, bool normalizes, T cap,
                                    T* weight) {
  double sum = 0.0;
  for (size_t i = 0; i < delta.size(); ++i) {
    const T raw = delta[i] + T(1);
    weight[i] = raw < T(0) ? T(0) : raw;  // a NaN stays
    sum += static_cast<double>(weight[i]);
  }
  const T mean = static_cast<T>(sum / static_cast<double>(delta.size()));
  const T tiny = std::numeric_limits<T>::min();
  const T divisor = !normalizes ? T(1) : mean < tiny ? tiny : mean;
  int64_t capped = 0;
  for (size_t i = 0; i < delta.size(); ++i) {
    const T value = weight[i] / divisor;
    capped += value >= cap;
    weight[i] = value >= cap ? cap : value;
  }
  return capped;
}

}  // namespace

template <typename T>
void smodice_cpu(const T* v, const T* next_v, const T* initial_v, const T* reward,
                 const T* terminal, const T* gamma, const T* max_weight, T* loss, T* v_gradient,
                 T* next_v_gradient, T* initial_v_gradient, T* weight, T* statistics,
                 int64_t members, int64_t rows, int64_t initial_rows, int64_t divergence,
                 int64_t absorbing, int64_t normalizes) {
  const int64_t grain = std::max<int64_t>(1, kRowsPerThread / std::max<int64_t>(1, rows));
  parallel_for(members, grain, [=](int64_t begin, int64_t end) {
    std::vector<T> delta(static_cast<size_t>(rows)), slope(delta.size());
    for (int64_t m = begin; m < end; ++m) {
      const int64_t at = m * rows;
      const T final_factor = absorbing ? T(1) / (T(1) - gamma[m]) : T(1);
      for (int64_t i = 0; i < rows; ++i) {
        const T y = terminal[at + i] > T(0) ? reward[at + i] * final_factor
                                            : reward[at + i] + gamma[m] * next_v[at + i];
        delta[static_cast<size_t>(i)] = y - v[at + i];
      }

      // slope[i] = rows * d cost / d delta[i]
      double cost = 0.0;
      int64_t capped = 0;
      if (divergence == kKL) {
        cost = log_mean_exp(delta.data(), rows, slope.data());
        capped = kl_weights(delta, cost, normalizes != 0, max_weight[m], weight + at);
      } else {
        for (size_t i = 0; i < delta.size(); ++i) {
          const double d = static_cast<double>(delta[i]);
          cost += (d + 0.5 * d * d) / static_cast<double>(rows);
          slope[i] = delta[i] + T(1);
        }
        capped = chi2_weights(delta, normalizes != 0, max_weight[m], weight + at);
      }
      for (int64_t i = 0; i < rows; ++i) {
        const T share = slope[static_cast<size_t>(i)] / static_cast<T>(rows);
        v_gradient[at + i] = -share;
        next_v_gradient[at + i] = terminal[at + i] > T(0) ? T(0) : gamma[m] * share;
      }

      double initial = 0.0;
      const T initial_share = (T(1) - gamma[m]) / static_cast<T>(initial_rows);
      for (int64_t i = m * initial_rows; i < (m + 1) * initial_rows; ++i) {
        initial += static_cast<double>(initial_v[i]);
        initial_v_gradient[i] = initial_share;
      }
      loss[m] = static_cast<T>(initial * static_cast<double>(initial_share) + cost);
      describe(delta.data(), weight + at, rows, capped, statistics + m * kStatisticsSize);
    }
  });
}

template <typename T>
void dilo_cpu(const T* v, const T* next_v, const T* terminal, const T* gamma, const T* beta,
              const T* residual_share, const T* inverse_temperature, const T* max_weight, T* loss,
              T* v_gradient, T* next_v_gradient, T* weight, T* statistics, int64_t members,
              int64_t rows, int64_t expert_rows) {
  const int64_t own = rows - expert_rows;  // the background's
  const int64_t grain = std::max<int64_t>(1, kRowsPerThread / std::max<int64_t>(1, rows));
  parallel_for(members, grain, [=](int64_t begin, int64_t end) {
    std::vector<T> y(static_cast<size_t>(rows)), exponent(static_cast<size_t>(own));
    for (int64_t m = begin; m < end; ++m) {
      const T share = residual_share[m];
      const T expert_scale = share * beta[m] / static_cast<T>(expert_rows);
      const T own_scale = share * (T(1) - beta[m]) / static_cast<T>(own);
      const T linear = (T(1) - share) / static_cast<T>(own);
      double residual[2] = {0.0, 0.0}, sum = 0.0;
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t at = m * rows + i;
        const bool expert = i < expert_rows;
        const T reach = gamma[m] * (T(1) - terminal[at]);
        const T here = reach * next_v[at] - v[at];
        const T raw = T(0.5) * here + T(1);
        const T w = raw < T(0) ? T(0) : raw;  // f'(y); a NaN stays
        const T conjugate = here * w - (w - T(1)) * (w - T(1));
        residual[expert ? 0 : 1] += static_cast<double>(expert ? conjugate : conjugate - here);
        const T slope = expert ? expert_scale * w : own_scale * (w - T(1));
        v_gradient[at] = (expert ? T(0) : linear) - slope;
        next_v_gradient[at] = reach * slope;
        y[static_cast<size_t>(i)] = here;
        if (!expert) {
          sum += static_cast<double>(v[at]);
          exponent[static_cast<size_t>(i - expert_rows)] = inverse_temperature[m] * v[at];
        }
      }
      loss[m] = static_cast<T>(residual[0] * static_cast<double>(expert_scale) +
                               residual[1] * static_cast<double>(own_scale) +
                               sum * static_cast<double>(linear));
      const int64_t capped = capped_exp(exponent.data(), own, max_weight[m], weight + m * own);
      describe(y.data() + expert_rows, weight + m * own, own, capped,
               statistics + m * kStatisticsSize);
    }
  });
}

#define FASTIFO_INSTANTIATE(T)                                                                    \
  template void smodice_cpu(const T*, const T*, const T*, const T*, const T*, const T*, const T*, \
                            T*, T*, T*, T*, T*, T*, int64_t, int64_t, int64_t, int64_t, int64_t,  \
                            int64_t);                                                             \
  template void dilo_cpu(const T*, const T*, const T*, const T*, const T*, const T*, const T*,    \
                         const T*, T*, T*, T*, T*, T*, int64_t, int64_t, int64_t)
FASTIFO_INSTANTIATE(float);
FASTIFO_INSTANTIATE(double);

}  // namespace FASTIFO_ISA
}  // namespace fastifo

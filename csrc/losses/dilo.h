// DILO's value of successive observations (fastifo/algos/dilo.py and the op `dilo`), with its true
// gradient. Source: Sikchi et al. 2024, arXiv:2406.08805, and its authors' code.
#pragma once

#include "losses/advantage.h"

namespace fastifo {

template <typename Real>
struct DILO {
  static constexpr const char* kName = "dilo";
  static constexpr const char* kMetrics[] = {
      "value_loss",    "policy_loss",  "value_mean_expert", "value_mean_background",
      "residual_mean", "residual_std", "weight_mean",       "clip_fraction"};

  struct Config {
    Real gamma, beta, residual_share, inverse_temperature, max_weight;
  };
  Config config;

  // The rows of one source: a pair (s, s') and the pair after it.
  struct Source {
    int64_t rows;
    const Real *v, *next_v;              // [rows] V(s, s') and V(s', s'')
    Real *v_gradient, *next_v_gradient;  // [rows]
  };

  template <typename Numbers>
  DILO(const Numbers& plan, int64_t member)
      : config{static_cast<Real>(plan.number("gamma", member)),
               static_cast<Real>(plan.number("beta", member)),
               static_cast<Real>(plan.number("residual_share", member)),
               static_cast<Real>(plan.number("inverse_temperature", member)),
               static_cast<Real>(plan.number("max_weight", member))} {
    if (config.residual_share < Real(0)) {  // the paper's
      config.residual_share = Real(1) / (Real(1) + config.beta * (Real(1) - config.gamma));
    }
  }

  // Sources: expert, background. A window of three observations has no terminal inside.
  template <typename Team>
  FASTIFO_HOST_DEVICE void loss_and_weights(const Team& team, const BatchView<Real>& batch,
                                            const LossOutputs<Real>& out) const {
    const auto source = [&](int64_t first) {
      return Source{batch.batch, batch.output + first, batch.next_value + first,
                    out.gradient + first, out.next_gradient + first};
    };
    const auto never = [](int64_t) { return Real(0); };
    out.metrics[0] = compute_loss(team, config, source(0), source(batch.stride), never, out.weight,
                                  out.metrics + 4);
    out.metrics[2] = mean_output(team, batch, 0);
    out.metrics[3] = mean_output(team, batch, 1);
  }

  // The value's loss, with its gradients and the policy's weights on the background's rows.
  // terminal(i): 0 or 1, of the expert's rows, then of the background's. statistics: mean and
  // deviation of the background's residual, mean weight, share of rows at the cap.
  template <typename Team, typename Terminal>
  FASTIFO_HOST_DEVICE static double compute_loss(const Team& team, const Config& config,
                                                 const Source& expert, const Source& background,
                                                 const Terminal& terminal,
                                                 Real* weight,  // [background.rows]
                                                 double* statistics) {
    const Real share = config.residual_share;
    const Real expert_scale = share * config.beta / static_cast<Real>(expert.rows);
    const Real scale = share * (Real(1) - config.beta) / static_cast<Real>(background.rows);
    const Real linear = (Real(1) - share) / static_cast<Real>(background.rows);

    // y = gamma (1 - terminal) V(s', s'') - V(s, s'),  w = max(y / 2 + 1, 0) = f'(y),
    // f(y) = y w - (w - 1)^2. On the expert's rows: share beta E_E[f(y)].
    const Sums<1> on_expert = team.template sums<1>(expert.rows, [&](int64_t i) -> Sums<1> {
      const Residual y(config, expert, terminal(i), i);
      expert.v_gradient[i] = -expert_scale * y.slope;
      expert.next_v_gradient[i] = y.discount * (expert_scale * y.slope);
      return {{static_cast<double>(y.conjugate())}};
    });

    // On the background's: share (1 - beta) E_B[f(y) - y] + (1 - share) E_B[V(s, s')].
    const Sums<2> on_background = team.template sums<2>(background.rows, [&](int64_t i) -> Sums<2> {
      const Residual y(config, background, terminal(expert.rows + i), i);
      const Real slope = scale * (y.slope - Real(1));
      background.v_gradient[i] = linear - slope;
      background.next_v_gradient[i] = y.discount * slope;
      return {{static_cast<double>(y.conjugate() - y.value), static_cast<double>(background.v[i])}};
    });

    // Policy: w = min(exp(inverse_temperature V(s, s')), max_weight).
    const auto residual = [&](int64_t i) {
      return Residual(config, background, terminal(expert.rows + i), i).value;
    };
    mean_and_deviation(team, background.rows, residual, weight, statistics);
    exponential_weights(
        team, background.rows,
        [&](int64_t i) { return config.inverse_temperature * background.v[i]; }, config.max_weight,
        weight, statistics + 2);
    return static_cast<double>(expert_scale) * on_expert[0] +
           static_cast<double>(scale) * on_background[0] +
           static_cast<double>(linear) * on_background[1];
  }

 private:
  struct Residual {
    Real discount, value, slope;

    FASTIFO_HOST_DEVICE Residual(const Config& config, const Source& source, Real terminal,
                                 int64_t i)
        : discount(config.gamma * (Real(1) - terminal)),
          value(discount * source.next_v[i] - source.v[i]),
          slope(Real(0.5) * value + Real(1)) {
      if (slope < Real(0)) slope = Real(0);  // a NaN stays
    }

    FASTIFO_HOST_DEVICE Real conjugate() const {
      return value * slope - (slope - Real(1)) * (slope - Real(1));
    }
  };
};

}  // namespace fastifo

// SMODICE: the dual of matching the expert's occupancy (fastifo/algos/smodice.py and the op
// `smodice`). Source: Ma et al. 2022, arXiv:2202.02433; the chi2 conjugate is not rectified
// (authors' code). Nothing is held constant: the gradient passes through v(s), v(s') and v(s0).
// With a temperature other than 1 it is the dual of LobsDICE (lobsdice.h).
#pragma once

#include "losses/advantage.h"

namespace fastifo {

template <typename Real>
struct SMODICE {
  static constexpr const char* kName = "smodice";
  static constexpr const char* kMetrics[] = {
      "value_loss",   "policy_loss", "value_mean_background", "residual_mean",
      "residual_std", "weight_mean", "clip_fraction"};

  struct Config {
    Real gamma, temperature, max_weight;
    bool chi2;  // the divergence; else KL
    bool absorbing;
    bool normalizes;  // divides the weights by their mean
  };
  Config config;
  Real logit_clamp;

  // One member's inputs and outputs. `weight` and `v_gradient` hold intermediate results.
  struct Values {
    const Real *v, *next_v;  // [rows]
    const Real* terminal;    // [rows] 0 or 1
    const Real* initial_v;   // [initial_rows]
    int64_t rows, initial_rows;
    Real *v_gradient, *next_v_gradient;  // [rows]
    Real* initial_v_gradient;            // [initial_rows]
    Real* weight;                        // [rows]
    double* statistics;  // [4]: residual mean and deviation, mean weight, share at the cap
  };

  template <typename Numbers>
  SMODICE(const Numbers& plan, int64_t member)
      : config{static_cast<Real>(plan.number("gamma", member)),
               Real(1),
               static_cast<Real>(plan.number("max_weight", member)),
               plan.flag("chi2"),
               plan.flag("absorbing"),
               plan.flag("normalizes")},
        logit_clamp(static_cast<Real>(plan.number("logit_clamp", member))) {}

  // Sources: initial observations, background.
  template <typename Team>
  FASTIFO_HOST_DEVICE void loss_and_weights(const Team& team, const BatchView<Real>& batch,
                                            const LossOutputs<Real>& out) const {
    const int64_t first = batch.stride;  // the background's first row
    const auto reward = [&](int64_t i) { return limited(batch.reward[first + i], logit_clamp); };
    const Values values{batch.output + first,
                        batch.next_value + first,
                        batch.terminal + first,
                        batch.output,
                        batch.batch,
                        batch.batch,
                        out.gradient + first,
                        out.next_gradient + first,
                        out.gradient,
                        out.weight,
                        out.metrics + 3};
    out.metrics[0] = compute_loss(team, config, values, reward);
    out.metrics[2] = mean_output(team, batch, 1);
  }

  // The value's loss, with its gradients and the policy's weights. reward(i): the discriminator's
  // logit of row i.
  template <typename Team, typename Reward>
  FASTIFO_HOST_DEVICE static double compute_loss(const Team& team, const Config& config,
                                                 const Values& x, const Reward& reward) {
    const OneStepTarget<Real> target(config.gamma, config.absorbing);
    const Transitions transitions{x.v, x.next_v, x.terminal, reward};

    // Residual: delta = r + gamma v(s') - v(s), kept in `weight`.
    mean_and_deviation(
        team, x.rows, [&](int64_t i) { return transitions.error(target, i); }, x.weight,
        x.statistics);

    // Cost of the residuals, and rows * d cost / d delta, kept in `v_gradient`.
    const Real temperature = config.temperature;
    const double cost =
        config.chi2 ? chi2_cost(team, temperature, x) : kl_cost(team, temperature, x);

    // Gradients in v(s) and v(s').
    team.each(x.rows, [&](int64_t i) {
      const Real slope = x.v_gradient[i] / static_cast<Real>(x.rows);
      x.v_gradient[i] = -slope;
      x.next_v_gradient[i] = x.terminal[i] > Real(0) ? Real(0) : config.gamma * slope;
    });

    // Policy: w = exp(delta / temperature) or max(0, delta / temperature + 1), over the mean if
    // normalised, then the cap.
    if (config.chi2) {
      chi2_weights(team, config, x);
    } else {
      const double log_mean = config.normalizes ? cost / static_cast<double>(temperature) : 0.0;
      const Real shift = static_cast<Real>(log_mean);
      exponential_weights(
          team, x.rows, [&](int64_t i) { return x.weight[i] / temperature - shift; },
          config.max_weight, x.weight, x.statistics + 2);
    }

    // Initial states: (1 - gamma) E[v(s0)].
    const Real share = (Real(1) - config.gamma) / static_cast<Real>(x.initial_rows);
    const Sums<1> initial = team.template sums<1>(x.initial_rows, [&](int64_t i) -> Sums<1> {
      x.initial_v_gradient[i] = share;
      return {{static_cast<double>(x.initial_v[i])}};
    });
    return static_cast<double>(share) * initial[0] + cost;
  }

 private:
  // KL: temperature log E[exp(delta / temperature)], whose slope is the softmax.
  template <typename Team>
  FASTIFO_HOST_DEVICE static double kl_cost(const Team& team, Real temperature, const Values& x) {
    Real largest = team.max(x.rows, [&](int64_t i) { return x.weight[i]; });
    if (!std::isfinite(largest)) largest = Real(0);  // infinities and NaN then reach the loss
    const Sums<2> total = team.capped_exp(
        x.rows, [&](int64_t i) { return (x.weight[i] - largest) / temperature; }, kInfinity<Real>,
        x.v_gradient);
    const double mean = total[0] / static_cast<double>(x.rows);
    team.each(x.rows, [&](int64_t i) {
      x.v_gradient[i] = static_cast<Real>(static_cast<double>(x.v_gradient[i]) / mean);
    });
    return static_cast<double>(largest) + static_cast<double>(temperature) * std::log(mean);
  }

  // chi2: E[delta + delta^2 / (2 temperature)].
  template <typename Team>
  FASTIFO_HOST_DEVICE static double chi2_cost(const Team& team, Real temperature, const Values& x) {
    return mean_of(team, x.rows, [&](int64_t i) {
      const double delta = static_cast<double>(x.weight[i]);
      x.v_gradient[i] = x.weight[i] / temperature + Real(1);
      return delta + 0.5 * delta * delta / static_cast<double>(temperature);
    });
  }

  template <typename Team>
  FASTIFO_HOST_DEVICE static void chi2_weights(const Team& team, const Config& config,
                                               const Values& x) {
    const Real mean = static_cast<Real>(mean_of(team, x.rows, [&](int64_t i) {
      const Real weight = x.weight[i] / config.temperature + Real(1);
      x.weight[i] = weight < Real(0) ? Real(0) : weight;  // a NaN stays
      return x.weight[i];
    }));
    const Real divisor = !config.normalizes       ? Real(1)
                         : mean < kSmallest<Real> ? kSmallest<Real>
                                                  : mean;
    const Sums<2> totals = team.template sums<2>(x.rows, [&](int64_t i) -> Sums<2> {
      const Real weight = x.weight[i] / divisor;
      const bool capped = weight >= config.max_weight;
      x.weight[i] = capped ? config.max_weight : weight;
      return {{static_cast<double>(x.weight[i]), capped ? 1.0 : 0.0}};
    });
    x.statistics[2] = totals[0] / static_cast<double>(x.rows);
    x.statistics[3] = totals[1] / static_cast<double>(x.rows);
  }
};

}  // namespace fastifo

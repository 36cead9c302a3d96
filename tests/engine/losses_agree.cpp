// The losses of the native engine against the CPU ops, on the same random batch: a program that
// prints the first difference and returns 1. Built and run by test_losses_agree.py.
#include "losses_agree.h"

#include "losses/list.h"
#include "ops/advantage.h"
#include "ops/dual.h"

namespace {

Numbers numbers(bool absorbing) {
  return {{{"gamma", 0.97},
           {"temperature", 0.7},
           {"max_weight", 1.5},
           {"alpha", 0.3},
           {"policy_alpha", 0.5},
           {"expectile", 0.8},
           {"inverse_temperature", 3.0},
           {"beta", 0.4},
           {"residual_share", 0.6},
           {"logit_clamp", 100.0}},
          {{"absorbing", absorbing}, {"advantage_absorbing", true}}};
}

template <typename Real>
Op<Real> advantage(const Batch<Real>& batch, const Numbers& plan, int64_t policy_sources,
                   bool online, const std::vector<Real>& reward, const std::vector<Real>& share) {
  const auto all = [&](const std::vector<Real>& column) {
    return batch.dense(column, 0, batch.sources);
  };
  const auto v = all(batch.output), next_v = all(batch.next_value), terminal = all(batch.terminal);
  const auto policy_next_v = batch.dense(batch.online_next_value, 0, policy_sources);
  const Real gamma = Real(plan.number("gamma", 0)),
             temperature = Real(plan.number("temperature", 0));
  const Real max_weight = Real(plan.number("max_weight", 0));
  const int64_t rows = batch.sources * batch.batch, policy_rows = policy_sources * batch.batch;
  Op<Real> out;
  out.gradient.resize(rows);
  out.weight.resize(policy_rows);
  const bool absorbing = plan.flag("absorbing");
  advantage_cpu<Real>(v.data(), next_v.data(), online ? policy_next_v.data() : nullptr,
                      reward.data(), terminal.data(), share.data(), &gamma, &temperature,
                      &max_weight, nullptr, out.loss.data(), out.gradient.data(), out.weight.data(),
                      out.statistics.data(), 1, rows, reward.size(), share.size(), policy_rows,
                      absorbing, absorbing);
  return out;
}

template <typename Real>
void compare(const std::string& what, const Batch<Real>& batch, const Results<Real>& results,
             const Op<Real>& op, int64_t policy_sources, int metric) {
  expect_same(what + " gradient", batch.dense(results.gradient, 0, batch.sources), op.gradient);
  expect_same(what + " weight", batch.dense(results.weight, 0, policy_sources), op.weight);
  expect_close(what + " loss", results.metrics, op.loss);
  expect_close(what + " statistics", results.metrics + metric, op.statistics);
}

template <typename Real>
void advantage_methods(int64_t rows, bool absorbing, bool online) {
  const Numbers plan = numbers(absorbing);
  const Real alpha = Real(0.3);
  const std::string name = "rows " + std::to_string(rows) + (online ? " online " : " ");
  const Batch<Real> one(1, rows, 1), two(2, rows, 2);
  compare(name + "awr", one, engine<Real>(AWR<Real>(plan, 0), one, online, true, false),
          advantage<Real>(one, plan, 1, online, one.dense(one.reward, 0, 1), {1}), 1, 3);
  compare(name + "vfo_bin", two, engine<Real>(VfO<Real>(plan, 0), two, online, false, false),
          advantage<Real>(two, plan, 1, online, {1, 0}, {Real(1) - alpha, alpha}), 1, 4);
  const std::vector<Real> reward = two.dense(two.reward, 0, 2);
  compare(name + "vfo_disc", two, engine<Real>(VfO<Real>(plan, 0), two, online, true, false),
          advantage<Real>(two, plan, 1, online, reward, {Real(1) - alpha, alpha}), 1, 4);
  compare(name + "sqil", two, engine<Real>(SQIL<Real>(plan, 0), two, online, false, false),
          advantage<Real>(two, plan, 2, online, {1, 0}, {Real(1) - alpha, alpha}), 2, 4);

  std::vector<Real> share;
  for (const bool background : {false, true}) {
    for (int64_t i = 0; i < rows; ++i) {
      share.push_back(((two.uniform[i] < alpha) == background ? Real(1) : Real(0)) / Real(rows));
    }
  }
  const auto mixed = engine<Real>(VfO<Real>(plan, 0), two, online, true, true);
  const auto op = advantage<Real>(two, plan, 1, online, reward, share);
  expect_same(name + "vfo mixed", two.dense(mixed.gradient, 0, 2), op.gradient);
  expect_close(name + "vfo mixed loss", mixed.metrics, op.loss);
}

template <typename Real>
void iql(int64_t rows, bool absorbing) {
  const Numbers plan = numbers(absorbing);
  const Batch<Real> batch(1, rows, 3);
  const IQL<Real> loss(plan, 0);
  Results<Real> value(rows), critic(rows);
  const std::vector<Real>&v = batch.output, &first = batch.next_value, &second = batch.reward;
  loss.loss_and_weights(SerialTeam(), rows, v.data(), first.data(), second.data(),
                        value.gradient.data(), value.weight.data(), value.metrics);
  critic.metrics[0] = loss.critic_loss(SerialTeam(), rows, v.data(), first.data(), second.data(),
                                       batch.terminal.data(), critic.gradient.data());

  std::vector<Real> q(rows), zero(rows);
  for (int64_t i = 0; i < rows; ++i) q[i] = std::min(first[i], second[i]);
  const Real one = 1, none = 0, temperature = Real(1) / Real(3), cap = Real(1.5);
  const Real expectile = Real(0.8), gamma = Real(0.97), half = Real(0.5);
  Op<Real> op, half_op;
  op.gradient.resize(rows), op.weight.resize(rows), half_op.gradient.resize(rows);
  advantage_cpu<Real>(v.data(), zero.data(), nullptr, q.data(), zero.data(), &one, &none,
                      &temperature, &cap, &expectile, op.loss.data(), op.gradient.data(),
                      op.weight.data(), op.statistics.data(), 1, rows, rows, 1, rows, 0, 0);
  compare("iql value", batch, value, op, 1, IQL<Real>::kAdvantageMean);
  advantage_cpu<Real>(v.data(), first.data(), nullptr, second.data(), batch.terminal.data(), &half,
                      &gamma, &temperature, &cap, nullptr, half_op.loss.data(),
                      half_op.gradient.data(), nullptr, half_op.statistics.data(), 1, rows, rows, 1,
                      0, absorbing, 0);
  expect_same("iql critic", batch.dense(critic.gradient, 0, 1), half_op.gradient);
  expect_close("iql critic loss", critic.metrics, half_op.loss);
}

// SMODICE, or at another temperature LobsDICE, which is KL and normalises.
template <typename Real>
void smodice(int64_t rows, bool absorbing, bool chi2, bool normalizes, Real temperature) {
  Numbers plan = numbers(absorbing);
  plan.flags["chi2"] = chi2, plan.flags["normalizes"] = normalizes;
  plan.numbers["kl_weight"] = static_cast<double>(temperature) - 1.0;
  const Batch<Real> batch(2, rows, 4);
  const auto results = temperature == Real(1)
                           ? engine<Real>(SMODICE<Real>(plan, 0), batch, false, true, false)
                           : engine<Real>(LobsDICE<Real>(plan, 0), batch, false, true, false);
  const auto background = [&](const std::vector<Real>& x) { return batch.dense(x, 1, 1); };
  const auto initial_v = batch.dense(batch.output, 0, 1);
  const Real gamma = Real(0.97), cap = Real(1.5);
  Op<Real> op;
  for (auto* rows_of : {&op.gradient, &op.next_gradient, &op.initial_gradient, &op.weight}) {
    rows_of->resize(rows);
  }
  smodice_cpu<Real>(background(batch.output).data(), background(batch.next_value).data(),
                    initial_v.data(), background(batch.reward).data(),
                    background(batch.terminal).data(), &gamma, &temperature, &cap, op.loss.data(),
                    op.gradient.data(), op.next_gradient.data(), op.initial_gradient.data(),
                    op.weight.data(), op.statistics.data(), 1, rows, rows, chi2 ? kChi2 : kKL,
                    absorbing, normalizes);
  const std::string name = temperature != Real(1) ? "lobsdice"
                           : chi2                 ? "smodice chi2"
                                                  : "smodice kl";
  expect_same(name + " gradient", background(results.gradient), op.gradient);
  expect_same(name + " next", background(results.next_gradient), op.next_gradient);
  expect_same(name + " initial", batch.dense(results.gradient, 0, 1), op.initial_gradient);
  expect_same(name + " weight", batch.dense(results.weight, 0, 1), op.weight);
  expect_close(name + " loss", results.metrics, op.loss);
  expect_close(name + " statistics", results.metrics + 3, op.statistics);
}

Numbers pw_dice_numbers() {
  Numbers plan = numbers(false);
  plan.numbers.insert({{"coupling_temperature", 0.3}, {"distance_scale", 5.0}});
  plan.numbers.insert({"ratio_scale", 0.8});
  return plan;
}

// Its flow is SMODICE's dual for V = -lambda and R = -u_1.
template <typename Real>
void pw_dice(int64_t rows) {
  using Loss = PWDICE<Real>;
  const Batch<Real> batch(4, rows, 7, Loss::kOutputs);
  const Numbers plan = pw_dice_numbers();
  const auto results = engine<Real>(Loss(plan, 0), batch, false, true, false);
  const auto values = [&](const std::vector<Real>& x, int64_t output, int64_t source) {
    return batch.dense(x, output * batch.sources + source, 1);
  };
  const auto negative = [&](const std::vector<Real>& x, int64_t output, int64_t source) {
    std::vector<Real> column = values(x, output, source);
    for (Real& value : column) value = -value;
    return column;
  };
  const auto v = negative(batch.output, 0, Loss::kPolicy);
  const auto next_v = negative(batch.next_value, 0, Loss::kPolicy);
  const auto initial_v = negative(batch.output, 0, Loss::kInitial);
  const auto reward = negative(batch.output, 1, Loss::kPolicy);
  const auto terminal = batch.dense(batch.terminal, Loss::kPolicy, 1);
  const Real gamma = Real(0.97), temperature = Real(0.7), cap = Real(1.5);
  Op<Real> op;
  for (auto* rows_of : {&op.gradient, &op.next_gradient, &op.initial_gradient, &op.weight}) {
    rows_of->resize(rows);
  }
  smodice_cpu<Real>(v.data(), next_v.data(), initial_v.data(), reward.data(), terminal.data(),
                    &gamma, &temperature, &cap, op.loss.data(), op.gradient.data(),
                    op.next_gradient.data(), op.initial_gradient.data(), op.weight.data(),
                    op.statistics.data(), 1, rows, rows, kKL, 0, 1);
  expect_same("pw_dice lambda", negative(results.gradient, 0, Loss::kPolicy), op.gradient);
  expect_same("pw_dice u_1", values(results.gradient, 1, Loss::kPolicy), op.gradient);
  expect_same("pw_dice next", negative(results.next_gradient, 0, Loss::kPolicy), op.next_gradient);
  expect_same("pw_dice initial", negative(results.gradient, 0, Loss::kInitial),
              op.initial_gradient);
  expect_same("pw_dice weight", batch.dense(results.weight, 0, 1), op.weight);
  expect_close("pw_dice statistics", results.metrics + 3, op.statistics);

  const std::vector<Real> none(rows, Real(0));
  for (const int64_t output : {0, 1, 2}) {
    for (const int64_t source : {0, 1, 2, 3}) {
      const bool has_gradient = output == 0   ? source == Loss::kInitial || source == Loss::kPolicy
                                : output == 1 ? source >= Loss::kBackground
                                              : source == Loss::kExpert;
      if (has_gradient) continue;
      expect_same("pw_dice without gradient", values(results.gradient, output, source), none);
    }
    if (output == 0) continue;
    expect_same("pw_dice next without gradient",
                values(results.next_gradient, output, Loss::kPolicy), none);
  }
}

// Exponents of 1e4 do not overflow; a NaN in one row and a distance of infinity reach the loss.
void pw_dice_at_its_limits() {
  const auto loss_of = [](const auto& change) {
    Batch<float> batch(4, 7, 8, PWDICE<float>::kOutputs);
    change(batch);
    const auto results =
        engine<float>(PWDICE<float>(pw_dice_numbers(), 0), batch, false, true, false);
    return results.metrics[0];
  };
  const double usual = loss_of([](Batch<float>&) {});
  const auto first = [](Batch<float>& batch, int64_t output, int64_t source) {
    return batch.output.begin() + (output * batch.sources + source) * batch.stride;
  };
  const double shifted = loss_of([&](Batch<float>& batch) {
    for (int64_t i = 0; i < batch.batch; ++i) {
      *(first(batch, 1, PWDICE<float>::kBackground) + i) += 3000.0f;
    }
  });
  const double with_nan = loss_of(
      [](Batch<float>& batch) { batch.reward[PWDICE<float>::kBackground * batch.stride] = NAN; });
  const double far = loss_of([](Batch<float>& batch) {
    std::fill(batch.distance.begin(), batch.distance.end(), kInfinity<float>);
  });
  if (std::fabs(shifted - usual - 3000.0) < 1e-2 && std::isnan(with_nan) && !std::isfinite(far)) {
    return;
  }
  std::printf("pw_dice: %g, with u_1 + 3000 %g, with a NaN %g, far away %g\n", usual, shifted,
              with_nan, far);
  ++failures;
}

template <typename Real>
void dilo(int64_t rows) {
  const Numbers plan = numbers(false);
  const Batch<Real> batch(2, rows, 5);
  const auto results = engine<Real>(DILO<Real>(plan, 0), batch, false, false, false);
  const auto v = batch.dense(batch.output, 0, 2), next_v = batch.dense(batch.next_value, 0, 2);
  const std::vector<Real> terminal(2 * rows);
  const Real gamma = Real(0.97), beta = Real(0.4), share = Real(0.6), cap = Real(1.5);
  const Real inverse_temperature = Real(3);
  Op<Real> op;
  op.gradient.resize(2 * rows), op.next_gradient.resize(2 * rows), op.weight.resize(rows);
  dilo_cpu<Real>(v.data(), next_v.data(), terminal.data(), &gamma, &beta, &share,
                 &inverse_temperature, &cap, op.loss.data(), op.gradient.data(),
                 op.next_gradient.data(), op.weight.data(), op.statistics.data(), 1, 2 * rows,
                 rows);
  compare("dilo", batch, results, op, 1, 4);
  expect_same("dilo next", batch.dense(results.next_gradient, 0, 2), op.next_gradient);
}

// The share of rows at the cap counts exponents, not weights: just below the cap's logarithm the
// exponential may round up to the cap.
void smodice_at_the_cap() {
  for (int k = 0; k < 200; ++k) {
    Numbers plan = numbers(false);
    const float cap = 1.5f + 0.01f * static_cast<float>(k), log_cap = std::log(cap);
    plan.numbers["gamma"] = 0.0;
    plan.numbers["max_weight"] = cap;
    Batch<float> batch(2, 4, 6);
    std::fill(batch.output.begin(), batch.output.end(), 0.0f);
    std::fill(batch.terminal.begin(), batch.terminal.end(), 0.0f);
    const float delta[] = {log_cap, std::nextafter(log_cap, 0.0f), 2.0f, -1.0f};
    std::copy(delta, delta + 4, batch.reward.begin() + batch.stride);
    const auto results = engine<float>(SMODICE<float>(plan, 0), batch, false, true, false);
    if (results.metrics[6] == 0.5 && results.weight[0] == cap && results.weight[2] == cap) continue;
    std::printf("smodice at the cap %.9g: share %g, weights %.9g and %.9g\n", double(cap),
                results.metrics[6], double(results.weight[0]), double(results.weight[2]));
    ++failures;
  }
}

template <typename Real>
void all() {
  for (const int64_t rows : {1, 7, 33, 256}) {
    for (const bool absorbing : {false, true}) {
      for (const bool online : {false, true}) advantage_methods<Real>(rows, absorbing, online);
      iql<Real>(rows, absorbing);
      for (const bool chi2 : {false, true}) {
        for (const bool normalizes : {false, true}) {
          smodice<Real>(rows, absorbing, chi2, normalizes, Real(1));
        }
      }
      smodice<Real>(rows, absorbing, false, true, Real(1.5));
    }
    pw_dice<Real>(rows);
    dilo<Real>(rows);
  }
}

}  // namespace

int main() {
  all<float>();
  all<double>();
  smodice_at_the_cap();
  pw_dice_at_its_limits();
  return failures == 0 ? 0 : 1;
}

// Every batch loss of losses/list.h, computed by a block of threads and by one CPU thread.
#include <algorithm>
#include <cmath>
#include <sstream>
#include <stdexcept>

#include "common/check.h"
#include "engine/losses_agree.h"
#include "losses/block_team.cuh"
#include "losses/list.h"

namespace {

constexpr int kThreads = 64;  // fewer than the most rows

template <typename Loss, typename Real>
__global__ void loss_kernel(const Loss loss, BatchView<Real> batch, LossOutputs<Real> out) {
  double metrics[16] = {};
  const BlockTeam<kThreads> team;
  loss.loss_and_weights(team, batch, {out.gradient, out.next_gradient, out.weight, metrics});
  for (int i = 0; team.leads() && i < 16; ++i) out.metrics[i] = metrics[i];
}

// The value's and a critic's loss of IQL; the critic's gradient is in `next_gradient`.
template <typename Team, typename Loss, typename Real>
FASTIFO_HOST_DEVICE void critics(const Team& team, const Loss& loss, const BatchView<Real>& batch,
                                 const LossOutputs<Real>& out) {
  loss.loss_and_weights(team, batch.batch, batch.output, batch.next_value, batch.reward,
                        out.gradient, out.weight, out.metrics);
  out.metrics[Loss::kCriticLoss] =
      loss.critic_loss(team, batch.batch, batch.output, batch.next_value, batch.reward,
                       batch.terminal, out.next_gradient);
}

// A critic's and the policy's loss of ReBRAC; the policy's gradient is in `next_gradient`.
template <typename Team, typename Real>
FASTIFO_HOST_DEVICE void critics(const Team& team, const ReBRAC<Real>& loss,
                                 const BatchView<Real>& batch, const LossOutputs<Real>& out) {
  out.metrics[ReBRAC<Real>::kCriticLoss] =
      loss.critic_loss(team, batch.batch, batch.output, batch.next_value, batch.output,
                       batch.terminal, batch.reward, batch.terminal, out.weight, out.gradient);
  out.metrics[ReBRAC<Real>::kPolicyLoss] = loss.policy_loss(
      team, batch.batch, batch.output, batch.next_value, batch.terminal, out.next_gradient);
}

template <typename Loss, typename Real>
__global__ void critics_kernel(const Loss loss, BatchView<Real> batch, LossOutputs<Real> out) {
  double metrics[16] = {};
  critics(BlockTeam<kThreads>(), loss, batch,
          {out.gradient, out.next_gradient, out.weight, metrics});
  for (int i = 0; threadIdx.x == 0 && i < 16; ++i) out.metrics[i] = metrics[i];
}

template <typename Real>
LossOutputs<Real> outputs_of(Results<Real>& results) {
  return {results.gradient.data(), results.next_gradient.data(), results.weight.data(),
          results.metrics};
}

template <typename Real>
void expect_near(const std::string& what, const Real* block, const Real* thread, size_t count,
                 double relative) {
  for (size_t i = 0; i < count; ++i) {
    const double bound = relative * (0.1 + std::fabs(static_cast<double>(thread[i])));
    if (std::fabs(static_cast<double>(block[i]) - static_cast<double>(thread[i])) <= bound)
      continue;
    std::ostringstream text;
    text.precision(17);
    text << what << "[" << i << "]: " << block[i] << " by a block, " << thread[i] << " by a thread";
    throw std::runtime_error(text.str());
  }
}

template <typename Loss, typename Real>
void compare(const Numbers& plan, const Batch<Real>& batch, const BatchView<Real>& view) {
  const Loss loss(plan, 0);
  const size_t rows = static_cast<size_t>(batch.sources * batch.stride);
  constexpr int64_t kOutputs = output_count<Loss>();
  Results<Real> block(static_cast<int64_t>(rows), kOutputs),
      thread(static_cast<int64_t>(rows), kOutputs);
  const LossOutputs<Real> out = outputs_of(block);
  if constexpr (requires { Loss::kHasCritics; }) {
    critics(SerialTeam(), loss, view, outputs_of(thread));
    critics_kernel<Loss, Real><<<1, kThreads, 0, nullptr>>>(loss, view, out);
  } else {
    loss.loss_and_weights(SerialTeam(), view, outputs_of(thread));
    loss_kernel<Loss, Real><<<1, kThreads, 0, nullptr>>>(loss, view, out);
  }
  check_launch(Loss::kName);
  // Sums run in another order, and the vector exponential is accurate to 3 units in the last place.
  const double relative = sizeof(Real) == sizeof(float) ? 2e-5 : 1e-10;
  const std::string name =
      std::string(Loss::kName) + ", " + std::to_string(batch.batch) + " rows, ";
  expect_near(name + "gradient", out.gradient, thread.gradient.data(), kOutputs * rows, relative);
  expect_near(name + "next_gradient", out.next_gradient, thread.next_gradient.data(),
              kOutputs * rows, relative);
  expect_near(name + "weight", out.weight, thread.weight.data(), rows, relative);
  expect_near(name + "metrics", out.metrics, thread.metrics, 16, relative);
}

Numbers settings(unsigned bits) {
  const auto has = [&](int bit) { return (bits >> bit & 1) != 0; };
  return {{{"gamma", 0.97},
           {"temperature", 0.7},
           {"max_weight", 1.5},
           {"alpha", 0.3},
           {"policy_alpha", 0.5},
           {"expectile", 0.8},
           {"inverse_temperature", 3.0},
           {"beta", 0.4},
           {"residual_share", 0.6},
           {"logit_clamp", 1.0},
           {"kl_weight", 0.4},
           {"pu_prior", 0.2},
           {"coupling_temperature", 0.3},
           {"distance_scale", 5.0},
           {"ratio_scale", 0.8},
           {"policy_penalty", 0.3},
           {"critic_penalty", 0.4},
           {"policy_noise", 0.2},
           {"noise_clip", 0.5}},
          {{"absorbing", has(0)},
           {"advantage_absorbing", has(1)},
           {"chi2", has(1)},
           {"normalizes", has(2)},
           {"positive_unlabelled", has(2)},
           {"sums_critic_errors", has(2)},
           {"normalizes_q", has(1)}}};
}

template <typename Real>
void compare_all(const char* name) {
  const bool found = visit_loss(Losses<Real>(), name, [&]<typename Loss>() {
    for (const int64_t rows : {1, 33, 200}) {
      for (unsigned bits = 0; bits < 8; ++bits) {
        constexpr int64_t kOutputs = output_count<Loss>();
        const int64_t sources = kOutputs > 1 ? 4 : bits % 2 == 0 ? 2 : 3;
        const Batch<Real> batch(sources, rows, bits, kOutputs);
        const bool online = (bits & 2) != 0, mixed = (bits & 4) != 0;
        const bool rewarded = std::strcmp(name, "vfo") != 0 || bits % 3 == 0;
        compare<Loss>(settings(bits), batch, batch.view(online, rewarded, mixed));
      }
    }
  });
  FASTIFO_CHECK(found, "losses: no " << name);
}

}  // namespace

// Throws std::runtime_error at the first difference of the loss `name`.
void compare_loss(const char* name, int64_t in_double) {
  in_double != 0 ? compare_all<double>(name) : compare_all<float>(name);
}

// Whole updates of a population, compiled: draws, encodes, forward, loss, backward, Adam, targets.
//
// Members are independent. A thread takes one member through a burst of updates before the next,
// so that the member's weights stay in the caches of its core; where there are two threads and more
// to a member, they share it as its lanes: half of them take the scalar net, half the policy, and
// those of one net share its rows.
#pragma once

#include "common/isa.h"
#include "engine/plan.h"

namespace fastifo {

// Parts of an update whose time is kept.
enum Part {
  kSampling,
  kTarget,
  kScalar,
  kPolicy,
  kHead,
  kBackward,
  kWeights,
  kWaiting,
  kPartCount
};
constexpr int kMaxLanes = 16;  // of a member

#define FASTIFO_PARTS \
  "sampling", "target", "scalar", "policy", "head", "backward", "weights", "waiting"

FASTIFO_EACH_ISA(
    // Updates [first, first + count) of every member. metrics: added to, [members, metric_names].
    // seconds: added to, [members, kMaxLanes, kPartCount].
    void train_cpu(const Plan& plan, int64_t first, int64_t count, int64_t burst, int64_t threads,
                   double* metrics, double* seconds);

    // How this machine can multiply in bfloat16, the fastest first: matrix (AMX), dot
    // (AVX-512 BF16), widened.
    std::vector<std::string> half_kernels();)

}  // namespace fastifo

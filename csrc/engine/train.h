// Complete updates of a population in compiled code: sampling, encoding, forward, loss, backward,
// Adam and targets.
//
// Members are independent. A thread takes one member through a burst of updates before the next, so
// that the member's weights stay in the core's caches. With at least two threads per member, each
// member has a team of threads: some of them work on the scalar net, the others on the policy, and
// those that work on the same net divide its rows.
#pragma once

#include "common/isa.h"
#include "engine/plan.h"

namespace fastifo {

// Parts of an update whose time is measured; kTarget is every net that does not train.
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
constexpr int kMaxMemberThreads = 16;  // threads that share one member

#define FASTIFO_PARTS \
  "sampling", "target", "scalar", "policy", "head", "backward", "weights", "waiting"

FASTIFO_EACH_ISA(
    // Makes updates [first, first + count) of every member, in bursts of `burst` updates.
    //
    // metrics: [members, metric_names], added to.
    // seconds: [members, kMaxMemberThreads, kPartCount], added to.
    // Throws std::runtime_error if the system refuses a thread that a team needs.
    void train_cpu(const Plan& plan, int64_t first, int64_t count, int64_t burst, int64_t threads,
                   double* metrics, double* seconds);

    // The bf16 kernels this machine can run, the fastest first: amx, avx512bf16, emulated.
    std::vector<std::string> bf16_kernels();)

}  // namespace fastifo

// What the engine trains, as filled in by Python: sizes, columns, nets, hyperparameters. Pointers
// refer to memory that Python keeps alive; `void` stands for the numbers of the plan's precision,
// float or double.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/check.h"

namespace fastifo {

// One net of all members. A member's state holds, layer after layer, the weights [inputs, outputs]
// in panels of 16 columns, the biases and, in hidden layers with layer norm, its scales and shifts,
// all sizes padded to multiples of 32.
struct NetPlan {
  std::vector<int64_t> widths;  // inputs, hidden layers, outputs
  bool layer_norm = false;      // normalises after the ReLU of each hidden layer
  bool exact_output = false;    // the last layer, of at most 16 outputs, never uses bfloat16
  int64_t size = 0;             // numbers per member
  void* weights = nullptr;      // [members, size]
  void* first = nullptr;        // [members, size], Adam's first moments
  void* second = nullptr;       // [members, size], and second moments
  void* target = nullptr;       // [members, size], the target's weights, or null
  void* packs = nullptr;        // [members, packs_size] bf16 numbers, for bf16 and fp32x
  int64_t packs_size = 0;       // per layer 3 packs, each of its weights' size times the parts
};

// The transitions of one source and how they are drawn.
struct SourcePlan {
  int64_t purpose = 0;  // the random stream
  int64_t transitions = 0;
  // If members draw from different transitions: where each member's begin and how many they are,
  // [members] each; else null.
  const int64_t* first = nullptr;
  const int64_t* count = nullptr;
  // If members draw from windows of episodes: the addresses of `first` and `before` as in
  // draw_windows and the number of episodes, [members, 3]; else null.
  const int64_t* windows = nullptr;
  const void* obs = nullptr;       // [observations, obs_dim]
  const int64_t* row = nullptr;    // [transitions], the row of each one's observation
  const void* terminal = nullptr;  // [transitions]
  const void* action = nullptr;    // [transitions, action_dim], shared or per member, or null
  const void* reward = nullptr;    // [transitions], shared or per member, or null
  int64_t reward_stride = 0;       // from one member's rewards to the next's; 0 if shared
  int64_t action_stride = 0;       // likewise
};

struct Plan {
  std::string method;     // of losses/list.h
  std::string precision;  // fp32, bf16, fp32x; fp64 in its own build
  std::string kernel;     // for bf16 and fp32x: amx, avx512bf16, emulated
  bool repacks = false;   // weights were written from outside, so pack them again
  int64_t members = 0;
  int64_t batch = 0;              // rows per source
  const int64_t* seed = nullptr;  // [members]

  int64_t obs_dim = 0;
  std::vector<double> scale;        // the encoder's scales; empty: observations are not encoded
  const void* mean = nullptr;       // [obs_dim], or null: observations are not standardised
  const void* deviation = nullptr;  // [obs_dim]

  std::vector<SourcePlan> sources;  // in the order of the loss's rows; the policy's come last
  int64_t policy_sources = 1;       // how many of them the policy learns from
  // The first source whose next observations are rows of the scalar net too; -1: no source.
  int64_t next_from = -1;
  int64_t mix_purpose = -1;    // the stream of one uniform number per row; -1: none are drawn
  int64_t noise_purpose = -1;  // the stream of two numbers per row and action dimension; -1: none

  // Nets without widths are absent.
  NetPlan policy;
  NetPlan scalar;             // value, discriminator or, with several outputs, dual variables
  NetPlan embedding;          // of observations, frozen: it has weights and packs only
  int64_t target_period = 1;  // updates between refreshes of the targets
  NetPlan critic;             // the two critics of observation and action, each with a target
  NetPlan twin;
  NetPlan log_std;              // not a net: one parameter per action dimension of a normal policy
  void* policy_loss = nullptr;  // [members], of the last step of a policy that seldom makes one
  int64_t policy_decay_updates = 0;  // cosine decay of the policy's rate to 0; 0: constant rate

  int64_t action_dim = 0;
  int64_t bins = 0;            // per action dimension; 0: the policy is normal or deterministic
  int64_t radius = 0;          // of the head's kernel, in bins
  const void* taps = nullptr;  // [members, radius + 1], the kernel by distance
  const void* norm = nullptr;  // [members, bins], the factor of each smoothed logit

  // Hyperparameters, one number per member; also policy_rate, policy_decay and the same of the
  // scalar net and of the critics.
  std::map<std::string, std::vector<double>> numbers;
  // Options; also scalar_pair and policy_pair: that net reads two successive observations; and
  // sums_error: a deterministic policy's error sums over dimensions, else it is their mean.
  std::map<std::string, bool> flags;

  // Throws std::invalid_argument for an unknown name.
  double number(const char* name, int64_t member) const;
  bool flag(const char* name) const;  // false for an unknown name
};

// Throws std::invalid_argument that names `method` and the methods there are.
[[noreturn]] void refuse_method(const std::string& method);

// Names of the metrics that a method reports, in order; throws for an unknown method.
std::vector<std::string> metric_names(const std::string& method);

}  // namespace fastifo

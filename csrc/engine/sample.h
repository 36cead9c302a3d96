// One member's batch: rows drawn by counter, observations encoded into panels.
#pragma once

#include "common/bins.h"
#include "draw.h"
#include "engine/panels.h"
#include "engine/plan.h"

namespace fastifo {
namespace FASTIFO_ISA {

// Where one source's batch goes: columns of the observation panels and rows of flat arrays.
struct BatchSlot {
  Panels obs, next_obs;  // [features, batch], each column one row of the batch
  Real* terminal;        // [batch]
  Real* reward;          // [batch], or null
  int32_t* bin;          // [batch, action_dim], or null
};

class Sampler {
 public:
  explicit Sampler(const Plan& plan)
      : plan_(plan),
        mean_(static_cast<const Real*>(plan.mean)),
        deviation_(static_cast<const Real*>(plan.deviation)),
        index_(2 * padded(plan.batch)),
        raw_(2 * plan.obs_dim * kPanel) {}

  // The rows that `source` gives the member in the update after `update` updates.
  void draw(const SourcePlan& source, int64_t member, int64_t update, const BatchSlot& slot) {
    int64_t* const index = reinterpret_cast<int64_t*>(index_.data());
    draw_cpu(plan_.seed + member, &update, index, 1, plan_.batch, source.purpose,
             source.count == nullptr ? source.transitions : source.count[member]);
    if (source.first != nullptr) {
      for (int64_t i = 0; i < plan_.batch; ++i) index[i] += source.first[member];
    }
    const Columns from{source};
    for (int64_t i = 0; i < plan_.batch; ++i) __builtin_prefetch(source.row + index[i]);
    for (int64_t first = 0; first < plan_.batch; first += kPanel) {
      const int64_t count = std::min(kPanel, plan_.batch - first);
      prefetch(from, index + first + kPanel, std::min(kPanel, plan_.batch - first - kPanel));
      encode(from, index + first, count, first / kPanel, slot);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t row = first + i, at = index[row];
        slot.terminal[row] = from.terminal[at];
        if (slot.reward != nullptr) {
          slot.reward[row] = from.reward[member * source.reward_stride + at];
        }
        if (slot.bin == nullptr) continue;
        for (int64_t a = 0; a < plan_.action_dim; ++a) {
          slot.bin[row * plan_.action_dim + a] =
              static_cast<int32_t>(bin_of(from.action[at * plan_.action_dim + a], plan_.bins));
        }
      }
    }
  }

  // Numbers in [0, 1) with 24 random bits, [batch].
  void uniform(int64_t member, int64_t update, Real* out) {
    int64_t* const index = reinterpret_cast<int64_t*>(index_.data());
    draw_cpu(plan_.seed + member, &update, index, 1, plan_.batch, plan_.mix_purpose, 1 << 24);
    for (int64_t i = 0; i < plan_.batch; ++i) {
      out[i] = static_cast<Real>(index[i]) * (Real(1) / (1 << 24));
    }
  }

 private:
  struct Columns {
    explicit Columns(const SourcePlan& source)
        : row(source.row),
          obs(static_cast<const Real*>(source.obs)),
          terminal(static_cast<const Real*>(source.terminal)),
          action(static_cast<const Real*>(source.action)),
          reward(static_cast<const Real*>(source.reward)) {}
    const int64_t* row;
    const Real* obs;
    const Real* terminal;
    const Real* action;
    const Real* reward;
  };

  // Rows lie anywhere in memory: ask for some before they are needed.
  void prefetch(const Columns& source, const int64_t* index, int64_t count) const {
    constexpr int64_t kLine = 16;  // numbers of a cache line
    for (int64_t i = 0; i < count; ++i) {
      const Real* obs = source.obs + source.row[index[i]] * plan_.obs_dim;
      for (int64_t k = 0; k < 2 * plan_.obs_dim; k += kLine) __builtin_prefetch(obs + k);
      __builtin_prefetch(source.terminal + index[i]);
      if (source.action != nullptr) {
        __builtin_prefetch(source.action + index[i] * plan_.action_dim);
      }
    }
  }

  // Up to 16 rows and their successors: turned while raw, so that a vector holds one feature of 16
  // rows and encodes at once.
  void encode(const Columns& source, const int64_t* index, int64_t count, int64_t panel,
              const BatchSlot& slot) {
    const int64_t dim = plan_.obs_dim;
    Real* const raw = raw_.data();  // [2, dim, 16]
    for (int64_t i = 0; i < count; ++i) {
      const Real* obs = source.obs + source.row[index[i]] * dim;
      for (int64_t k = 0; k < 2 * dim; ++k) raw[k * kPanel + i] = obs[k];
    }
    const int64_t scales = static_cast<int64_t>(plan_.scale.size());
    const double* const scale = plan_.scale.data();
    for (int64_t k = 0; k < 2 * dim; ++k) {
      const Panels& out = k < dim ? slot.obs : slot.next_obs;
      const int64_t feature = k < dim ? k : k - dim;
      for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
        Vec<Real> x = load(raw + k * kPanel + v);
        if (mean_ != nullptr) x = (x - mean_[feature]) / deviation_[feature];
        if (scales == 0) store(out.line(panel, feature) + v, x);
        for (int64_t s = 0; s < scales; ++s) {
          store(out.line(panel, feature * scales + s) + v, tanh(x * static_cast<Real>(scale[s])));
        }
      }
    }
  }

  const Plan& plan_;
  const Real* mean_;
  const Real* deviation_;
  Buffer index_;  // int64 [batch]
  Buffer raw_;
};

}  // namespace FASTIFO_ISA
}  // namespace fastifo

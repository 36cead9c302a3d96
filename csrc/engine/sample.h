// One member's batch: rows drawn by counter, observations encoded into panels.
#pragma once

#include "common/bins.h"
#include "draw.h"
#include "engine/encode.h"
#include "engine/panels.h"
#include "engine/plan.h"

namespace fastifo {
namespace FASTIFO_ISA {

constexpr int kSteps = 3;

// Where one source's batch goes: columns of the observation panels and rows of flat arrays.
struct BatchSlot {
  // The panels that take the observation and those after it, up to two each; null data is none.
  // [features, batch], each column one row of the batch.
  Panels to[kSteps][2];
  Real* terminal;  // [batch]
  Real* reward;    // [batch], or null
  int32_t* bin;    // [batch, action_dim], or null
  Panels action;   // [action_dim, batch] as it is, or null data

  // Successive observations that are wanted of a row.
  int64_t steps() const { return to[2][0].data ? 3 : to[1][0].data ? 2 : 1; }
};

class Sampler {
 public:
  explicit Sampler(const Plan& plan)
      : plan_(plan), index_(2 * padded(plan.batch)), raw_(kSteps * plan.obs_dim * kPanel) {}

  // Some of the rows that `source` gives the member in the update after `update` updates.
  void draw(const SourcePlan& source, int64_t member, int64_t update, const Range& rows,
            const BatchSlot& slot) {
    int64_t* const index = reinterpret_cast<int64_t*>(index_.data());
    if (source.windows != nullptr) {
      const int64_t* own = source.windows + 3 * member;
      draw_windows_cpu(plan_.seed + member, &update, reinterpret_cast<const int64_t*>(own[0]),
                       reinterpret_cast<const int64_t*>(own[1]), index, 1, plan_.batch,
                       source.purpose, own[2]);
    } else {
      draw_cpu(plan_.seed + member, &update, index, 1, plan_.batch, source.purpose,
               source.count == nullptr ? source.transitions : source.count[member]);
      if (source.first != nullptr) {
        for (int64_t i = 0; i < plan_.batch; ++i) index[i] += source.first[member];
      }
    }
    const Columns from{source, member};
    const int64_t steps = slot.steps();
    const int64_t last = std::min(rows.last, plan_.batch);
    for (int64_t i = rows.first; i < last; ++i) __builtin_prefetch(source.row + index[i]);
    for (int64_t first = rows.first; first < last; first += kPanel) {
      const int64_t count = std::min(kPanel, last - first);
      prefetch(from, index + first + kPanel, std::min(kPanel, last - first - kPanel), steps);
      encode(from, index + first, count, first / kPanel, steps, slot);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t row = first + i, at = index[row];
        slot.terminal[row] = from.terminal[at];
        if (slot.reward != nullptr) {
          slot.reward[row] = from.reward[at];
        }
        if (slot.action.data != nullptr) {
          for (int64_t a = 0; a < plan_.action_dim; ++a) {
            slot.action.line(row / kPanel, a)[row % kPanel] =
                from.action[at * plan_.action_dim + a];
          }
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
    Columns(const SourcePlan& source, int64_t member)
        : row(source.row),
          obs(static_cast<const Real*>(source.obs)),
          terminal(static_cast<const Real*>(source.terminal)),
          action(static_cast<const Real*>(source.action) + member * source.action_stride),
          reward(static_cast<const Real*>(source.reward) + member * source.reward_stride),
          acts(source.action != nullptr) {}
    const int64_t* row;
    const Real* obs;
    const Real* terminal;
    const Real* action;
    const Real* reward;
    bool acts;
  };

  // Rows lie anywhere in memory: ask for some before they are needed.
  void prefetch(const Columns& source, const int64_t* index, int64_t count, int64_t steps) const {
    constexpr int64_t kLine = 16;  // numbers of a cache line
    for (int64_t i = 0; i < count; ++i) {
      const Real* obs = source.obs + source.row[index[i]] * plan_.obs_dim;
      for (int64_t k = 0; k < steps * plan_.obs_dim; k += kLine) __builtin_prefetch(obs + k);
      __builtin_prefetch(source.terminal + index[i]);
      if (source.acts) {
        __builtin_prefetch(source.action + index[i] * plan_.action_dim);
      }
    }
  }

  // Up to 16 rows and what follows them: turned while raw, so that a vector holds one feature of 16
  // rows and encodes at once.
  void encode(const Columns& source, const int64_t* index, int64_t count, int64_t panel,
              int64_t steps, const BatchSlot& slot) {
    const int64_t dim = plan_.obs_dim;
    Real* const raw = raw_.data();  // [steps, dim, 16]
    for (int64_t i = 0; i < count; ++i) {
      const Real* obs = source.obs + source.row[index[i]] * dim;
      for (int64_t k = 0; k < steps * dim; ++k) raw[k * kPanel + i] = obs[k];
    }
    for (int64_t k = 0; k < steps * dim; ++k) {
      encode_line(plan_, k % dim, raw + k * kPanel, slot.to[k / dim], panel);
    }
  }

  const Plan& plan_;
  Buffer index_;  // int64 [batch]
  Buffer raw_;
};

}  // namespace FASTIFO_ISA
}  // namespace fastifo

// Draws one member's batch: indices from counters, observations encoded into panels.
#pragma once

#include "common/bins.h"
#include "engine/encode.h"
#include "engine/panels.h"
#include "engine/plan.h"
#include "ops/draw.h"

namespace fastifo {
namespace FASTIFO_ISA {

constexpr int kMaxSteps = 3;  // successive observations that a row may need

// Where one source's batch goes: columns of observation panels and rows of flat arrays.
struct BatchSlot {
  // Up to two destinations for the observation and for each of those that follow it; null data
  // means none. [features, batch], one column per row of the batch.
  Panels to[kMaxSteps][2];
  Real* terminal;           // [batch]
  Real* reward;             // [batch], or null
  int32_t* bin;             // [batch, action_dim], the actions' bins, or null
  Panels action;            // [action_dim, batch], the actions themselves, or null data
  Panels next_action = {};  // those of the next transitions, likewise

  // How many successive observations a row needs.
  int64_t steps() const { return to[2][0].data ? 3 : to[1][0].data ? 2 : 1; }
};

class Sampler {
 public:
  explicit Sampler(const Plan& plan)
      : plan_(plan),
        index_(2 * padded(plan.batch) * std::max<int64_t>(1, noise_width(plan))),
        raw_(kMaxSteps * plan.obs_dim * kPanel) {}

  // Draws the batch that update `update` of the member takes from `source` and writes some of its
  // rows to `slot`.
  void draw(const SourcePlan& source, int64_t member, int64_t update, const Range& rows,
            const BatchSlot& slot) {
    const int64_t* const index = draw_indices(source, member, update);
    const Columns columns(source, member);
    const int64_t steps = slot.steps();
    const int64_t last = std::min(rows.last, plan_.batch);
    for (int64_t i = rows.first; i < last; ++i) __builtin_prefetch(source.row + index[i]);
    for (int64_t first = rows.first; first < last; first += kPanel) {
      const int64_t count = std::min(kPanel, last - first);
      prefetch(columns, index + first + kPanel, std::min(kPanel, last - first - kPanel), steps);
      encode(columns, index + first, count, first / kPanel, steps, slot);
      for (int64_t i = 0; i < count; ++i) copy_row(columns, index[first + i], first + i, slot);
    }
  }

  // Draws numbers in [0, 1) with 24 random bits.  out: [batch].
  void uniform(int64_t member, int64_t update, Real* out) {
    int64_t* const index = reinterpret_cast<int64_t*>(index_.data());
    draw_cpu(plan_.seed + member, &update, index, 1, plan_.batch, plan_.mix_purpose, 1 << 24);
    for (int64_t i = 0; i < plan_.batch; ++i) {
      out[i] = static_cast<Real>(index[i]) * (Real(1) / (1 << 24));
    }
  }

  // Draws standard normal numbers for some rows, from two uniform ones each (Box and Muller 1958):
  // sqrt(-2 log(1 - u)) cos(2 pi u').  out: [action_dim, batch].
  void normal(int64_t member, int64_t update, const Range& rows, const Panels& out) {
    constexpr Real kUnit = Real(1) / (1 << 24),
                   kTwoPi = static_cast<Real>(2.0 * 3.14159265358979323846);
    int64_t* const index = reinterpret_cast<int64_t*>(index_.data());
    const int64_t width = noise_width(plan_);
    draw_cpu(plan_.seed + member, &update, index, 1, plan_.batch * width, plan_.noise_purpose,
             1 << 24);
    for (int64_t i = rows.first; i < std::min(rows.last, plan_.batch); ++i) {
      const int64_t *const first = index + i * width, *const second = first + plan_.action_dim;
      for (int64_t a = 0; a < plan_.action_dim; ++a) {
        const Real radius =
            std::sqrt(Real(-2) * std::log(Real(1) - static_cast<Real>(first[a]) * kUnit));
        out.line(i / kPanel, a)[i % kPanel] =
            radius * std::cos(kTwoPi * static_cast<Real>(second[a]) * kUnit);
      }
    }
  }

 private:
  // Uniform numbers per row for `normal`.
  static int64_t noise_width(const Plan& plan) {
    return plan.noise_purpose < 0 ? 0 : 2 * plan.action_dim;
  }

  // The columns of a source as one member sees them.
  struct Columns {
    Columns(const SourcePlan& source, int64_t member)
        : row(source.row),
          obs(static_cast<const Real*>(source.obs)),
          terminal(static_cast<const Real*>(source.terminal)),
          action(static_cast<const Real*>(source.action) + member * source.action_stride),
          reward(static_cast<const Real*>(source.reward) + member * source.reward_stride),
          transitions(source.transitions),
          has_actions(source.action != nullptr) {}
    const int64_t* row;
    const Real* obs;
    const Real* terminal;
    const Real* action;
    const Real* reward;
    int64_t transitions;
    bool has_actions;
  };

  // Returns the transitions that the batch consists of, [batch].
  const int64_t* draw_indices(const SourcePlan& source, int64_t member, int64_t update) {
    int64_t* const index = reinterpret_cast<int64_t*>(index_.data());
    if (source.windows != nullptr) {
      const int64_t* windows = source.windows + 3 * member;
      draw_windows_cpu(plan_.seed + member, &update, reinterpret_cast<const int64_t*>(windows[0]),
                       reinterpret_cast<const int64_t*>(windows[1]), index, 1, plan_.batch,
                       source.purpose, windows[2]);
    } else {
      draw_cpu(plan_.seed + member, &update, index, 1, plan_.batch, source.purpose,
               source.count == nullptr ? source.transitions : source.count[member]);
      if (source.first != nullptr) {
        for (int64_t i = 0; i < plan_.batch; ++i) index[i] += source.first[member];
      }
    }
    return index;
  }

  // Copies everything but the observations of transition `at` to one row of the batch.
  FASTIFO_INLINE void copy_row(const Columns& columns, int64_t at, int64_t row,
                               const BatchSlot& slot) const {
    slot.terminal[row] = columns.terminal[at];
    if (slot.reward != nullptr) {
      slot.reward[row] = columns.reward[at];
    }
    copy_action(columns, at, row, slot.action);
    copy_action(columns, at + 1 < columns.transitions ? at + 1 : 0, row, slot.next_action);
    if (slot.bin == nullptr) return;
    for (int64_t a = 0; a < plan_.action_dim; ++a) {
      slot.bin[row * plan_.action_dim + a] =
          static_cast<int32_t>(bin_of(columns.action[at * plan_.action_dim + a], plan_.bins));
    }
  }

  FASTIFO_INLINE void copy_action(const Columns& columns, int64_t at, int64_t row,
                                  const Panels& out) const {
    if (out.data == nullptr) return;
    for (int64_t a = 0; a < plan_.action_dim; ++a) {
      out.line(row / kPanel, a)[row % kPanel] = columns.action[at * plan_.action_dim + a];
    }
  }

  // Requests rows before they are needed: they lie anywhere in memory.
  void prefetch(const Columns& columns, const int64_t* index, int64_t count, int64_t steps) const {
    constexpr int64_t kCacheLine = 16;  // numbers
    for (int64_t i = 0; i < count; ++i) {
      const Real* obs = columns.obs + columns.row[index[i]] * plan_.obs_dim;
      for (int64_t k = 0; k < steps * plan_.obs_dim; k += kCacheLine) __builtin_prefetch(obs + k);
      __builtin_prefetch(columns.terminal + index[i]);
      if (columns.has_actions) {
        __builtin_prefetch(columns.action + index[i] * plan_.action_dim);
      }
    }
  }

  // Encodes the observations of up to 16 rows and those that follow them. The raw numbers are
  // transposed first, so that a vector holds one feature of several rows.
  void encode(const Columns& columns, const int64_t* index, int64_t count, int64_t panel,
              int64_t steps, const BatchSlot& slot) {
    const int64_t dim = plan_.obs_dim;
    Real* const raw = raw_.data();  // [steps, dim, 16]
    for (int64_t i = 0; i < count; ++i) {
      const Real* obs = columns.obs + columns.row[index[i]] * dim;
      for (int64_t k = 0; k < steps * dim; ++k) raw[k * kPanel + i] = obs[k];
    }
    for (int64_t k = 0; k < steps * dim; ++k) {
      encode_line(plan_, k % dim, raw + k * kPanel, slot.to[k / dim], panel);
    }
  }

  const Plan& plan_;
  Buffer index_;  // int64 [batch], or [batch, noise_width]
  Buffer raw_;    // [kMaxSteps, obs_dim, 16]
};

}  // namespace FASTIFO_ISA
}  // namespace fastifo

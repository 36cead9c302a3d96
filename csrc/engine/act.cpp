// Inference of a trained policy: encoder, net and head, without gradients. Rows are independent: a
// row's action has the same bits whichever other rows are in the call.
#include "engine/act.h"

#include <memory>

#include "common/bins.h"
#include "engine/encode.h"
#include "engine/mlp.h"
#include "ops/draw.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

constexpr int64_t kRows = 64;  // rows in one pass through the net

// Computes the actions of policies of one shape; owns the memory that this needs.
class Actor {
 public:
  explicit Actor(const Plan& shape)
      : widths_(shape.policy.widths),
        bins_(shape.bins),
        radius_(shape.radius),
        scratch_(1),
        tile_(std::max<int64_t>(1, shape.bins), shape.radius),
        raw_(shape.obs_dim * kPanel) {
    for (int64_t width : widths_) layer_.push_back(std::make_unique<Matrix>(width, kRows));
  }

  bool matches(const Plan& plan) const {
    return plan.policy.widths == widths_ && plan.bins == bins_ && plan.radius == radius_;
  }

  // Actions of up to kRows rows of one policy, which is deterministic if it has no bins.  uniform:
  // for each row [action_dim] numbers in [0, 1) to sample with; or null, for the most likely
  // action.
  void act(const Plan& plan, const Real* obs, const Real* const* uniform, int64_t count,
           Real* action) {
    for (int64_t row = 0; row < count; row += kPanel) {
      encode(plan, obs + row * plan.obs_dim, std::min(kPanel, count - row), row / kPanel);
    }
    const Mlp<0> net(plan.policy, bf16_tile_emulated, 0);
    for (int i = 0; i < net.depth(); ++i) {
      net.forward(i, false, layer(i).part(0, padded(count)), layer(i + 1).part(0, padded(count)),
                  scratch_);
    }
    if (bins_ == 0) {
      write_modes(layer(net.depth()), count, plan.action_dim, action);
    } else {
      write_binned(plan, layer(net.depth()), uniform, count, action);
    }
  }

 private:
  Panels layer(int index) const { return *layer_[static_cast<size_t>(index)]; }

  // action(row, dim) = tanh(raw(dim, row))
  static void write_modes(const Panels& raw, int64_t count, int64_t dims, Real* action) {
    for (int64_t row = 0; row < count; row += kLanes<Real>) {
      for (int64_t dim = 0; dim < dims; ++dim) {
        const Vec<Real> mode = tanh(load(raw.line(row / kPanel, dim) + row % kPanel));
        for (int64_t i = 0; i < std::min<int64_t>(kLanes<Real>, count - row); ++i) {
          action[(row + i) * dims + dim] = mode[i];
        }
      }
    }
  }

  void write_binned(const Plan& plan, const Panels& logits, const Real* const* uniform,
                    int64_t count, Real* action) {
    const Real width = static_cast<Real>(2.0 / static_cast<double>(bins_ - 1));
    tile_.use(static_cast<const Real*>(plan.taps), static_cast<const Real*>(plan.norm));
    constexpr int64_t kWidth = kLanes<Real>;
    for (int64_t row = 0; row < count; row += kWidth) {
      const Real* const lines = logits.panel(row / kPanel) + row % kPanel;
      const int64_t lanes = std::min(kWidth, count - row);
      for (int64_t dim = 0; dim < plan.action_dim; ++dim) {
        const Vec<Real> largest = tile_.smooth_lines(lines + dim * bins_ * kPanel, kPanel);
        Real random[kWidth] = {};
        for (int64_t i = 0; uniform != nullptr && i < lanes; ++i) random[i] = uniform[row + i][dim];
        const Bits<Real> bin =
            uniform == nullptr ? tile_.mode() : tile_.sample(largest, load(random));
        for (int64_t i = 0; i < lanes; ++i) {
          action[(row + i) * plan.action_dim + dim] =
              rounded(static_cast<Real>(bin[i]) * width) - Real(1);
        }
      }
    }
  }

  void encode(const Plan& plan, const Real* obs, int64_t count, int64_t panel) {
    Real* const raw = raw_.data();  // [obs_dim, 16]
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t k = 0; k < plan.obs_dim; ++k) raw[k * kPanel + i] = obs[i * plan.obs_dim + k];
    }
    const Panels to[2] = {layer(0), {}};
    for (int64_t k = 0; k < plan.obs_dim; ++k) encode_line(plan, k, raw + k * kPanel, to, panel);
  }

  std::vector<int64_t> widths_;
  int64_t bins_, radius_;
  Scratch scratch_;
  Tile<Real> tile_;
  Buffer raw_;
  std::vector<std::unique_ptr<Matrix>> layer_;  // the net's input, then each layer's output
};

}  // namespace

void act_cpu(const std::vector<Plan*>& plans, const int64_t* first, const void* obs,
             const int64_t* episode, int64_t episodes, int64_t purpose, int64_t step,
             void* action) {
  std::unique_ptr<Actor> actor;
  std::vector<int64_t> index;
  std::vector<Real> random;
  const Real* uniform[kRows];
  for (size_t p = 0; p < plans.size(); ++p) {
    if (first[p] == first[p + 1]) continue;
    const Plan& plan = *plans[p];
    if (actor == nullptr || !actor->matches(plan)) actor = std::make_unique<Actor>(plan);
    const int64_t per_episode = 2 * plan.action_dim;  // numbers; only the first half is used here
    index.resize(static_cast<size_t>(episodes * per_episode));
    random.resize(index.size());
    if (episodes > 0) {
      draw_cpu(plan.seed, &step, index.data(), 1, episodes * per_episode, purpose, 1 << 24);
      std::transform(index.begin(), index.end(), random.begin(),
                     [](int64_t bits) { return static_cast<Real>(bits) * (Real(1) / (1 << 24)); });
    }
    for (int64_t row = first[p]; row < first[p + 1]; row += kRows) {
      const int64_t count = std::min(kRows, first[p + 1] - row);
      for (int64_t i = 0; episodes > 0 && i < count; ++i) {
        uniform[i] = random.data() + episode[row + i] * per_episode;
      }
      actor->act(plan, static_cast<const Real*>(obs) + row * plan.obs_dim,
                 episodes > 0 ? uniform : nullptr, count,
                 static_cast<Real*>(action) + row * plan.action_dim);
    }
  }
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

// One update of a discriminator with a gradient penalty: k E[(|g| - 1)^2], where g is the gradient
// of the logit in its input x = u s_E + (1 - u) s_B, u uniform in [0, 1).
// Source: Gulrajani et al. 2017, arXiv:1704.00028, Eq. 3.
//
// With ReLUs g is a product of the weights with zeros and ones between them, g = W_0 D_0 W_1 ... w,
// so the penalty's gradient in W_i is a sum of outer products t_i delta_i' over the rows x:
//   delta_i  gradient of the logit in what layer i computes before its ReLU; g = W_0 delta_0
//   t_0      gradient of the penalty in g
//   t_i      t_{i-1} passed through layer i - 1 without its bias, and through the ReLUs as x was
// The rows x therefore are further columns of the batch's matrices: delta_i among the gradients,
// and in the end t_i in place of the layer's input. Biases are no part of g and leave them out.
#pragma once

#include "engine/activations.h"
#include "losses/discriminator.h"
#include "losses/serial_team.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

// The memory of one update, used as `MemberUpdate` is. Columns are rows of the batch: the expert's,
// the background's, and the mixtures x.
template <int kParts>
class PenaltyUpdate {
 public:
  PenaltyUpdate(const Plan& plan, Bf16Kernel kernel, int threads)
      : plan_(plan),
        kernel_(kernel),
        stride_(padded(plan.batch)),
        columns_(3 * stride_),
        threads_(threads, {columns_, plan.scalar.size}, {columns_, 0}),
        input_(plan.scalar.widths.front(), columns_),
        input_gradient_(plan.scalar.widths.front(), stride_),
        // A workspace for each layer's gradient: all of them are needed until the mixtures are
        // done.
        net_(plan.scalar, columns_, std::max(threads, 2), kParts, true),
        arrays_((kArrays + threads) * columns_) {
    for (int i = 0; i < threads; ++i) {
      slot_.push_back(
          std::make_unique<ThreadSlot>(plan, largest_operand({&plan.scalar}, columns_)));
    }
  }

  // Makes update `update`, counted from 0, of one member. All of the member's threads call it
  // together.  metrics: the member's, added to.  seconds: as in train_cpu.
  void update(int thread, int64_t member, int64_t update, double* metrics, double* seconds) {
    ThreadSlot& slot = *slot_[static_cast<size_t>(thread)];
    slot.clock.start(seconds + (member * kMaxMemberThreads + thread) * kPartCount);
    const Step step(*this, slot, thread, member, update);

    sample_batch(step);
    step.all.wait(slot.clock);
    mix(step);
    forward(step.net, false, input_, net_, step.columns, slot.scratch);
    read_row(net_.output(step.net.depth() - 1), step.columns, array(kLogit));
    slot.clock.lap(kScalar);
    step.all.wait(slot.clock);
    double batch_metrics[std::size(Method::kMetrics)] = {};
    compute_loss(step, batch_metrics);
    backward(step);
    pass_slopes(step);
    step.all.wait(slot.clock);
    apply_gradients(step);
    if (step.all.is_leader()) add_metrics(step, batch_metrics, metrics);
    step.all.wait(slot.clock);
  }

 private:
  using Method = Discriminator<Real>;
  enum Array { kLogit, kUniform, kTerminal, kPenalty, kArrays };

  // One thread's view of one update.
  struct Step {
    Step(PenaltyUpdate& self, ThreadSlot& slot_, int thread, int64_t member_, int64_t update_)
        : slot(slot_),
          member(member_),
          update(update_),
          all(self.threads_.all(thread)),
          columns(all.share(self.columns_)),
          mixtures(columns.within(2 * self.stride_, self.stride_)),
          input(self.input_),
          net(self.plan_.scalar, self.kernel_, member),
          gradient(self.arrays_.data() + (kArrays + thread) * self.columns_) {}

    ThreadSlot& slot;
    int64_t member, update;
    ThreadGroup all;
    Range columns, mixtures;  // this thread's part; of the mixtures counted from the first one
    Panels input;
    Mlp<kParts> net;
    Real* gradient;  // [columns] in the logits
  };

  Real* array(Array which) const { return arrays_.data() + which * columns_; }
  double coefficient(const Step& step) const {
    return plan_.number("gradient_penalty", step.member);
  }
  // The same columns, counted from the batch's first one.
  Range among_all(const Range& mixtures) const {
    return {2 * stride_ + mixtures.first, 2 * stride_ + mixtures.last};
  }
  BackwardPass<kParts> pass(const Step& step) const {
    return {step.net, step.input, net_, step.slot.scratch};
  }

  void sample_batch(const Step& step) {
    for (int64_t s = 0; s < 2; ++s) {
      const Range rows = step.columns.within(s * stride_, stride_);
      if (rows.count() == 0) continue;
      BatchSlot slot{{}, array(kTerminal) + s * stride_, nullptr, nullptr, {}};
      slot.to[0][0] = input_.view().part(s * stride_, stride_);
      step.slot.sampler.draw(plan_.sources[static_cast<size_t>(s)], step.member, step.update, rows,
                             slot);
    }
    if (step.all.is_leader()) {
      step.slot.sampler.uniform(step.member, step.update, array(kUniform));
    }
    step.slot.clock.lap(kSampling);
  }

  // x = u s_E + (1 - u) s_B.
  void mix(const Step& step) {
    const Panels expert = input_.view().part(0, stride_),
                 background = input_.view().part(stride_, stride_),
                 mixture = input_.view().part(2 * stride_, stride_);
    for (int64_t at = step.mixtures.first; at < step.mixtures.last; at += kPanel) {
      for (int64_t row = 0; row < mixture.rows; ++row) {
        for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
          const Vec<Real> u = load(array(kUniform) + at + v);
          store(mixture.line(at / kPanel, row) + v,
                u * load(expert.line(at / kPanel, row) + v) +
                    (Real(1) - u) * load(background.line(at / kPanel, row) + v));
        }
      }
    }
  }

  // The classification's loss, and the gradients from which `backward` starts: 1 for the mixtures.
  void compute_loss(const Step& step, double* metrics) {
    const Method method(plan_, step.member);
    const BatchView<Real> batch{2,       plan_.batch, stride_, array(kLogit), nullptr,
                                nullptr, nullptr,     nullptr, nullptr};
    method.loss_and_weights(SerialTeam(), batch, {step.gradient, nullptr, nullptr, metrics});
    std::fill_n(step.gradient + 2 * stride_, plan_.batch, Real(1));
    write_row(step.gradient, step.columns, plan_.batch, stride_, net_.output(step.net.depth() - 1));
    step.slot.clock.lap(kHead);
  }

  // Gradients in all layers, and g for the mixtures.
  void backward(const Step& step) {
    const BackwardPass<kParts> pass = this->pass(step);
    for (int i = pass.last(); i > 0; --i) pass.backward(i, step.columns);
    step.net.backward(0, pass.gradient(0).part(among_all(step.mixtures)), Panels{},
                      input_gradient_.view().part(step.mixtures), step.slot.scratch);
    step.slot.clock.lap(kBackward);
  }

  // t_0 = 2 k / B (|g| - 1) g / |g|, 0 where g is 0, then t_i of every other layer.
  void pass_slopes(const Step& step) {
    const Real factor =
        static_cast<Real>(2.0 * coefficient(step) / static_cast<double>(plan_.batch));
    const Panels gradient = input_gradient_, slope = input_.view().part(2 * stride_, stride_);
    for (int64_t at = step.mixtures.first; at < step.mixtures.last; at += kPanel) {
      for (int64_t v = 0; v < kPanel; v += kLanes<Real>) {
        Vec<Real> square{};
        for (int64_t row = 0; row < gradient.rows; ++row) {
          const Vec<Real> g = load(gradient.line(at / kPanel, row) + v);
          square += g * g;
        }
        const Vec<Real> norm = root(square), excess = norm - Real(1);
        store(array(kPenalty) + at + v, excess * excess);
        const Vec<Real> scale = norm == Real(0) ? Vec<Real>{} : factor * excess / norm;
        for (int64_t row = 0; row < gradient.rows; ++row) {
          store(slope.line(at / kPanel, row) + v,
                scale * load(gradient.line(at / kPanel, row) + v));
        }
      }
    }
    const BackwardPass<kParts> pass = this->pass(step);
    const Range mixtures = among_all(step.mixtures);
    for (int i = 0; i < pass.last(); ++i) {
      step.net.forward_slope(i, pass.input(i).part(mixtures), net_.operand(i).part(mixtures),
                             step.slot.scratch);
    }
    step.slot.clock.lap(kBackward);
  }

  void apply_gradients(const Step& step) {
    const AdamFactors<Real> factors = net_factors(plan_, "scalar", step.member, step.update);
    const BackwardPass<kParts> pass = this->pass(step);
    for (int i = pass.last(); i >= 0; --i) {
      step.net.apply_gradients(i, pass.input(i), pass.gradient(i),
                               step.all.share(step.net.layer(i).columns()), factors,
                               step.slot.scratch, 2 * stride_);
    }
    step.slot.clock.lap(kWeights);
  }

  void add_metrics(const Step& step, const double* batch_metrics, double* metrics) const {
    for (size_t i = 0; i < std::size(Method::kMetrics); ++i) metrics[i] += batch_metrics[i];
    const Real* const penalty = array(kPenalty);
    metrics[Method::kLoss] += coefficient(step) * mean_of(SerialTeam(), plan_.batch,
                                                          [&](int64_t i) { return penalty[i]; });
  }

  const Plan& plan_;
  Bf16Kernel kernel_;
  int64_t stride_, columns_;
  MemberThreads threads_;
  Matrix input_;           // the batch, then x and later t_0
  Matrix input_gradient_;  // g, [inputs, stride]
  Activations net_;
  Buffer arrays_;  // kArrays of [columns], then each thread's gradient
  std::vector<std::unique_ptr<ThreadSlot>> slot_;  // one per thread
};

}  // namespace
}  // namespace FASTIFO_ISA
}  // namespace fastifo

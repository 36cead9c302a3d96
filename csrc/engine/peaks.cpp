// Loops without loads, so that nothing but the arithmetic units bounds them, and a pass of Adam.
#include "engine/peaks.h"

#include <stdexcept>

#include "engine/mlp.h"
#include "engine/threads.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

constexpr int kSums = 12;  // independent sums: hide the latency and fit in 16 registers
constexpr int64_t kTurns = 20000;
constexpr double kMultiplyAdd = 2.0;  // FLOP

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Keeps the compiler from leaving out the loop that computed `value`.
template <typename T>
FASTIFO_INLINE void use(T value) {
  volatile T kept = value;
  (void)kept;
}

double fma_flop() {
  Vec<float> sum[kSums];  // all different, or the compiler would compute equal ones once
  for (int i = 0; i < kSums; ++i) sum[i] = fill(static_cast<float>(i));
  const Vec<float> a = fill(0.5f), b = fill(0.25f);
  for (int64_t turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 12
    for (auto& each : sum) each = each * a + b;
  }
  for (const auto& each : sum) use(each[0]);
  return kMultiplyAdd * kTurns * kSums * kLanes<float>;
}

#if defined(FASTIFO_BF16_UNITS)
__attribute__((target("avx512bf16"))) double avx512bf16_flop() {
  __m512 sum[kSums];
  for (int i = 0; i < kSums; ++i) sum[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512bh halves = (__m512bh)_mm512_set1_epi32(0x3F003F00);  // pairs of 0.5
  for (int64_t turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 12
    for (auto& each : sum) each = _mm512_dpbf16_ps(each, halves, halves);
  }
  for (const auto& each : sum) use(each[0]);
  return kMultiplyAdd * kTurns * kSums * 2 * kLanes<float>;
}

__attribute__((target("amx-tile,amx-bf16"))) double amx_flop() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t turn = 0; turn < kTurns; ++turn) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  return kMultiplyAdd * kTurns * 4 * kPanel * kPanel * kBlock;
}
#endif

// One net's parameters and moments, as far from each other as in an update.
class AdamPass {
 public:
  explicit AdamPass(int64_t parameters)
      : count_((parameters + kPanel - 1) / kPanel * kPanel), state_(3 * count_) {}

  // Makes one step; returns the number of parameters.
  double step() const {
    alignas(64) Real gradient[kLines * kPanel];
    for (Real& each : gradient) each = Real(1e-3);
    const auto factors = adam_factors<Real>(0, 3e-4, 0.0, 1.0, true, 0.9, 0.999, 1e-8);
    Real* const w = state_.data();
    const State state{w, w + count_, w + 2 * count_, nullptr};
    for (int64_t i = 0; i < count_; i += kPanel) {
      state.at(i).step<TargetUpdate::kNone>(gradient + i % (kLines * kPanel), factors);
    }
    return static_cast<double>(count_);
  }

 private:
  static constexpr int64_t kLines = 64;
  int64_t count_;
  Buffer state_;
};

// The highest rate of `work`, which returns how much it did, until the time is over.
template <typename Work>
double highest_rate(double seconds, const Work& work) {
  double best = 0.0, now = seconds_now();
  for (const double end = now + seconds; now < end;) {
    const double started = now, amount = work();
    now = seconds_now();
    best = std::max(best, amount / (now - started));
  }
  return best;
}

double rate_of_thread(const std::string& work, int64_t parameters, double seconds) {
  if (work == "fma") return highest_rate(seconds, fma_flop);
#if defined(FASTIFO_BF16_UNITS)
  if (work == "avx512bf16") return highest_rate(seconds, avx512bf16_flop);
  if (work == "amx") {
    configure_amx();
    const double rate = highest_rate(seconds, amx_flop);
    release_amx();
    return rate;
  }
#endif
  const AdamPass pass(parameters);
  return highest_rate(seconds, [&] { return pass.step(); });
}

void check_work(const std::string& work) {
  bool known = work == "fma" || work == "adam";
#if defined(FASTIFO_BF16_UNITS)
  known = known || (work == "avx512bf16" && has_avx512bf16()) || (work == "amx" && has_amx());
#endif
  if (!known) {
    throw std::invalid_argument("work: expected fma, adam or a bf16 unit of this machine, found " +
                                work);
  }
}

}  // namespace

double peak_rate(const std::string& work, int64_t parameters, int64_t threads, double seconds) {
  check_work(work);
  const std::unique_ptr<double[]> rate(new double[static_cast<size_t>(threads)]());
  const auto measure = [&](int64_t thread) {
    try {
      rate[static_cast<size_t>(thread)] = rate_of_thread(work, parameters, seconds);
    } catch (const std::bad_alloc&) {  // the rate stays 0
    }
  };
  {
    HelperThreads helpers(threads - 1);
    helpers.start(measure);
    measure(0);
  }
  double total = 0.0;
  for (int64_t i = 0; i < threads; ++i) {
    if (rate[static_cast<size_t>(i)] == 0.0) {
      throw std::runtime_error("threads: the system refused threads or memory; ask for fewer");
    }
    total += rate[static_cast<size_t>(i)];
  }
  return total;
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

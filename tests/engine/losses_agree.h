// Random batches, their results in the native engine and in the CPU ops, and comparisons: what
// losses_agree.cpp, the only file that includes this one, is built on.
#pragma once

#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "losses/batch.h"
#include "losses/serial_team.h"

using namespace fastifo;
using namespace fastifo::FASTIFO_ISA;

namespace {

struct Numbers {
  std::map<std::string, double> numbers;
  std::map<std::string, bool> flags;

  double number(const char* name, int64_t) const { return numbers.at(name); }
  bool flag(const char* name) const { return flags.count(name) > 0 && flags.at(name); }
};

// Sources of `batch` rows each, as the engine has them: source s begins at s * stride, and output n
// of source s in the place of source n * sources + s.
template <typename Real>
struct Batch {
  int64_t sources, batch, stride;
  std::vector<Real> output, next_value, online_next_value, reward, terminal, uniform, distance;

  Batch(int64_t source_count, int64_t batch_size, unsigned seed, int64_t outputs = 1)
      : sources(source_count), batch(batch_size), stride((batch_size + 31) / 32 * 32) {
    std::mt19937 generator(seed);
    std::normal_distribution<double> normal;
    std::uniform_real_distribution<double> unit;
    for (auto* column : {&output, &next_value, &online_next_value, &reward, &terminal, &uniform}) {
      const bool has_outputs = column == &output || column == &next_value;
      for (int64_t i = 0; i < (has_outputs ? outputs : 1) * sources * stride; ++i) {
        const double number = column == &terminal  ? (unit(generator) < 0.2 ? 1.0 : 0.0)
                              : column == &uniform ? unit(generator)
                                                   : normal(generator);
        column->push_back(static_cast<Real>(number));
      }
    }
    for (int64_t i = 0; i < stride; ++i) distance.push_back(static_cast<Real>(4 * unit(generator)));
  }

  BatchView<Real> view(bool online, bool rewarded, bool mixed) const {
    return {sources,
            batch,
            stride,
            output.data(),
            next_value.data(),
            online ? online_next_value.data() : nullptr,
            rewarded ? reward.data() : nullptr,
            terminal.data(),
            mixed ? uniform.data() : nullptr,
            sources * stride,
            distance.data()};
  }

  // Without the gaps between sources, as an op takes a column.
  std::vector<Real> dense(const std::vector<Real>& column, int64_t first, int64_t count) const {
    std::vector<Real> rows;
    for (int64_t s = first; s < first + count; ++s) {
      rows.insert(rows.end(), column.begin() + s * stride, column.begin() + s * stride + batch);
    }
    return rows;
  }
};

template <typename Real>
struct Results {
  std::vector<Real> gradient, next_gradient, weight;
  double metrics[16] = {};

  explicit Results(int64_t rows, int64_t outputs = 1)
      : gradient(rows * outputs, Real(0)),
        next_gradient(rows * outputs, Real(0)),
        weight(rows, Real(1)) {}
};

template <typename Real, typename Loss>
Results<Real> engine(const Loss& loss, const Batch<Real>& batch, bool online, bool rewarded,
                     bool mixed) {
  Results<Real> results(batch.sources * batch.stride, output_count<Loss>());
  loss.loss_and_weights(SerialTeam(), batch.view(online, rewarded, mixed),
                        LossOutputs<Real>{results.gradient.data(), results.next_gradient.data(),
                                          results.weight.data(), results.metrics});
  return results;
}

int failures = 0;

template <typename Real>
void expect_same(const std::string& what, const std::vector<Real>& a, const std::vector<Real>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (a.size() == b.size() && a[i] == b[i]) continue;
    std::printf("%s, %zu bytes: row %zu of %zu and %zu: %.17g and %.17g\n", what.c_str(),
                sizeof(Real), i, a.size(), b.size(), double(a[i]), double(b[i]));
    ++failures;
    return;
  }
}

// Sums run over the sources one by one in the engine, over all rows in an op.
template <typename Real>
void expect_close(const std::string& what, const double* metrics, const std::vector<Real>& b) {
  for (size_t i = 0; i < b.size(); ++i) {
    const double rounded = static_cast<double>(static_cast<Real>(metrics[i]));
    const double size = std::fabs(rounded) + 1e-3;
    if (std::fabs(rounded - b[i]) <= 2.0 * std::numeric_limits<Real>::epsilon() * size) continue;
    std::printf("%s, %zu bytes: metric %zu: %.17g and %.17g\n", what.c_str(), sizeof(Real), i,
                metrics[i], double(b[i]));
    ++failures;
  }
}

template <typename Real>
struct Op {
  std::vector<Real> loss = {0}, statistics = std::vector<Real>(4), gradient, next_gradient,
                    initial_gradient, weight;
};

}  // namespace

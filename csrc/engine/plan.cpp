// The parts of the engine that are compiled once, not per instruction set.
#include "engine/plan.h"

#include "losses/list.h"

namespace fastifo {

double Plan::number(const char* name, int64_t member) const {
  const auto entry = numbers.find(name);
  FASTIFO_CHECK(entry != numbers.end(), "numbers: expected " << name << ", found none");
  return entry->second.at(static_cast<size_t>(member));
}

bool Plan::flag(const char* name) const {
  const auto entry = flags.find(name);
  return entry != flags.end() && entry->second;
}

void refuse_method(const std::string& method) {
  std::string names;
  const auto append = [&]<typename... Types>(TypeList<Types...>) {
    ((names += (names.empty() ? "" : ", ") + std::string(Types::kName)), ...);
  };
  append(Losses<float>());
  throw std::invalid_argument("method: expected one of " + names + ", found " + method);
}

std::vector<std::string> metric_names(const std::string& method) {
  std::vector<std::string> names;
  const bool known = visit_loss(Losses<float>(), method.c_str(), [&]<typename Loss>() {
    names.assign(std::begin(Loss::kMetrics), std::end(Loss::kMetrics));
  });
  if (!known) refuse_method(method);
  return names;
}

}  // namespace fastifo

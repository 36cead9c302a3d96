// Discounted return-to-go on the CPU. Reads each reward once and writes each return once. Threads
// take ranges of episodes.
#include "ops/returns.h"

#include "common/parallel.h"

namespace fastifo {
namespace FASTIFO_ISA {

constexpr int64_t kEpisodesPerThread = 256;

template <typename T>
void returns_cpu(const T* reward, const int64_t* start, T* out, int64_t episodes, double gamma) {
  parallel_for(episodes, kEpisodesPerThread, [=](int64_t begin, int64_t end) {
    for (int64_t episode = begin; episode < end; ++episode) {
      double tail = 0.0;
      for (int64_t i = start[episode + 1] - 1; i >= start[episode]; --i) {
        tail = reward[i] + gamma * tail;
        out[i] = static_cast<T>(tail);
      }
    }
  });
}

template void returns_cpu(const float*, const int64_t*, float*, int64_t, double);
template void returns_cpu(const double*, const int64_t*, double*, int64_t, double);

}  // namespace FASTIFO_ISA
}  // namespace fastifo

// A parallel loop over ranges with OpenMP. Small loops stay on the calling thread.
#pragma once

#include <algorithm>
#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace fastifo {

// Calls body(begin, end) on disjoint ranges that cover [0, count). Uses at most one thread per
// `grain` items; a count up to `grain`, or a call from inside a parallel region, runs on the
// calling thread. `body` must not throw.
template <typename Body>
void parallel_for(int64_t count, int64_t grain, const Body& body) {
  if (count <= 0) return;
#ifdef _OPENMP
  const int64_t ranges = (count + grain - 1) / grain;
  const int64_t threads = std::min<int64_t>(omp_get_max_threads(), ranges);
  if (threads > 1 && !omp_in_parallel()) {
#pragma omp parallel num_threads(static_cast<int>(threads))
    {
      const int64_t team = omp_get_num_threads();
      const int64_t share = (count + team - 1) / team;
      const int64_t begin = share * omp_get_thread_num();
      const int64_t end = std::min(begin + share, count);
      if (begin < end) body(begin, end);
    }
    return;
  }
#else
  (void)grain;
#endif
  body(int64_t{0}, count);
}

}  // namespace fastifo

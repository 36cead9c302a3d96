// Uniform indices on the CPU. Writes 8 bytes an index and reads only the seeds; the ten rounds of
// Philox, 10 multiplies an index, are the cost. Threads take ranges of pairs of indices, counted
// through all members.
#include "draw.h"

#include <algorithm>

#include "common/parallel.h"
#include "common/philox.h"

namespace fastifo {
namespace {

// About 0.4 ms of work: on a busy machine waking a thread and waiting for it costs milliseconds.
constexpr int64_t kPairsPerThread = 32768;

// Draws pairs [begin, end) of one member.
void draw_pairs(int64_t begin, int64_t end, uint32_t purpose, int64_t update, int64_t seed,
                uint64_t high, int64_t size, int64_t* row) {
  for (int64_t pair = begin; pair < end; ++pair) {
    uint32_t c0 = static_cast<uint32_t>(pair), c1 = purpose, c2 = low_word(update),
             c3 = high_word(update);
    philox4x32_10(c0, c1, c2, c3, low_word(seed), high_word(seed));
    row[2 * pair] = bounded(c0, c1, high);
    if (2 * pair + 1 < size) row[2 * pair + 1] = bounded(c2, c3, high);
  }
}

}  // namespace

void draw_cpu(const int64_t* seed, const int64_t* update, int64_t* out, int64_t members,
              int64_t size, int64_t purpose, int64_t high) {
  FASTIFO_CHECK(members >= 0 && size >= 0,
                "out: expected sizes of at least 0, found " << members << " x " << size);
  FASTIFO_CHECK(high >= 1, "high: expected at least 1, found " << high);
  const int64_t pairs = (size + 1) / 2;  // of one member
  parallel_for(members * pairs, kPairsPerThread, [=](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t member = begin / pairs, first = begin % pairs;
      const int64_t count = std::min(pairs - first, end - begin);
      draw_pairs(first, first + count, static_cast<uint32_t>(purpose), *update, seed[member],
                 static_cast<uint64_t>(high), size, out + member * size);
      begin += count;
    }
  });
}

}  // namespace fastifo

// Uniform indices on the CPU. Writes 8 bytes per index and reads only the seeds; the ten rounds of
// Philox, 10 multiplications per index, are the cost. Threads take ranges of pairs of indices,
// counted through all members.
#include "ops/draw.h"

#include <algorithm>

#include "common/parallel.h"
#include "common/philox.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

// About 0.4 ms of work: on a busy machine waking a thread and waiting for it costs milliseconds.
constexpr int64_t kPairsPerThread = 32768;

// Draws pairs [begin, end) of one member and writes to_row(index) for each index.
template <typename ToRow>
void draw_pairs(int64_t begin, int64_t end, uint32_t purpose, int64_t update, int64_t seed,
                uint64_t high, int64_t size, int64_t* row, const ToRow& to_row) {
  for (int64_t pair = begin; pair < end; ++pair) {
    uint32_t c0 = static_cast<uint32_t>(pair), c1 = purpose, c2 = low_word(update),
             c3 = high_word(update);
    philox4x32_10(c0, c1, c2, c3, low_word(seed), high_word(seed));
    row[2 * pair] = to_row(bounded(c0, c1, high));
    if (2 * pair + 1 < size) row[2 * pair + 1] = to_row(bounded(c2, c3, high));
  }
}

// Every member's indices, in ranges of pairs counted through all members.
template <typename ToRow>
void draw_all(const int64_t* seed, const int64_t* update, int64_t* out, int64_t members,
              int64_t size, int64_t purpose, int64_t high, const ToRow& to_row) {
  const int64_t pairs = (size + 1) / 2;  // of one member
  parallel_for(members * pairs, kPairsPerThread, [=, &to_row](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t member = begin / pairs, first = begin % pairs;
      const int64_t count = std::min(pairs - first, end - begin);
      draw_pairs(first, first + count, static_cast<uint32_t>(purpose), *update, seed[member],
                 static_cast<uint64_t>(high), size, out + member * size, to_row);
      begin += count;
    }
  });
}

}  // namespace

void draw_cpu(const int64_t* seed, const int64_t* update, int64_t* out, int64_t members,
              int64_t size, int64_t purpose, int64_t high) {
  draw_all(seed, update, out, members, size, purpose, high, [](int64_t index) { return index; });
}

void draw_windows_cpu(const int64_t* seed, const int64_t* update, const int64_t* first,
                      const int64_t* before, int64_t* out, int64_t members, int64_t size,
                      int64_t purpose, int64_t episodes) {
  if (before[episodes] < 1) {  // no stream here: its code would be shared between instruction sets
    throw std::invalid_argument("before: expected at least one window, found none");
  }
  const auto to_row = [=](int64_t index) {
    int64_t episode = 0;  // before[episode] <= index < before[episode + left], no branch on data
    for (int64_t left = episodes; left > 1;) {
      const int64_t half = left / 2;
      episode += before[episode + half] <= index ? half : 0;
      left -= half;
    }
    return first[episode] + index - before[episode];
  };
  draw_all(seed, update, out, members, size, purpose, before[episodes], to_row);
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

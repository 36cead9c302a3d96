// Uniform indices per member: a function of (the member's seed, update, purpose, index) and of
// nothing else. Index i of a member is bounded(x, high), where x is the first or the last two words
// (i even or odd) of philox4x32_10(counter = (i / 2, purpose, update, update >> 32), key = (seed,
// seed >> 32)).
#pragma once

#include <cstdint>

#include "common/check.h"

namespace fastifo {

void draw_cpu(const int64_t* seed,    // [members]
              const int64_t* update,  // [1]
              int64_t* out,           // [members, size], each in [0, high)
              int64_t members, int64_t size, int64_t purpose, int64_t high);

// The same bits. Pointers are device memory, `update` too, so that a captured graph replays with
// the counter moved on.
void draw_cuda(const int64_t* seed, const int64_t* update, int64_t* out, int64_t members,
               int64_t size, int64_t purpose, int64_t high, cudaStream_t stream);

}  // namespace fastifo

// Uniform indices per member: a function of the member's seed, update, purpose and index only.
// Index i of a member is bounded(x, high), where x is the first or the last two words
// (i even or odd) of philox4x32_10(counter = (i / 2, purpose, update, update >> 32), key = (seed,
// seed >> 32)).
#pragma once

#include <cstdint>

#include "common/check.h"
#include "common/isa.h"

namespace fastifo {

FASTIFO_EACH_ISA(void draw_cpu(const int64_t* seed,    // [members]
                               const int64_t* update,  // [1]
                               int64_t* out,           // [members, size], each in [0, high)
                               int64_t members, int64_t size, int64_t purpose, int64_t high);

                 // Each draw, with high = before[episodes], becomes first[e] + draw - before[e],
                 // where e is the last episode with before[e] <= draw.
                 void draw_windows_cpu(const int64_t* seed, const int64_t* update,
                                       const int64_t* first,   // [episodes]
                                       const int64_t* before,  // [episodes + 1]
                                       int64_t* out,           // [members, size]
                                       int64_t members, int64_t size, int64_t purpose,
                                       int64_t episodes);)

// The same bits. Pointers are device memory, `update` too, so that a captured graph replays with
// the counter moved on.
void draw_cuda(const int64_t* seed, const int64_t* update, int64_t* out, int64_t members,
               int64_t size, int64_t purpose, int64_t high, cudaStream_t stream);

void draw_windows_cuda(const int64_t* seed, const int64_t* update, const int64_t* first,
                       const int64_t* before, int64_t* out, int64_t members, int64_t size,
                       int64_t purpose, int64_t episodes, cudaStream_t stream);

}  // namespace fastifo

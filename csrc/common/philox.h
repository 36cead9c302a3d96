// Philox4x32-10, a counter-based random number generator: four random 32-bit words that depend only
// on a counter and a key. Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
// 3", section 4.3; constants as in Random123.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace fastifo {

constexpr int kPhiloxRounds = 10;
constexpr uint32_t kPhiloxMultiplier0 = 0xD2511F53u;
constexpr uint32_t kPhiloxMultiplier1 = 0xCD9E8D57u;
constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9u;  // added to the key between rounds
constexpr uint32_t kPhiloxWeyl1 = 0xBB67AE85u;

// One round, in place on the four words of a counter. Takes words and not a struct, so that the
// compiler can vectorise a loop over counters.
FASTIFO_HOST_DEVICE void philox_round(uint32_t& c0, uint32_t& c1, uint32_t& c2, uint32_t& c3,
                                      uint32_t k0, uint32_t k1) {
  const uint64_t product0 = static_cast<uint64_t>(kPhiloxMultiplier0) * c0;
  const uint64_t product1 = static_cast<uint64_t>(kPhiloxMultiplier1) * c2;
  c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ k0;
  c1 = static_cast<uint32_t>(product1);
  c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ k1;
  c3 = static_cast<uint32_t>(product0);
}

// All ten rounds, in place: replaces the counter's words by the random words.
FASTIFO_HOST_DEVICE void philox4x32_10(uint32_t& c0, uint32_t& c1, uint32_t& c2, uint32_t& c3,
                                       uint32_t k0, uint32_t k1) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    philox_round(c0, c1, c2, c3, k0, k1);
    k0 += kPhiloxWeyl0;
    k1 += kPhiloxWeyl1;
  }
}

FASTIFO_HOST_DEVICE uint32_t low_word(int64_t value) { return static_cast<uint32_t>(value); }

FASTIFO_HOST_DEVICE uint32_t high_word(int64_t value) {
  return static_cast<uint32_t>(static_cast<uint64_t>(value) >> 32);
}

// Maps the 64 random bits (low, top) to an integer in [0, high): the high half of the 128-bit
// product of the bits and `high`. The bias is below high / 2^64.
FASTIFO_HOST_DEVICE int64_t bounded(uint32_t low, uint32_t top, uint64_t high) {
  const uint64_t bits = static_cast<uint64_t>(top) << 32 | low;
#ifdef __CUDA_ARCH__
  return static_cast<int64_t>(__umul64hi(bits, high));
#else
  __extension__ using uint128 = unsigned __int128;
  return static_cast<int64_t>(static_cast<uint128>(bits) * high >> 64);
#endif
}

}  // namespace fastifo

// A block's threads as fibers of one thread of the CPU. A fiber runs until it reaches a barrier or
// returns; the order says which one runs next. Blocks run one after another, in that order too.
//
// These errors end a launch: threads of a block, or of a warp, that wait at different barriers or
// at one that another thread never reaches; a write beyond the dynamic shared memory. Shared memory
// is NaN when a block starts. Not found: races that no order shows, and wrong addresses in global
// memory.
#pragma once

#include <cstddef>
#include <cstring>
#include <string>

namespace cuda_on_cpu {

constexpr int kWarpSize = 32;

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  size_t count() const { return size_t(x) * y * z; }
};

extern dim3 threadIdx, blockIdx, blockDim, gridDim;

enum Order { kForward, kReverse, kRandom };
void use_order(Order order, unsigned seed);

// Runs kernel(body) in every thread of a grid. Throws std::runtime_error for the errors above.
void run_grid(dim3 grid, dim3 block, size_t shared_bytes, void (*kernel)(const void*),
              const void* body);

// What follows is called inside a kernel.

// Where a barrier stands in the source.
struct Place {
  const char* file;
  int line;
  bool operator==(const Place&) const = default;
};

void wait_for_block(Place place);
void wait_for_warp(Place place);
void fail(const std::string& message);  // ends the launch

unsigned char* dynamic_memory();

template <typename T>
T* dynamic_shared() {
  return reinterpret_cast<T*>(dynamic_memory());
}

// Called by every thread where a __shared__ variable is declared, which is a static one here. The
// first thread of a block erases what the last block left there.
void declare_shared(void* variable, size_t bytes);

// 16 bytes for each lane of the current thread's warp; in turn one of two such arrays, so that a
// lane may write its next value while another still reads the last ones.
using Slot = unsigned char[16];
Slot* next_slots();
int lane();   // of the current thread in its warp
int lanes();  // of its warp, fewer than kWarpSize in a last, partial warp

// The values that the lanes of a warp gave.
template <typename T>
struct LaneValues {
  const Slot* slots;

  T operator[](int from) const {
    if (from < 0 || from >= lanes()) fail("a lane reads the value of a lane that is not there");
    T value;
    std::memcpy(&value, slots[from], sizeof(T));
    return value;
  }
};

// Gives `value` to the other lanes of the warp. `mask` must be all of them.
template <typename T>
LaneValues<T> exchange(unsigned mask, T value, Place place) {
  static_assert(sizeof(T) <= sizeof(Slot));
  if (mask != 0xffffffffu) fail("expected all lanes in the mask of a warp's function");
  Slot* const slots = next_slots();
  std::memcpy(slots[lane()], &value, sizeof(T));
  wait_for_warp(place);
  return {slots};
}

}  // namespace cuda_on_cpu

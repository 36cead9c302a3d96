// The scheduler of fibers.h. A fiber starts with the context functions of POSIX; after that,
// switches are _setjmp and _longjmp, which make no system call. Fibers are kept for the next block.
#include "fibers.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

namespace cuda_on_cpu {

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

constexpr size_t kStackBytes = 64 << 10;
constexpr size_t kGuardBytes = 64;      // before and after the dynamic shared memory
constexpr unsigned char kUnset = 0xff;  // floats and doubles of these bytes are NaN

enum State { kReady, kAtBlockBarrier, kAtWarpBarrier, kDone };

struct Fiber {
  dim3 index;
  size_t number;  // of the thread in its block
  State state;
  Place place;      // where it waits
  bool turn;        // which of its warp's arrays of slots is next
  bool is_started;  // then `jump` is where it goes on
  jmp_buf jump;
  ucontext_t context;
  std::unique_ptr<unsigned char[]> stack;
};

struct Warp {
  alignas(16) Slot slots[2][kWarpSize];
};

Order order = kForward;
std::mt19937 generator;
std::vector<std::unique_ptr<Fiber>> fibers;  // at least one per thread of the block
std::vector<Warp> warps;
std::vector<unsigned char> guarded_memory;  // the dynamic shared memory
std::vector<void*> shared_variables;        // those that the block has declared
Fiber* current;                             // the one that runs
jmp_buf scheduler;                          // where it goes when it waits
void (*kernel)(const void*);
const void* kernel_body;
std::string failure;  // what `fail` was called with

std::string text(const Place& place) {
  return std::string(place.file) + ":" + std::to_string(place.line);
}

void pause() {
  if (_setjmp(current->jump) == 0) _longjmp(scheduler, 1);
}

void wait(State state, Place place) {
  current->state = state;
  current->place = place;
  pause();
}

void run_fiber() {
  for (;;) {
    kernel(kernel_body);
    current->state = kDone;
    pause();
  }
}

void resume(Fiber& fiber) {
  current = &fiber;
  threadIdx = fiber.index;
  if (_setjmp(scheduler) != 0) return;
  if (fiber.is_started) _longjmp(fiber.jump, 1);
  fiber.is_started = true;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = kStackBytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, run_fiber, 0);
  setcontext(&fiber.context);
}

std::vector<size_t> turns_of(size_t count) {
  std::vector<size_t> turns(count);
  std::iota(turns.begin(), turns.end(), size_t{0});
  if (order == kReverse) std::reverse(turns.begin(), turns.end());
  return turns;
}

void shuffle_if_random(std::vector<size_t>& turns) {
  if (order == kRandom) std::shuffle(turns.begin(), turns.end(), generator);
}

// Lets the threads [first, last) go on if all of them wait at a barrier of this kind.
bool release(State barrier, size_t first, size_t last) {
  for (size_t i = first; i < last; ++i) {
    if (fibers[i]->state != barrier) return false;
  }
  for (size_t i = first; i < last; ++i) {
    if (fibers[i]->place == fibers[first]->place) continue;
    throw std::runtime_error("threads wait at different barriers: " + text(fibers[first]->place) +
                             " and " + text(fibers[i]->place));
  }
  for (size_t i = first; i < last; ++i) fibers[i]->state = kReady;
  return true;
}

[[noreturn]] void throw_for_waiting(size_t threads) {
  size_t i = 0;
  while (i + 1 < threads && fibers[i]->state == kDone) ++i;
  throw std::runtime_error("thread " + std::to_string(i) + " waits at " + text(fibers[i]->place) +
                           " for threads that never come");
}

void prepare_block(size_t threads) {
  for (size_t i = 0; i < threads; ++i) {
    Fiber& fiber = *fibers[i];
    const auto at = static_cast<unsigned>(i);
    fiber.index =
        dim3(at % blockDim.x, at / blockDim.x % blockDim.y, at / (blockDim.x * blockDim.y));
    fiber.number = i;
    fiber.state = kReady;
    fiber.turn = false;
  }
  std::fill(guarded_memory.begin(), guarded_memory.end(), kUnset);
  shared_variables.clear();
}

void run_block(size_t threads) {
  prepare_block(threads);
  std::vector<size_t> turns = turns_of(threads);
  for (;;) {
    bool progress = false;
    size_t done = 0;
    shuffle_if_random(turns);
    for (const size_t i : turns) {
      if (fibers[i]->state == kReady) {
        resume(*fibers[i]);
        if (!failure.empty()) throw std::runtime_error(std::exchange(failure, ""));
        progress = true;
      }
      done += fibers[i]->state == kDone;
    }
    if (done == threads) return;
    for (size_t first = 0; first < threads; first += kWarpSize) {
      progress |= release(kAtWarpBarrier, first, std::min(threads, first + kWarpSize));
    }
    progress |= release(kAtBlockBarrier, 0, threads);
    if (!progress) throw_for_waiting(threads);
  }
}

void check_guards() {
  const auto is_set = [](unsigned char byte) { return byte != kUnset; };
  if (std::any_of(guarded_memory.begin(), guarded_memory.begin() + kGuardBytes, is_set) ||
      std::any_of(guarded_memory.end() - kGuardBytes, guarded_memory.end(), is_set)) {
    throw std::runtime_error("a thread wrote outside the dynamic shared memory");
  }
}

}  // namespace

void use_order(Order new_order, unsigned seed) {
  order = new_order;
  generator.seed(seed);
}

void run_grid(dim3 grid, dim3 block, size_t shared_bytes, void (*function)(const void*),
              const void* body) {
  kernel = function, kernel_body = body, gridDim = grid, blockDim = block;
  const size_t threads = block.count();
  while (fibers.size() < threads) {
    fibers.push_back(std::make_unique<Fiber>());
    fibers.back()->stack.reset(new unsigned char[kStackBytes]);
  }
  warps.resize((threads + kWarpSize - 1) / kWarpSize);
  guarded_memory.resize(shared_bytes + 2 * kGuardBytes);
  std::vector<size_t> turns = turns_of(grid.count());
  shuffle_if_random(turns);
  try {
    for (const size_t turn : turns) {
      const auto i = static_cast<unsigned>(turn);
      blockIdx = dim3(i % grid.x, i / grid.x % grid.y, i / (grid.x * grid.y));
      run_block(threads);
      check_guards();
    }
  } catch (...) {
    fibers.clear();  // some are in the middle of the kernel
    throw;
  }
}

void wait_for_block(Place place) { wait(kAtBlockBarrier, place); }
void wait_for_warp(Place place) { wait(kAtWarpBarrier, place); }

void fail(const std::string& message) {
  failure = message;
  pause();
}

unsigned char* dynamic_memory() { return guarded_memory.data() + kGuardBytes; }

void declare_shared(void* variable, size_t bytes) {
  const auto end = shared_variables.end();
  if (std::find(shared_variables.begin(), end, variable) != end) return;
  shared_variables.push_back(variable);
  std::memset(variable, kUnset, bytes);
}

Slot* next_slots() {
  current->turn = !current->turn;
  return warps[current->number / kWarpSize].slots[current->turn];
}

int lane() { return static_cast<int>(current->number % kWarpSize); }

int lanes() {
  const size_t first = current->number / kWarpSize * kWarpSize;
  return static_cast<int>(std::min<size_t>(kWarpSize, blockDim.count() - first));
}

}  // namespace cuda_on_cpu

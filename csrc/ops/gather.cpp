// A batch gathered on the CPU: each row read once, each output written once. Threads take ranges of
// rows, counted through all members.
#include "ops/gather.h"

#include <algorithm>

#include "common/parallel.h"
#include "common/simd.h"

namespace fastifo {
namespace FASTIFO_ISA {
namespace {

constexpr int64_t kRowsPerThread = 4096;
constexpr int64_t kBlock = 32;  // rows prefetched together
constexpr int64_t kLine = 64;   // bytes of a cache line

// The address of a member's row of one column.
template <typename T>
FASTIFO_INLINE const T* source_of(const int64_t* column, int64_t index, int64_t member) {
  return reinterpret_cast<const T*>(column[0]) + member * column[3] + index * column[2];
}

// Copies a few numbers: a call of memcpy would cost more.
template <typename T>
FASTIFO_INLINE void copy(const T* from, int64_t count, T* to) {
  int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>) store(to + i, load(from + i));
  if (i < count) store_some(to + i, load_some(from + i, count - i), count - i);
}

// Copies `count` rows of every column; `first` is the first row's index in the outputs.
// index, member: of the rows, [count].
template <typename T>
FASTIFO_INLINE void copy_columns(const std::vector<int64_t>& plan, const int64_t* index,
                                 const int64_t* member, int64_t first, int64_t count) {
  for (size_t entry = 0; entry + kPlanEntries <= plan.size(); entry += kPlanEntries) {
    const int64_t columns = plan[entry + 2];
    T* target = reinterpret_cast<T*>(plan[entry + 1]) + first * columns;
    for (int64_t i = 0; i < count; ++i) {
      const T* source = source_of<T>(plan.data() + entry, index[i], member[i]);
      if (columns == 1) {
        target[i] = *source;
      } else {
        copy(source, columns, target + i * columns);
      }
    }
  }
}

// Encodes rows a vector at a time, counted through a row's outputs: output i is feature i / scales
// at scale i % scales. A vector's features are contiguous, so one load and one shuffle fetch
// them.
template <typename T>
class Encoder {
 public:
  Encoder(const T* scale, const T* mean, const T* deviation, int64_t width, int64_t scales)
      : mean_(mean),
        deviation_(deviation),
        width_(width),
        outputs_(width * scales),
        row_(static_cast<size_t>(width + kLanes<T>)) {
    for (int64_t first = 0; first < outputs_; first += kLanes<T>) {
      Vector vector{.feature = first / scales, .offset = {}, .factor = {}};
      for (int lane = 0; lane < kLanes<T> && first + lane < outputs_; ++lane) {
        vector.offset[lane] = (first + lane) / scales - vector.feature;
        vector.factor[lane] = scale[(first + lane) % scales];
      }
      vectors_.push_back(vector);
    }
  }

  // The row as it is, or standardised, followed by room for a full vector.
  const T* standardise(const T* obs) {
    for (int64_t i = 0; i < width_; ++i) {
      row_[static_cast<size_t>(i)] =
          mean_ == nullptr ? obs[i] : (obs[i] - mean_[i]) / deviation_[i];
    }
    return row_.data();
  }

  void encode(const T* obs, T* out) {
    const T* x = standardise(obs);
    int64_t left = outputs_;
    for (const Vector& vector : vectors_) {
      const Vec<T> value =
          tanh(__builtin_shuffle(load(x + vector.feature), vector.offset) * vector.factor);
      if (left >= kLanes<T>) {
        store(out, value);
      } else {
        store_some(out, value, left);
      }
      out += kLanes<T>;
      left -= kLanes<T>;
    }
  }

 private:
  struct Vector {
    int64_t feature;  // of the first lane
    Bits<T> offset;   // of each lane's feature from the first
    Vec<T> factor;
  };

  const T* mean_;
  const T* deviation_;
  int64_t width_, outputs_;
  std::vector<T> row_;
  std::vector<Vector> vectors_;
};

}  // namespace

template <typename T>
void gather_cpu(const int64_t* index, const int64_t* row, const T* obs, const T* scale,
                const T* mean, const T* deviation, T* out, int64_t members, int64_t size,
                int64_t width, int64_t scales, int64_t steps, const std::vector<int64_t>& plan) {
  const int64_t total = members * size, outputs = width * std::max<int64_t>(1, scales);
  parallel_for(total, kRowsPerThread, [=, &plan](int64_t begin, int64_t end) {
    Encoder<T> encoder(scale, mean, deviation, width, scales);
    const T* from[kBlock];
    int64_t member[kBlock];
    int64_t owner = begin / size, left = size - begin % size;  // rows until the next member's
    for (int64_t first = begin; first < end; first += kBlock) {
      const int64_t count = std::min(kBlock, end - first);
      // Rows are scattered in memory: a block of them is prefetched before the first is needed.
      for (int64_t i = 0; i < count; ++i) __builtin_prefetch(row + index[first + i]);
      for (int64_t i = 0; i < count; ++i) {
        member[i] = owner;
        if (--left == 0) {
          ++owner;
          left = size;
        }
        from[i] = obs + row[index[first + i]] * width;
        for (int64_t k = 0; k < steps * width; k += kLine / sizeof(T))
          __builtin_prefetch(from[i] + k);
        __builtin_prefetch(from[i] + steps * width - 1);
      }
      for (size_t entry = 0; entry + kPlanEntries <= plan.size(); entry += kPlanEntries) {
        for (int64_t i = 0; i < count; ++i) {
          __builtin_prefetch(source_of<T>(plan.data() + entry, index[first + i], member[i]));
        }
      }

      for (int64_t step = 0; step < steps; ++step) {
        T* target = out + (step * total + first) * outputs;
        for (int64_t i = 0; i < count; ++i) {
          const T* x = from[i] + step * width;
          if (scales > 0) {
            encoder.encode(x, target + i * outputs);
          } else {
            copy(mean == nullptr ? x : encoder.standardise(x), width, target + i * width);
          }
        }
      }
      copy_columns<T>(plan, index + first, member, first, count);
    }
  });
}

template void gather_cpu(const int64_t*, const int64_t*, const float*, const float*, const float*,
                         const float*, float*, int64_t, int64_t, int64_t, int64_t, int64_t,
                         const std::vector<int64_t>&);
template void gather_cpu(const int64_t*, const int64_t*, const double*, const double*,
                         const double*, const double*, double*, int64_t, int64_t, int64_t, int64_t,
                         int64_t, const std::vector<int64_t>&);

}  // namespace FASTIFO_ISA
}  // namespace fastifo

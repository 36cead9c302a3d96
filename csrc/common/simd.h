// Vectors of the instruction set that the file is compiled for, and the functions that kernels need
// on them. Vec<float> fills a register with 16, 8 or 4 lanes; Vec<double> has half as many.
// Everything is inlined and lies in a namespace named after the instruction set, so that the linker
// cannot replace one set's code by another's.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define FASTIFO_INLINE inline __attribute__((always_inline))

namespace fastifo {
namespace FASTIFO_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

#if defined(__AVX512F__)
// For masked intrinsics: the unmasked ones cause a false warning in GCC 12.
constexpr __mmask16 kAllLanes = 0xFFFF;
#endif

template <typename T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
  typedef int32_t bits __attribute__((vector_size(kVectorBytes)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
  typedef int64_t bits __attribute__((vector_size(kVectorBytes)));
};

template <typename T>
using Vec = typename VectorOf<T>::type;
template <typename T>
using Bits = typename VectorOf<T>::bits;  // the result type of comparing Vec<T>
template <typename T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

// `count` rounded up to a multiple of the vector size.
template <typename T>
constexpr int64_t round_up(int64_t count) {
  return (count + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

template <typename T>
FASTIFO_INLINE Vec<T> load(const T* from) {
  Vec<T> value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

template <typename T>
FASTIFO_INLINE void store(T* to, Vec<T> value) {
  std::memcpy(to, &value, sizeof(value));
}

// Loads and stores only the first `count` lanes, for the end of a row; loaded lanes beyond are 0.
template <typename T>
FASTIFO_INLINE Vec<T> load_some(const T* from, int64_t count) {
  Vec<T> value{};
  for (int i = 0; i < kLanes<T>; ++i) {
    if (i < count) value[i] = from[i];
  }
  return value;
}

template <typename T>
FASTIFO_INLINE void store_some(T* to, Vec<T> value, int64_t count) {
  for (int i = 0; i < kLanes<T>; ++i) {
    if (i < count) to[i] = value[i];
  }
}

#if defined(__AVX512F__)
FASTIFO_INLINE Vec<float> load_some(const float* from, int64_t count) {
  return (Vec<float>)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1 << count) - 1), from);
}

FASTIFO_INLINE void store_some(float* to, Vec<float> value, int64_t count) {
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1 << count) - 1), (__m512)value);
}
#endif

template <typename T>
FASTIFO_INLINE Vec<T> fill(T value) {
  return value - Vec<T>{};  // x - 0 compiles to nothing; x + 0 does not, because of -0
}

// One step of `transpose`: in every pair of rows `kStride` apart, swaps the blocks of lanes that
// the diagonal mirrors onto each other.
template <typename T, int kStride, int... kLane>
FASTIFO_INLINE void swap_across(Vec<T>* row, std::integer_sequence<int, kLane...>) {
  constexpr Bits<T> first = {((kLane & kStride) != 0 ? kLanes<T> + kLane - kStride : kLane)...};
  constexpr Bits<T> second = {((kLane & kStride) != 0 ? kLanes<T> + kLane : kLane + kStride)...};
#pragma GCC unroll 16
  for (int i = 0; i < kLanes<T>; ++i) {
    if ((i & kStride) != 0) continue;
    const Vec<T> a = row[i], b = row[i + kStride];
    row[i] = __builtin_shuffle(a, b, first);
    row[i + kStride] = __builtin_shuffle(a, b, second);
  }
}

// Transposes a square of kLanes vectors.
template <typename T, int kStride = kLanes<T> / 2>
FASTIFO_INLINE void transpose(Vec<T>* row) {
  swap_across<T, kStride>(row, std::make_integer_sequence<int, kLanes<T>>());
  if constexpr (kStride > 1) transpose<T, kStride / 2>(row);
}

// p[k] = e^x[k] for |x[k]| <= ln(2) / 2. Polynomial: Cephes expf.
template <int N>
FASTIFO_INLINE void exp_near_zero(const Vec<float>* x, Vec<float>* p) {
  constexpr float kFactor[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                               4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
  for (int k = 0; k < N; ++k) p[k] = fill(kFactor[0]);
#pragma GCC unroll 5
  for (int i = 1; i < 6; ++i) {
    for (int k = 0; k < N; ++k) p[k] = p[k] * x[k] + kFactor[i];
  }
  for (int k = 0; k < N; ++k) p[k] = p[k] * (x[k] * x[k]) + (x[k] + 1.0f);
}

// x[k] = e^x[k] within 2 units in the last place; 0 below -87, NaN for NaN. Several vectors advance
// together, because a single one would wait for its own result at every step.
template <int N>
FASTIFO_INLINE void exp_each(Vec<float>* x) {
  const Vec<float> high = fill(89.0f);
  constexpr float kLogE = 1.44269504088896341f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  Vec<float> bounded[N], power[N], remainder[N], p[N];
#if defined(__AVX512F__)
  for (int k = 0; k < N; ++k) {  // if one operand is a NaN, the minimum is the second
    bounded[k] = (Vec<float>)_mm512_maskz_min_ps(kAllLanes, (__m512)high, (__m512)x[k]);
  }
  for (int k = 0; k < N; ++k) {
    power[k] = (Vec<float>)_mm512_maskz_roundscale_ps(kAllLanes, (__m512)(bounded[k] * kLogE), 0);
  }
#else
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Vec<float> low = fill(-88.0f), zero{};
  for (int k = 0; k < N; ++k) {
    bounded[k] = x[k] > high ? high : x[k];  // a NaN compares false and is kept
    bounded[k] = bounded[k] < low ? low : bounded[k];
    power[k] = (bounded[k] * kLogE + kShift) - kShift;
  }
#endif
  for (int k = 0; k < N; ++k) {
    remainder[k] = (bounded[k] - power[k] * kLn2High) - power[k] * kLn2Low;
  }
  exp_near_zero<N>(remainder, p);
  for (int k = 0; k < N; ++k) {
#if defined(__AVX512F__)
    const __mmask16 counts = _mm512_cmp_ps_mask((__m512)x[k], (__m512)fill(-87.0f), _CMP_NLT_UQ);
    x[k] = (Vec<float>)_mm512_maskz_scalef_ps(counts, (__m512)p[k], (__m512)power[k]);
#else
    // 2^(power - 1) from its exponent bits, then times 2: a power of 128 has no bits of its own.
    const Bits<float> bits = (__builtin_convertvector(power[k], Bits<float>) + 126) << 23;
    Vec<float> half;
    std::memcpy(&half, &bits, sizeof(half));
    const Vec<float> result = p[k] * half * 2.0f;
    x[k] = x[k] < -87.0f ? zero : result;
#endif
  }
}

FASTIFO_INLINE Vec<float> exp(Vec<float> x) {
  exp_each<1>(&x);
  return x;
}

template <typename Function>
FASTIFO_INLINE Vec<double> each_lane(Vec<double> x, const Function& function) {
  double lane[kLanes<double>];
  store(lane, x);
  for (double& value : lane) value = function(value);
  return load(lane);
}

// Double precision is for tests and precision studies, not for speed.
FASTIFO_INLINE Vec<double> exp(Vec<double> x) {
  return each_lane(x, [](double value) { return std::exp(value); });
}

template <int N>
FASTIFO_INLINE void exp_each(Vec<double>* x) {
  for (int k = 0; k < N; ++k) x[k] = exp(x[k]);
}

FASTIFO_INLINE Vec<double> tanh(Vec<double> x) {
  return each_lane(x, [](double value) { return std::tanh(value); });
}

// 1 / x within 2 units in the last place, from an estimate and a Newton step, because a division
// takes at least 10 cycles. Not valid for 0 and infinity.
FASTIFO_INLINE Vec<float> reciprocal(Vec<float> x) {
#if defined(__AVX512F__)
  const Vec<float> estimate = (Vec<float>)_mm512_maskz_rcp14_ps(kAllLanes, (__m512)x);
  return estimate * (2.0f - x * estimate);
#else
  return 1.0f / x;
#endif
}

FASTIFO_INLINE Vec<double> reciprocal(Vec<double> x) { return 1.0 / x; }

// tanh(x) within 3 units in the last place, also for small arguments. Polynomial: Cephes tanhf.
FASTIFO_INLINE Vec<float> tanh(Vec<float> x) {
  using V = Vec<float>;
  const V size = x < 0.0f ? -x : x;
  const V bounded = size > 20.0f ? fill(20.0f) : size;  // keeps a NaN
  const V large = 1.0f - 2.0f * reciprocal(exp(bounded + bounded) + 1.0f);
  const V square = x * x;
  V p = fill(-5.70498872745e-3f);
  p = p * square + 2.06390887954e-2f;
  p = p * square - 5.37397155531e-2f;
  p = p * square + 1.33314422036e-1f;
  p = p * square - 3.33332819422e-1f;
  const V small = (p * square) * x + x;
  const V far = x < 0.0f ? -large : large;
  return size < 0.625f ? small : far;
}

// sqrt(x) for x >= 0 within 2 units in the last place, from an estimate and a Newton step.
FASTIFO_INLINE Vec<float> root(Vec<float> x) {
#if defined(__AVX512F__)
  const Vec<float> tiny = fill(std::numeric_limits<float>::min());
  const Vec<float> zero{};
  const Vec<float> estimate =
      (Vec<float>)_mm512_maskz_rsqrt14_ps(kAllLanes, (__m512)(x < tiny ? tiny : x));
  const Vec<float> guess = x * estimate;  // the Newton step below is on the root itself
  const Vec<float> result = guess + 0.5f * estimate * (x - guess * guess);
  return x < tiny ? zero : result;
#else
  Vec<float> result;
  for (int i = 0; i < kLanes<float>; ++i) result[i] = std::sqrt(x[i]);
  return result;
#endif
}

FASTIFO_INLINE Vec<double> root(Vec<double> x) {
  return each_lane(x, [](double value) { return std::sqrt(value); });
}

}  // namespace FASTIFO_ISA
}  // namespace fastifo

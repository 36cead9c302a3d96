// The discretised-action head. Raw logits u of one row and action dimension become
//   l[i] = norm[i] * sum over |d| <= radius of taps[|d|] * u[i + d],  p = softmax(l)
// (terms outside the bins are left out).
#pragma once

#include <cstdint>

#include "common/check.h"
#include "common/isa.h"

namespace fastifo {

FASTIFO_EACH_ISA(
    // loss = mean over rows of weight * sum over dimensions of -log p[bin of action]
    template <typename T>
    void binned_nll_cpu(const T* logits,  // [members, rows, dims, bins]
                        const T* action,  // [members, rows, dims] in [-1, 1]
                        const T* weight,  // [members, rows], or null for ones
                        const T* taps,    // [members, radius + 1]
                        const T* norm,    // [members, bins]
                        T* row_loss,      // [members, rows] workspace
                        T* loss,          // [members]
                        T* gradient,      // as logits
                        int64_t members, int64_t rows, int64_t dims, int64_t bins, int64_t radius);

    // The first bin whose cumulative weight exceeds uniform times the total.
    template <typename T>
    void binned_sample_cpu(const T* logits,
                           const T* uniform,  // [members, rows, dims] in [0, 1)
                           const T* taps, const T* norm,
                           int64_t* out,  // [members, rows, dims]
                           int64_t members, int64_t rows, int64_t dims, int64_t bins,
                           int64_t radius);

    // The likeliest bin, the lowest on ties.
    template <typename T> void binned_mode_cpu(const T* logits, const T* taps, const T* norm,
                                               int64_t* out,  // [members, rows, dims]
                                               int64_t members, int64_t rows, int64_t dims,
                                               int64_t bins, int64_t radius);)

template <typename T>
void binned_nll_cuda(const T* logits, const T* action, const T* weight, const T* taps,
                     const T* norm, T* row_loss, T* loss, T* gradient, int64_t members,
                     int64_t rows, int64_t dims, int64_t bins, int64_t radius, cudaStream_t stream);

template <typename T>
void binned_sample_cuda(const T* logits, const T* uniform, const T* taps, const T* norm,
                        int64_t* out, int64_t members, int64_t rows, int64_t dims, int64_t bins,
                        int64_t radius, cudaStream_t stream);

template <typename T>
void binned_mode_cuda(const T* logits, const T* taps, const T* norm, int64_t* out, int64_t members,
                      int64_t rows, int64_t dims, int64_t bins, int64_t radius,
                      cudaStream_t stream);

}  // namespace fastifo

// Functions that run on the CPU and on the GPU. They are always inlined: one instruction set's code
// must never serve another (common/isa.h).
#pragma once

#ifdef __CUDACC__
#define FASTIFO_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define FASTIFO_HOST_DEVICE inline __attribute__((always_inline))
#endif

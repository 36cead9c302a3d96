// Argument checks that raise Python exceptions, and the launch check of CUDA kernels.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

#ifdef __CUDACC__
#include <cuda_runtime.h>
#else
// Declares the stream type, so that headers compile without the CUDA toolkit.
struct CUstream_st;
using cudaStream_t = CUstream_st*;
#endif

// Throws std::invalid_argument, which is a ValueError in Python. `message` is a stream expression
// that names the argument, what was expected and what was found:
//   FASTIFO_CHECK(size >= 0, "size: expected at least 0, found " << size)
#define FASTIFO_CHECK(condition, message)                \
  do {                                                   \
    if (!(condition)) {                                  \
      std::ostringstream text;                           \
      text << message; /* NOLINT: a stream expression */ \
      throw std::invalid_argument(text.str());           \
    }                                                    \
  } while (false)

#ifdef __CUDACC__
namespace fastifo {

// Throws std::runtime_error if the launch just made failed. Does not wait for the kernel, so it may
// be called while a stream is captured.
inline void check_launch(const char* kernel) {
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(kernel) +
                             ": CUDA launch failed: " + cudaGetErrorString(status));
  }
}

}  // namespace fastifo
#endif

// Argument checks that become Python exceptions, and the launch check of the CUDA files.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

#ifdef __CUDACC__
#include <cuda_runtime.h>
#else
// The name of a stream in the headers, so that a build without the CUDA toolkit can read them.
struct CUstream_st;
using cudaStream_t = CUstream_st*;
#endif

// Throws std::invalid_argument, a ValueError in Python. `message` is a stream expression that names
// the argument, what was expected and what was found: FASTIFO_CHECK(size >= 0, "size: expected at
// least 0, found " << size).
#define FASTIFO_CHECK(condition, message)          \
  do {                                             \
    if (!(condition)) {                            \
      std::ostringstream text;                     \
      text << message; /* NOLINT: a stream tail */ \
      throw std::invalid_argument(text.str());     \
    }                                              \
  } while (false)

#ifdef __CUDACC__
namespace fastifo {

// Throws when the kernel just launched was refused. Does not wait for it, so it may stand inside a
// stream capture.
inline void check_launch(const char* kernel) {
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(kernel) +
                             ": CUDA launch failed: " + cudaGetErrorString(status));
  }
}

}  // namespace fastifo
#endif

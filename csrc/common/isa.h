// The instruction sets that CPU code is compiled for. Every op and the engine are compiled once per
// set into a namespace of that name, which FASTIFO_ISA holds. The bindings offer each set as a
// submodule, and Python uses the first one that the machine supports.
#pragma once

#if defined(__x86_64__)
#define FASTIFO_X86 1
#define FASTIFO_EACH_ISA(...) \
  namespace avx512 {          \
  __VA_ARGS__                 \
  }                           \
  namespace avx2 {            \
  __VA_ARGS__                 \
  }                           \
  namespace plain {           \
  __VA_ARGS__                 \
  }                           \
  namespace fp64 {            \
  __VA_ARGS__                 \
  }
#else
#define FASTIFO_EACH_ISA(...) \
  namespace plain {           \
  __VA_ARGS__                 \
  }                           \
  namespace fp64 {            \
  __VA_ARGS__                 \
  }
#endif

// Which instruction sets a CPU kernel is compiled for. Every csrc/<op>.cpp is compiled once per
// set, with FASTIFO_ISA naming it, into a namespace of that name; the bindings offer each under its
// own submodule, and Python takes the first that the machine has.
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

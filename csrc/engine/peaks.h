// The speeds that bound an update on this machine, measured by small loops that do nothing else.
#pragma once

#include <cstdint>
#include <string>

#include "common/isa.h"

namespace fastifo {

FASTIFO_EACH_ISA(
    // The rate at which `threads` threads together run one kind of work, each at the speed of its
    // fastest millisecond.
    //
    // work: "fma", "avx512bf16" or "amx", in FLOP/s: products and sums on registers, in single
    //   precision and by each bf16 unit; or "adam", in parameters/s: steps of Adam on `parameters`
    //   parameters per thread, whose gradients lie in L1 as they do in an update.
    // Throws std::invalid_argument for work that the machine lacks.
    double peak_rate(const std::string& work, int64_t parameters, int64_t threads, double seconds);)

}  // namespace fastifo

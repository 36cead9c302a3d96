// Pages of 2 MiB for large arrays: the engine reads rows of a dataset at random and a member's
// state in panels, and the processor finds few of their usual pages without a walk through page
// tables.
#pragma once

#include <cstddef>

namespace fastifo {

constexpr size_t kHugePage = size_t{1} << 21;  // bytes

// Asks for huge pages behind those parts of `data` that they can cover; memory in use is moved to
// them. Its contents stay, and what the system refuses has no effect.
void advise_huge_pages(void* data, size_t bytes);

}  // namespace fastifo

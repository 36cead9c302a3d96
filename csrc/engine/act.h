// Actions of several binned policies in one call.
#pragma once

#include "common/isa.h"
#include "engine/plan.h"

namespace fastifo {

FASTIFO_EACH_ISA(
    // Samples an action for each row, or takes the most likely one if `episodes` is 0.
    //
    // plans: of one member each.
    // first: [plans + 1], each plan's first row, then the number of rows.
    // obs: [rows, obs_dim].
    // episode: [rows], the index of each row's episode, below `episodes`. Random numbers are
    //   drawn for all episodes at every step, so that an episode's actions do not depend on which
    //   others are still running.
    // action: [rows, action_dim], centres of bins in [-1, 1].
    void act_cpu(const std::vector<Plan*>& plans, const int64_t* first, const void* obs,
                 const int64_t* episode, int64_t episodes, int64_t purpose, int64_t step,
                 void* action);)

}  // namespace fastifo

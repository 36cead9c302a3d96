// Actions of many binned policies at once.
#pragma once

#include "common/isa.h"
#include "engine/plan.h"

namespace fastifo {

FASTIFO_EACH_ISA(
    // plans: of one member each.  first: [plans + 1], where each one's rows begin, and the end.
    // obs: [rows, obs_dim].  action: [rows, action_dim], of bins' centres in [-1, 1].
    // episode: [rows], which of `episodes` a row belongs to; samples are drawn by the numbers of
    // all of them at this step, so that one does not depend on which others go on.  episodes: 0
    // takes the likeliest action.
    void act_cpu(const std::vector<Plan*>& plans, const int64_t* first, const void* obs,
                 const int64_t* episode, int64_t episodes, int64_t purpose, int64_t step,
                 void* action);)

}  // namespace fastifo

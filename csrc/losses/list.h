// The losses of the native engine. A new one is a header here, its #include and its type in
// `Losses`.
#pragma once

#include <cstring>
#include <iterator>
#include <string_view>

#include "losses/awr.h"
#include "losses/bc.h"
#include "losses/dilo.h"
#include "losses/discriminator.h"
#include "losses/inverse.h"
#include "losses/iql.h"
#include "losses/lobsdice.h"
#include "losses/pw_dice.h"
#include "losses/rebrac.h"
#include "losses/smodice.h"
#include "losses/sqil.h"
#include "losses/tailo.h"
#include "losses/vfo.h"

namespace fastifo {

template <typename... Types>
struct TypeList {};

template <typename Real>
using Losses = TypeList<AWR<Real>, BC<Real>, DILO<Real>, Discriminator<Real>, Inverse<Real>,
                        IQL<Real>, LobsDICE<Real>, PWDICE<Real>, ReBRAC<Real>, SMODICE<Real>,
                        SQIL<Real>, TAILO<Real>, VfO<Real>>;

// Calls visit<Loss>() for the loss of that name; false if there is none.
template <typename... Types, typename Visit>
inline bool visit_loss(TypeList<Types...>, const char* name, const Visit& visit) {
  const auto visit_if_named = [&]<typename Loss>() {
    if (std::strcmp(name, Loss::kName) != 0) return false;
    visit.template operator()<Loss>();
    return true;
  };
  return (visit_if_named.template operator()<Types>() || ...);
}

// The index of one of a loss's metrics; -1 if there is none of that name.
template <typename Loss>
constexpr int metric_index(const char* name) {
  for (int i = 0; i < static_cast<int>(std::size(Loss::kMetrics)); ++i) {
    if (std::string_view(Loss::kMetrics[i]) == name) return i;
  }
  return -1;
}

}  // namespace fastifo

// How the tables came to be what they are: numbered scripts, each applied once.
//
// Every part of the program has migrations of its own (`area`), numbered from 1 without gaps. What was applied is kept
// with its hash in the table `migrations`; a script that was changed afterwards, or a database that knows a number we
// do not (it was used by a newer Redoubt), is an error and nothing is touched. Nodes that start at once wait for one
// another: one applies, the others find it done.
#pragma once

#include <span>
#include <string_view>

#include "core/clock.h"
#include "core/result.h"
#include "storage/database.h"

namespace redoubt {

struct Migration {
  int64_t number;
  std::string_view name;    // "keys": to be shown
  std::string_view script;  // statements parted by `;`, in the one SQL that both databases read
};

Status migrate(Database& database, std::string_view area, std::span<const Migration> migrations,
               const WallClock& clock);

}  // namespace redoubt

#include "server/known_callers.h"

#include <algorithm>
#include <iterator>

#include "governance/principal.h"

namespace redoubt {
namespace {

// What one caller may have for each that is left: one alone has four fifths.
constexpr int64_t kShare = 4;
// The last of them are for callers who have none.
constexpr int64_t kForNewOnes = 8;

}  // namespace

std::string caller_name(const Principal& principal) {
  const bool is_key_file = principal.auth_method == "api_key" && principal.key_id.empty();
  return principal.kind == PrincipalKind::open || is_key_file ? std::string() : principal.id;
}

bool has_share(int64_t theirs, int64_t left, int64_t most) {
  return theirs > 0 && (theirs >= kShare * left || kForNewOnes * left <= most);
}

KnownCallers::Use KnownCallers::use(HttpConnection* connection, const std::string& who) {
  const auto place = places_.find(connection);
  const bool was_busy = place != places_.end() && place->second.is_busy;
  if (was_busy && place->second.who == who) return Use::taken;
  const int64_t others = busy_ - (was_busy ? 1 : 0);
  if (others >= most_) return Use::full;
  const auto caller = callers_.find(who);
  const int64_t theirs = caller == callers_.end() ? 0 : std::ssize(caller->second.busy);
  const int64_t left = most_ - others;
  if (!who.empty() && has_share(theirs, left, most_)) return Use::too_many;
  forget(connection);
  std::list<HttpConnection*>& busy = callers_[who].busy;
  places_[connection] = {.who = who, .is_busy = true, .at = busy.insert(busy.end(), connection)};
  ++busy_;
  return Use::taken;
}

void KnownCallers::rest(HttpConnection* connection) {
  const auto place = places_.find(connection);
  if (place == places_.end() || !place->second.is_busy) return;
  Caller& caller = callers_.at(place->second.who);
  caller.resting.splice(caller.resting.end(), caller.busy, place->second.at);
  place->second.is_busy = false;
  --busy_;
}

void KnownCallers::forget(HttpConnection* connection) {
  const auto place = places_.find(connection);
  if (place == places_.end()) return;
  const auto caller = callers_.find(place->second.who);
  (place->second.is_busy ? caller->second.busy : caller->second.resting).erase(place->second.at);
  if (place->second.is_busy) --busy_;
  if (caller->second.size() == 0) callers_.erase(caller);
  places_.erase(place);
}

HttpConnection* KnownCallers::surplus(bool (*waits)(const HttpConnection&)) const {
  if (size() <= most_) return nullptr;
  const Caller* most = nullptr;
  for (const auto& [who, caller] : callers_) {
    if (!caller.resting.empty() && (most == nullptr || caller.size() > most->size())) most = &caller;
  }
  if (most == nullptr) return nullptr;
  const auto found = std::ranges::find_if(most->resting, [&](const HttpConnection* one) { return waits(*one); });
  return found == most->resting.end() ? most->resting.front() : *found;
}

}  // namespace redoubt

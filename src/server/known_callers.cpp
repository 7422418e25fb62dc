#include "server/known_callers.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "governance/principal.h"

namespace redoubt {

std::string caller_name(const Principal& principal) {
  const bool is_key_file = principal.auth_method == "api_key" && principal.key_id.empty();
  return principal.kind == PrincipalKind::open || is_key_file ? std::string() : principal.id;
}

bool KnownCallers::use(HttpConnection* connection, const std::string& who, int64_t most) {
  const auto place = places_.find(connection);
  if (place != places_.end() && place->second.who == who) {
    Connections& theirs = of_caller_[who];
    theirs.splice(theirs.end(), theirs, place->second.at);
    return true;
  }
  const auto others = of_caller_.find(who);
  if (!who.empty() && others != of_caller_.end() && std::ssize(others->second) >= most) return false;
  forget(connection);
  Connections& theirs = of_caller_[who];
  places_[connection] = {who, theirs.insert(theirs.end(), connection)};
  return true;
}

void KnownCallers::forget(HttpConnection* connection) {
  const auto place = places_.find(connection);
  if (place == places_.end()) return;
  const auto theirs = of_caller_.find(place->second.who);
  theirs->second.erase(place->second.at);
  if (theirs->second.empty()) of_caller_.erase(theirs);
  places_.erase(place);
}

HttpConnection* KnownCallers::leaves(bool (*may_leave)(const HttpConnection&)) const {
  std::vector<const Connections*> callers;
  for (const auto& [who, theirs] : of_caller_) callers.push_back(&theirs);
  std::ranges::sort(callers, [](const Connections* a, const Connections* b) { return a->size() > b->size(); });
  for (const Connections* theirs : callers) {
    const auto found = std::ranges::find_if(*theirs, [&](const HttpConnection* one) { return may_leave(*one); });
    if (found != theirs->end()) return *found;
  }
  return nullptr;
}

}  // namespace redoubt

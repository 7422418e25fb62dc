#include "server/strangers.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace redoubt {

std::string share_address(std::string_view peer, const TrustedProxies& trusted) {
  auto address = IpAddress::parse(peer);
  if (!address || address->loopback() || trusted.contains(peer)) return {};
  if (!address->is_v4) std::fill(std::next(address->bytes.begin(), 8), address->bytes.end(), uint8_t{0});
  return address->text();
}

void Strangers::add(HttpConnection* connection, std::string address) {
  if (!address.empty()) ++of_address_[address];
  places_[connection] = by_age_.insert(by_age_.end(), {connection, std::move(address)});
}

void Strangers::forget(HttpConnection* connection) {
  const auto place = places_.find(connection);
  if (place == places_.end()) return;
  const auto counted = of_address_.find(place->second->address);
  if (counted != of_address_.end() && --counted->second == 0) of_address_.erase(counted);
  by_age_.erase(place->second);
  places_.erase(place);
}

HttpConnection* Strangers::beyond_share(std::string_view address, int64_t taken, const Limits& limits) const {
  const auto counted = of_address_.find(std::string(address));
  if (counted == of_address_.end() || counted->second < limits.per_address || 2 * taken < limits.most) return nullptr;
  return std::ranges::find(by_age_, address, &Stranger::address)->connection;
}

Strangers::Answer Strangers::room_for(std::string_view address, int64_t taken, const Limits& limits) const {
  if (HttpConnection* own = beyond_share(address, taken, limits); own != nullptr) return {Room::after_one_leaves, own};
  if (taken < limits.most) return {};
  if (by_age_.empty()) return {Room::none, nullptr};
  return {Room::after_one_leaves, by_age_.front().connection};
}

}  // namespace redoubt

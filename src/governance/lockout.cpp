#include "governance/lockout.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace redoubt {

std::string address_group(std::string_view address) {
  const std::string text(address);
  std::array<unsigned char, 16> bytes{};
  if (inet_pton(AF_INET6, text.c_str(), bytes.data()) != 1) return text;
  char shown[INET6_ADDRSTRLEN] = {};
  if (IN6_IS_ADDR_V4MAPPED(reinterpret_cast<const in6_addr*>(bytes.data()))) {
    inet_ntop(AF_INET, bytes.data() + 12, shown, sizeof shown);
    return shown;
  }
  std::fill(bytes.begin() + 8, bytes.end(), 0);
  inet_ntop(AF_INET6, bytes.data(), shown, sizeof shown);
  return std::string(shown) + "/64";
}

Lockout::Address& Lockout::entry(std::string_view address) {
  std::string name = address_group(address);
  if (const auto found = by_name_.find(name); found != by_name_.end()) {
    addresses_.splice(addresses_.begin(), addresses_, found->second);
    return addresses_.front();
  }
  if (addresses_.size() >= options_.max_addresses) {
    by_name_.erase(addresses_.back().name);
    addresses_.pop_back();
  }
  addresses_.push_front({.name = name});
  by_name_.emplace(std::move(name), addresses_.begin());
  return addresses_.front();
}

Lockout::Address* Lockout::find(std::string_view address) {
  const auto found = by_name_.find(address_group(address));
  return found == by_name_.end() ? nullptr : &*found->second;
}

void Lockout::count(Count& count, int64_t now_s) {
  if (now_s < count.until_s) return;  // it waits already
  if (now_s - count.begun_s >= options_.window_s) {
    // Quiet for as long as the longest wait: what was before is forgotten.
    if (now_s - count.begun_s >= options_.max_lock_s + options_.window_s) count.locks = 0;
    count.begun_s = now_s;
    count.failures = 0;
  }
  if (++count.failures < options_.failures) return;
  const int64_t wait_s = std::min(options_.max_lock_s, options_.lock_s << std::min(count.locks, 20));
  ++count.locks;
  count.failures = 0;
  count.until_s = now_s + wait_s;
  count.begun_s = count.until_s;
  last_until_s_ = std::max(last_until_s_.load(), count.until_s);
}

int64_t Lockout::wait_of(std::string_view address) {
  const int64_t now = now_s();
  if (now >= last_until_s_) return 0;
  const std::lock_guard lock(mutex_);
  const Address* found = find(address);
  return found == nullptr ? 0 : std::max<int64_t>(0, found->all.until_s - now);
}

int64_t Lockout::failed(std::string_view address, std::string_view account) {
  const int64_t now = now_s();
  const std::lock_guard lock(mutex_);
  Address& found = entry(address);
  auto own = found.accounts.find(account);
  if (own == found.accounts.end()) {
    if (account.empty() || found.accounts.size() >= options_.max_accounts) {
      count(found.all, now);
      return 0;
    }
    own = found.accounts.emplace(std::string(account), Count()).first;
  }
  const int64_t wait_s = std::max<int64_t>(0, own->second.until_s - now);
  count(own->second, now);
  return wait_s;
}

bool Lockout::may_verify(std::string_view address) {
  const int64_t now = now_s();
  const std::lock_guard lock(mutex_);
  Address& found = entry(address);
  if (found.verified_s != now) {
    found.verified_s = now;
    found.verified = 0;
  }
  return ++found.verified <= options_.verifications_per_s;
}

void Lockout::chosen_came_in(std::string_view address) {
  const std::lock_guard lock(mutex_);
  entry(address).chosen_s = now_s();
}

bool Lockout::chosen_is_known(std::string_view address) {
  const std::lock_guard lock(mutex_);
  const Address* found = find(address);
  return found != nullptr && found->chosen_s && now_s() - *found->chosen_s < options_.known_s;
}

}  // namespace redoubt

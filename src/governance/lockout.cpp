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

bool Lockout::knows(const Address& address, std::string_view account, int64_t now_s) const {
  const auto found = address.known.find(account);
  return found != address.known.end() && now_s - found->second < options_.known_s;
}

int64_t Lockout::wait_before(std::string_view address) {
  const int64_t now_s = clock_.now_ns() / 1'000'000'000;
  if (now_s >= last_until_s_) return 0;
  const std::lock_guard lock(mutex_);
  const Address* found = find(address);
  if (found == nullptr || now_s >= found->all.until_s) return 0;
  const bool somebody =
      std::ranges::any_of(found->known, [&](const auto& known) { return now_s - known.second < options_.known_s; });
  return somebody ? 0 : found->all.until_s - now_s;
}

int64_t Lockout::wait_of(const Address& address, std::string_view account, int64_t now_s) const {
  if (const auto own = address.accounts.find(account); own != address.accounts.end() && now_s < own->second.until_s)
    return own->second.until_s - now_s;
  if (now_s < address.all.until_s && !knows(address, account, now_s)) return address.all.until_s - now_s;
  return 0;
}

void Lockout::failed(std::string_view address, std::string_view account) {
  const int64_t now_s = clock_.now_ns() / 1'000'000'000;
  const std::lock_guard lock(mutex_);
  Address& found = entry(address);
  if (account.empty()) return count(found.all, now_s);
  auto own = found.accounts.find(account);
  if (own == found.accounts.end()) {
    if (found.accounts.size() >= options_.max_accounts) return count(found.all, now_s);
    own = found.accounts.emplace(std::string(account), Count()).first;
  }
  count(own->second, now_s);
}

int64_t Lockout::come_in(std::string_view address, std::string_view account) {
  const int64_t now_s = clock_.now_ns() / 1'000'000'000;
  const std::lock_guard lock(mutex_);
  Address& found = entry(address);
  if (const int64_t wait_s = wait_of(found, account, now_s); wait_s > 0) return wait_s;
  if (const auto known = found.known.find(account); known != found.known.end()) {
    known->second = now_s;
    return 0;
  }
  if (found.known.size() >= options_.max_accounts) {
    found.known.erase(std::ranges::min_element(found.known, {}, [](const auto& entry) { return entry.second; }));
  }
  found.known.emplace(std::string(account), now_s);
  return 0;
}

}  // namespace redoubt

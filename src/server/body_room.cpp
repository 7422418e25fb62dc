#include "server/body_room.h"

#include <malloc.h>

#include <chrono>

#include "core/json.h"
#include "server/known_callers.h"

namespace redoubt {
namespace {

// Less is not worth a walk through the allocator's heaps, which holds each of them for some milliseconds.
constexpr int64_t kWorthReturning = 8 << 20;
constexpr std::chrono::seconds kBetweenReturns{2};

// Measured at the peak of one chat request (VmRSS over the idle server's): a million empty objects as arguments of a
// past call 202 MB, as chat_template_kwargs 212 MB, as metadata 84 MB; one message of 29 MB 306 MB.
constexpr int64_t kBytesOfAValue = 208;
constexpr int64_t kBytesOfAByte = 10;

constexpr int64_t kShareOfABody = 16;  // of the last eighth

// Strings that are parsed as JSON themselves: a call's arguments, and schemas by the names they have in requests.
constexpr std::string_view kKeysOfJson[] = {"arguments", "guided_json", "json_schema", "schema", "json"};

}  // namespace

int64_t work_bytes(std::string_view body) {
  if (static_cast<int64_t>(body.size()) * (kBytesOfAValue + kBytesOfAByte) < kFreeWorkBytes) return 0;
  const JsonValues values = count_json_values(body, kKeysOfJson);
  const auto most = static_cast<int64_t>(JsonLimits().max_values);  // of more nothing is built
  return kBytesOfAValue * (std::min(values.outside_strings, most) + std::min(values.inside_strings, most)) +
         kBytesOfAByte * static_cast<int64_t>(body.size());
}

BodyBudget::~BodyBudget() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  wake_.notify_all();
  if (returner_.joinable()) returner_.join();
}

Room BodyBudget::take(const std::string& who, int64_t own, int64_t bytes, For what) {
  const std::lock_guard lock(mutex_);
  const auto found = theirs_.find(who);
  const int64_t theirs = found == theirs_.end() ? 0 : found->second;
  const bool is_alone = used_ == own;
  const int64_t left = bytes_ - used_ - bytes;
  if (left < 0 && !(is_alone && what == For::work)) return Room::none;
  if (!who.empty() && !is_alone) {
    const bool has_others = theirs > own;
    if (has_others && has_share(theirs + bytes, left, bytes_)) return Room::too_much;
    const int64_t body = own + bytes;
    const bool is_in_last_eighth = 8 * left < bytes_;
    if (what == For::body && is_in_last_eighth && kShareOfABody * body > left + body) return Room::none;
  }
  used_ += bytes;
  (found == theirs_.end() ? theirs_[who] : found->second) += bytes;
  return Room::taken;
}

int64_t BodyBudget::used_bytes() const {
  const std::lock_guard lock(mutex_);
  return used_;
}

void BodyBudget::give_back(const std::string& who, int64_t bytes) {
  if (bytes == 0) return;
  {
    const std::lock_guard lock(mutex_);
    used_ -= bytes;
    const auto found = theirs_.find(who);
    if ((found->second -= bytes) == 0) theirs_.erase(found);
    if ((given_back_ += bytes) < kWorthReturning) return;
    is_wanted_ = true;
    if (!returner_.joinable()) returner_ = std::thread([this] { return_memory(); });
  }
  wake_.notify_all();
}

// Memory is told as given back a moment before or after it is freed: the pause first, then the walk.
void BodyBudget::return_memory() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return is_wanted_ || is_stopping_; });
    if (wake_.wait_for(lock, kBetweenReturns, [this] { return is_stopping_; })) return;
    is_wanted_ = false;
    given_back_ = 0;
    lock.unlock();
    malloc_trim(0);
    lock.lock();
  }
}

}  // namespace redoubt

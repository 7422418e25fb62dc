#include "engine/stop_matcher.h"

#include <algorithm>

namespace redoubt {

StopMatcher::StopMatcher(std::vector<std::string> strings, Include include)
    : strings_(std::move(strings)), include_(include) {
  std::erase_if(strings_, [](const std::string& string) { return string.empty(); });
}

bool StopMatcher::push(TokenEvent event, std::vector<TokenEvent>& released) {
  text_ += event.text;
  held_.push_back(std::move(event));
  if (strings_.empty()) return flush(released), false;

  if (const Found found = find(); found.string != nullptr) {
    size_t keep = include_ == Include::yes ? found.end : found.begin;
    for (TokenEvent& each : held_) {
      const size_t size = each.text.size();
      if (size > keep) each.text.resize(keep);
      if (size > 0 && each.text.empty()) each.logprob.reset();
      keep -= std::min(size, keep);
    }
    matched_ = *found.string;
    flush(released);
    return true;
  }

  // Whole events before the first byte that may belong to a stop string leave.
  const size_t safe = text_.size() - holdable_suffix();
  size_t count = 0, bytes = 0;
  while (count < held_.size() && bytes + held_[count].text.size() <= safe) bytes += held_[count++].text.size();
  release(count, released);
  text_.erase(0, bytes);
  return false;
}

void StopMatcher::flush(std::vector<TokenEvent>& released) {
  release(held_.size(), released);
  text_.clear();
}

void StopMatcher::release(size_t count, std::vector<TokenEvent>& released) {
  for (size_t i = 0; i < count; ++i) {
    released.push_back(std::move(held_.front()));
    held_.pop_front();
  }
}

StopMatcher::Found StopMatcher::find() const {
  Found best;
  for (const std::string& string : strings_) {
    const size_t begin = text_.find(string);
    if (begin == std::string::npos) continue;
    const size_t end = begin + string.size();
    if (best.string == nullptr || end < best.end || (end == best.end && begin < best.begin))
      best = {begin, end, &string};
  }
  return best;
}

size_t StopMatcher::holdable_suffix() const {
  size_t longest = 0;
  for (const std::string& string : strings_) {
    for (size_t size = std::min(string.size() - 1, text_.size()); size > longest; --size)
      if (text_.compare(text_.size() - size, size, string, 0, size) == 0) longest = size;
  }
  return longest;
}

}  // namespace redoubt

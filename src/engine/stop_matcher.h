// Stop strings over a stream of events: they may lie across tokens, and none of their text may leave before it is known
// whether they match.
//
// An event whose text may be the beginning of a stop string is held back whole and released, in order, as soon as it
// cannot be. The match is the one that ends first in the text (of those the one that begins first), whatever the token
// boundaries. On a match the text is cut where the match begins (or ends, with `include`); events behind the cut stay,
// because their tokens were generated, with no text and no log-probability.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"

namespace redoubt {

class StopMatcher {
 public:
  enum class Include : uint8_t { no, yes };  // whether the matched string stays in the text

  StopMatcher(std::vector<std::string> strings, Include include);

  // Takes one event and appends those that may leave to `released`. True: matched; everything has been released, the
  // last event is the one that completed the match.
  bool push(TokenEvent event, std::vector<TokenEvent>& released);
  void flush(std::vector<TokenEvent>& released);  // the answer ended otherwise: nothing is lost
  const std::string& matched() const { return matched_; }

 private:
  struct Found {
    size_t begin = std::string_view::npos, end = 0;
    const std::string* string = nullptr;
  };
  Found find() const;
  size_t holdable_suffix() const;
  void release(size_t count, std::vector<TokenEvent>& released);

  std::vector<std::string> strings_;
  Include include_;
  std::deque<TokenEvent> held_;
  std::string text_;  // of held_, joined
  std::string matched_;
};

}  // namespace redoubt

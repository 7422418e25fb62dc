// How long a model stays loaded when nobody asks for it: a time of its own where one was given, else the server's.
#pragma once

#include <cstdint>
#include <optional>

namespace redoubt {

struct ModelStay {
  std::optional<int64_t> idle_s;  // nullopt: for ever (but for memory that another model needs); 0: not at all

  bool is_over(int64_t idle_since_ns, int64_t now_ns) const {
    return idle_s.has_value() && now_ns - idle_since_ns >= *idle_s * 1'000'000'000;
  }
};

}  // namespace redoubt

// The limits of one HTTP request on their way through the engine: a reservation for each of its prompts, extended while
// the engine generates, settled to what it counted.
//
// The engine's side of a reservation is an Allowance: it asks early, the answer comes from the limits' own thread, and
// nobody waits. Thread safety: settle and refund once for each prompt, from the engine's thread; the rest before
// submit.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "engine/engine.h"
#include "governance/limits.h"
#include "server/http.h"

namespace redoubt {

// Which answers may think, and so meet the limits of thinking.
enum class MayThink : uint8_t {
  never,         // the model has no think marks
  where_opened,  // a raw prompt: only where it ends inside the block
  unless_told,   // a chat: also where the answer opens the block itself
};

class RequestLimits : public std::enable_shared_from_this<RequestLimits> {
 public:
  // Takes for all prompts or for none, and bounds the requests by what was given: allowance, max_tokens, thinking
  // budget, share of the machine. An answer that reserved no thinking and opens the block all the same has it closed at
  // once, if a day's thinking is limited. `taken` (may be null): the request that was taken before the body was worked
  // on, which is the last prompt's; where it is refused the request stays taken, unless the ledger could not be asked.
  static std::variant<std::shared_ptr<RequestLimits>, ApiError> reserve(Limits& limits, const Principal& principal,
                                                                        const std::string& model, MayThink may_think,
                                                                        std::vector<GenerationRequest>& requests,
                                                                        Reservation* taken = nullptr);

  // The leases ended while the database was away: the answer has to end with an error.
  void on_lost(const std::function<void(const std::string& limit)>& callback);

  // To what was computed; where that is nothing, the request counts alone.
  void settle(size_t prompt, const GenerationUsage& usage);
  // The server is at fault: not even the request counts.
  void refund(size_t prompt) { prompts_[prompt].reservation = {}; }
  std::string limit_of(size_t prompt) const;  // that ended an answer; "" if none did
  // That bounded max_tokens, of an answer that ended there; "" if the request or the model's context did.
  std::string limit_of_length(size_t prompt, int64_t max_context) const;
  // It ended because the limits' database could not be asked for more: an error, not the answer's length.
  bool is_unavailable(size_t prompt) const { return prompts_[prompt].is_unavailable; }
  const HttpHeaders& headers() const { return headers_; }

 private:
  struct Prompt {
    Reservation reservation;
    std::shared_ptr<Allowance> allowance;  // null: no limit
    int64_t bounded_tokens = 0;            // of prompt and answer, where a limit bounded max_tokens; 0: none did
    std::atomic<bool> is_unavailable{false};
  };
  void bind(size_t prompt, MayThink may_think, GenerationRequest& request);

  std::deque<Prompt> prompts_;
  HttpHeaders headers_;
};

ApiError limit_error(const LimitRefusal& refusal);
ApiError limits_unavailable(const std::string& limit);  // in the middle of an answer

}  // namespace redoubt

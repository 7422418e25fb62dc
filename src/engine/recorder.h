// A listener for tests: keeps what it hears, in a form that two runs can be compared by, and lets a thread wait.
#pragma once

#include <bit>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace redoubt::test {

struct RecordedToken {
  int32_t token = -1;
  std::string text;
  bool in_reasoning = false;
  std::vector<std::pair<int32_t, uint32_t>> logprobs;  // bits of the floats: its own, then the top
  bool operator==(const RecordedToken&) const = default;
};

struct RecordedAnswer {
  std::vector<RecordedToken> tokens;  // the last may be -1
  FinishReason finish = FinishReason::none;
  std::string stop_string;
  std::optional<int32_t> stop_token;
  bool by_allowance = false;
  std::optional<ErrorCode> error;
  std::string error_param;
  int finishes = 0;
  bool operator==(const RecordedAnswer&) const = default;

  std::string text() const {
    std::string all;
    for (const RecordedToken& token : tokens) all += token.text;
    return all;
  }
  std::vector<int32_t> ids() const {
    std::vector<int32_t> all;
    for (const RecordedToken& token : tokens)
      if (token.token >= 0) all.push_back(token.token);
    return all;
  }
};

inline std::vector<std::pair<int32_t, uint32_t>> logprob_bits(const std::optional<TokenLogprob>& logprob) {
  std::vector<std::pair<int32_t, uint32_t>> bits;
  if (!logprob.has_value()) return bits;
  bits.emplace_back(logprob->token, std::bit_cast<uint32_t>(logprob->logprob));
  for (const auto& [token, value] : logprob->top) bits.emplace_back(token, std::bit_cast<uint32_t>(value));
  return bits;
}

class Recorder final : public GenerationListener {
 public:
  void on_token(const TokenEvent& event) override {
    int64_t heard = 0;
    {
      const std::lock_guard lock(mutex_);
      RecordedAnswer& answer = answers_[event.choice];
      answer.tokens.push_back({event.token, event.text, event.in_reasoning, logprob_bits(event.logprob)});
      if (event.finish != FinishReason::none) {
        answer.finish = event.finish;
        answer.stop_string = event.stop_string;
        answer.stop_token = event.stop_token;
        answer.by_allowance = event.by_allowance;
        if (event.error) {
          answer.error = event.error->code;
          answer.error_param = event.error->param;
        }
        ++answer.finishes;
      }
      heard = ++heard_;
      changed_.notify_all();
    }
    if (on_event) on_event(heard);
  }
  void on_done(const GenerationUsage& usage) override {
    const std::lock_guard lock(mutex_);
    usage_ = usage;
    ++dones_;
    changed_.notify_all();
  }

  bool wait_done() {
    return wait([&] { return dones_ > 0; });
  }
  bool wait_events(int64_t count) {
    return wait([&] { return heard_ >= count; });
  }
  std::map<int, RecordedAnswer> answers() { return locked(answers_); }
  RecordedAnswer answer() { return answers()[0]; }
  GenerationUsage usage() { return locked(usage_); }
  int dones() { return locked(dones_); }
  int64_t heard() { return locked(heard_); }

  std::function<void(int64_t heard)> on_event;  // on the engine thread, after each event; set before submit

 private:
  template <class Condition>
  bool wait(Condition condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60), condition);
  }
  template <class T>
  T locked(const T& value) {
    const std::lock_guard lock(mutex_);
    return value;
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int, RecordedAnswer> answers_;
  GenerationUsage usage_;
  int dones_ = 0;
  int64_t heard_ = 0;
};

}  // namespace redoubt::test

#include "apps/spoken_answer.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>

namespace redoubt {
namespace {

// Carries events from the engine's thread to ours.
class Inbox final : public GenerationListener {
 public:
  void on_token(const TokenEvent& event) override {
    const std::lock_guard lock(mutex_);
    events_.push_back(event);
    changed_.notify_one();
  }
  void on_done(const GenerationUsage& usage) override {
    const std::lock_guard lock(mutex_);
    usage_ = usage;
    changed_.notify_one();
  }

  // The next event; nullopt once all are read and the request is done. Wakes now and then to look at `stop`.
  std::optional<TokenEvent> next(const std::function<void()>& while_waiting) {
    std::unique_lock lock(mutex_);
    while (events_.empty() && !usage_) {
      changed_.wait_for(lock, std::chrono::milliseconds(50));
      lock.unlock();
      while_waiting();
      lock.lock();
    }
    if (events_.empty()) return std::nullopt;
    TokenEvent event = std::move(events_.front());
    events_.pop_front();
    return event;
  }
  GenerationUsage usage() const { return *usage_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<TokenEvent> events_;
  std::optional<GenerationUsage> usage_;
};

void take(SpokenAnswer& answer, std::string_view text, bool reasoning, const SpokenSink& sink) {
  if (text.empty()) return;
  (reasoning ? answer.reasoning : answer.text) += text;
  sink(text, reasoning);
}

}  // namespace

Result<SpokenAnswer> speak(LoadedModel& model, GenerationRequest request, const SpokenOptions& options,
                           const SpokenSink& sink) {
  OutputParser parser(model.tokenizer, {.format = model.output_format,
                                        .starts_in_reasoning = request.thinking.starts_in_reasoning,
                                        .parse_tools = false});
  const auto take_parsed = [&](SpokenAnswer& answer, const std::vector<OutputEvent>& events) {
    for (const OutputEvent& event : events) take(answer, event.text, event.kind == OutputEvent::Kind::reasoning, sink);
  };

  const auto inbox = std::make_shared<Inbox>();
  REDOUBT_TRY(const std::shared_ptr<Generation> generation, model.engine->submit(std::move(request), inbox));
  bool cancelled = false;
  const auto look = [&] {
    if (options.stop != nullptr && *options.stop && !cancelled) {
      cancelled = true;
      generation->cancel();
    }
  };

  SpokenAnswer answer;
  std::optional<Error> error;
  while (const std::optional<TokenEvent> event = inbox->next(look)) {
    look();
    const bool is_stop_token = event->finish == FinishReason::stop && event->stop_string.empty();
    if (event->token >= 0 && !is_stop_token) answer.ids.push_back(event->token);
    if (!options.parse_thinking) {
      take(answer, event->text, false, sink);
    } else if (event->token >= 0) {
      take_parsed(answer, parser.push(event->token, event->text));
    } else {
      take(answer, event->text, event->in_reasoning, sink);
    }
    if (event->finish != FinishReason::none) answer.finish = event->finish;
    if (event->error) error = event->error;
  }
  if (options.parse_thinking) take_parsed(answer, parser.finish());
  answer.usage = inbox->usage();
  if (error) return *error;
  return answer;
}

std::string_view finish_name(FinishReason finish) {
  switch (finish) {
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::abort:
      return "abort";
    case FinishReason::error:
      return "error";
    case FinishReason::none:
      break;
  }
  return "none";
}

}  // namespace redoubt

#include "apps/chat_session.h"

#include <fmt/format.h>
#include <signal.h>

#include <charconv>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "apps/data_folder.h"
#include "apps/line_editor.h"
#include "apps/spoken_answer.h"
#include "apps/terminal.h"

namespace redoubt {
namespace {

constexpr const char* kHelp =
    "  /help                 this\n"
    "  /clear                a new conversation\n"
    "  /system TEXT          what the model is told first; empty: nothing\n"
    "  /set                  the settings; /set temp 0.7, top-p, seed, max-tokens, thinking (tokens)\n"
    "  /save FILE            the conversation as JSON\n"
    "  /load FILE            goes on with a saved conversation\n"
    "  /exit                 leaves, as Ctrl-D does\n"
    "  Ctrl-C stops an answer. A line that ends in \\ goes on in the next; pasted lines stay together.\n";

// Set by Ctrl-C while an answer comes; a signal handler can reach nothing but a global.
std::atomic<bool> g_interrupted{false};
void on_interrupt(int) { g_interrupted = true; }

class InterruptGuard {
 public:
  InterruptGuard() {
    g_interrupted = false;
    struct sigaction action {};
    action.sa_handler = on_interrupt;
    sigaction(SIGINT, &action, &before_);
  }
  ~InterruptGuard() { sigaction(SIGINT, &before_, nullptr); }

 private:
  struct sigaction before_ {};
};

template <class Number>
bool read_number(std::string_view text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

// What the program says between answers.
template <class... Args>
void remark(fmt::format_string<Args...> text, Args&&... args) {
  fmt::print("{}{}{}\n", dim_mark(), fmt::format(text, std::forward<Args>(args)...), plain_mark());
}

class ChatSession {
 public:
  ChatSession(LoadedModel& model, ChatSettings settings) : model_(&model), settings_(std::move(settings)) { clear(); }

  Status converse() {
    LineEditor editor(settings_.keeps_history ? history_file() : std::filesystem::path());
    remark("{}. /help tells what else there is; Ctrl-D leaves.", model_->name);
    while (const std::optional<std::string> line = editor.read("> ")) {
      if (line->find_first_not_of(" \t\n") == std::string::npos) continue;
      if (line->starts_with('/')) {
        if (!command(*line)) return ok();
      } else {
        answer(*line);
      }
    }
    fmt::print("\n");
    return ok();
  }

 private:
  static std::filesystem::path history_file() {
    const std::filesystem::path folder = data_folder_path("");
    std::error_code ignored;
    if (std::filesystem::create_directories(folder, ignored))
      std::filesystem::permissions(folder, std::filesystem::perms::owner_all, ignored);
    return folder / "chat_history";
  }

  void clear() {
    messages_ = Json::array();
    if (!settings_.system.empty()) messages_.push_back({{"role", "system"}, {"content", settings_.system}});
  }

  void answer(const std::string& text) {
    messages_.push_back({{"role", "user"}, {"content", text}});
    const Result<SpokenAnswer> spoken = speak_messages();
    fmt::print("{}\n", plain_mark());
    if (!spoken) {
      messages_.erase(messages_.size() - 1);
      const bool full = spoken.error().code == ErrorCode::context_length;
      remark("{}{}", spoken.error().message, full ? "; /clear starts anew" : "");
      return;
    }
    messages_.push_back({{"role", "assistant"}, {"content", spoken->text}});
    const GenerationUsage& usage = spoken->usage;
    const double seconds = static_cast<double>(usage.decode_ns) / 1e9;
    remark("{} tokens{}, {:.1f} tokens/s, first after {:.2f} s{}", usage.completion_tokens,
           usage.reasoning_tokens > 0 ? fmt::format(" ({} of thinking)", usage.reasoning_tokens) : "",
           seconds > 0 ? static_cast<double>(usage.completion_tokens) / seconds : 0.0,
           static_cast<double>(usage.queue_ns + usage.prefill_ns) / 1e9,
           spoken->finish == FinishReason::length  ? ", cut at the limit"
           : spoken->finish == FinishReason::abort ? ", stopped"
                                                   : "");
  }

  Result<SpokenAnswer> speak_messages() {
    REDOUBT_TRY(std::vector<int32_t> prompt, chat_prompt(*model_, messages_));
    const InterruptGuard guard;
    AnswerText shown;
    return speak(*model_, make_request(*model_, settings_, std::move(prompt)),
                 {.parse_thinking = true, .stop = &g_interrupted},
                 [&](std::string_view piece, bool reasoning) { shown.write(piece, reasoning); });
  }

  bool command(const std::string& line) {  // false: leave
    const size_t space = line.find(' ');
    const std::string name = line.substr(0, space);
    const std::string rest =
        space == std::string::npos
            ? ""
            : line.substr(line.find_first_not_of(' ', space) == std::string::npos ? line.size()
                                                                                  : line.find_first_not_of(' ', space));
    if (name == "/exit" || name == "/quit" || name == "/bye") return false;
    if (name == "/help" || name == "/?") {
      fmt::print("{}", kHelp);
    } else if (name == "/clear") {
      clear();
      remark("a new conversation");
    } else if (name == "/system") {
      settings_.system = rest;
      clear();
      remark("a new conversation, {}", rest.empty() ? "without a system text" : "with that system text");
    } else if (name == "/set") {
      set(rest);
    } else if (name == "/save") {
      save(rest);
    } else if (name == "/load") {
      load(rest);
    } else {
      remark("no command {}; /help lists them", name);
    }
    return true;
  }

  void set(const std::string& rest) {
    const size_t space = rest.find(' ');
    const std::string name = rest.substr(0, space), value = space == std::string::npos ? "" : rest.substr(space + 1);
    double real = 0;
    int64_t whole = 0;
    uint64_t seed = 0;
    bool good = true;
    if (name == "temp" && read_number(value, real) && real >= 0 && real <= 2) {
      settings_.temperature = real;
    } else if (name == "top-p" && read_number(value, real) && real > 0 && real <= 1) {
      settings_.top_p = real;
    } else if (name == "seed" && read_number(value, seed)) {
      settings_.seed = seed;
    } else if (name == "max-tokens" && read_number(value, whole) && whole >= 0) {
      settings_.max_tokens = whole;
    } else if (name == "thinking" && read_number(value, whole) && whole >= 0) {
      settings_.thinking_tokens = whole;
    } else {
      good = name.empty();
    }
    if (!good) remark("/set temp 0-2 | top-p 0-1 | seed N | max-tokens N (0: no limit) | thinking N");
    const SamplingParams now = make_request(*model_, settings_, {}).sampling;
    remark("temp {}, top-p {}, seed {}, max-tokens {}, thinking {}", now.temperature, now.top_p,
           settings_.seed ? std::to_string(*settings_.seed) : "another each time", settings_.max_tokens,
           settings_.thinking_tokens ? std::to_string(*settings_.thinking_tokens) : "as the model likes");
  }

  void save(const std::string& file) {
    std::ofstream out(file);
    out << messages_.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
    out.close();
    remark("{}", out ? "saved to " + file : "could not be written: " + file);
  }

  void load(const std::string& file) {
    std::ifstream in(file);
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    Result<Json> messages = in ? parse_json(text) : Result<Json>(not_found("no such file"));
    if (messages && !messages->is_array()) messages = invalid("expected an array of messages");
    if (messages) messages_ = *messages;
    remark("{}", messages ? fmt::format("{} messages from {}", messages_.size(), file)
                          : file + ": " + messages.error().message);
  }

  LoadedModel* model_;
  ChatSettings settings_;
  Json messages_;
};

}  // namespace

GenerationRequest make_request(const LoadedModel& model, const ChatSettings& settings, std::vector<int32_t> prompt) {
  const SamplingDefaults defaults =
      sampling_defaults(model.checkpoint.generation(), model.checkpoint.chat_template(), SilentModel::as_deepseek);
  GenerationRequest request;
  request.id = "terminal";
  request.sampling.temperature = settings.temperature.value_or(defaults.temperature);
  request.sampling.top_p = settings.top_p.value_or(defaults.top_p);
  request.sampling.top_k = static_cast<int>(defaults.top_k);
  request.sampling.min_p = defaults.min_p;
  request.sampling.repetition_penalty = defaults.repetition_penalty;
  request.sampling.seed = settings.seed ? *settings.seed : std::random_device{}();
  request.stop.max_tokens = settings.max_tokens;
  request.stop.ignore_eos = settings.ignore_eos;
  request.thinking.starts_in_reasoning = prompt_opens_reasoning(model.tokenizer, prompt);
  request.thinking.budget_tokens = settings.thinking_tokens;
  request.prompt = std::move(prompt);
  return request;
}

Result<std::vector<int32_t>> chat_prompt(const LoadedModel& model, const Json& messages) {
  if (!model.chat_template) return not_found(model.name + ": the model has no chat template; use --raw");
  const Json context{{"messages", messages}, {"add_generation_prompt", true}, {"tools", nullptr}};
  REDOUBT_TRY(const MarkedText text,
              render_chat(*model.chat_template, context,
                          {{"bos_token", model.tokenizer.bos_text()}, {"eos_token", model.tokenizer.eos_text()}}));
  return model.tokenizer.encode(text);
}

Status chat(LoadedModel& model, ChatSettings settings) { return ChatSession(model, std::move(settings)).converse(); }

}  // namespace redoubt

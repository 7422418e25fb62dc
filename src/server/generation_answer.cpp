#include "server/generation_answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "core/utf8.h"
#include "server/sse.h"

namespace redoubt {
namespace {

constexpr double kLowestLogprob = -9999.0;  // JSON has no minus infinity; OpenAI writes this

void append_logprob_entry(std::string& out, const Tokenizer& tokenizer, int32_t token, float logprob) {
  const std::string_view bytes = tokenizer.bytes(token);
  out += "{\"token\":";
  append_json_string(out, bytes);
  out += ",\"logprob\":";
  append_json_number(out, std::max<double>(logprob, kLowestLogprob));
  out += ",\"bytes\":[";
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i > 0) out += ',';
    fmt::format_to(std::back_inserter(out), "{}", static_cast<unsigned char>(bytes[i]));
  }
  out += ']';
}

}  // namespace

void AnswerChoice::add(const OutputEvent& event, PieceTokens tokens) {
  ids.insert(ids.end(), tokens.ids.begin(), tokens.ids.end());
  auto& logprobs = event.kind == OutputEvent::Kind::reasoning ? reasoning_logprobs : content_logprobs;
  std::move(tokens.logprobs.begin(), tokens.logprobs.end(), std::back_inserter(logprobs));
  switch (event.kind) {
    case OutputEvent::Kind::reasoning:
      reasoning += event.text;
      break;
    case OutputEvent::Kind::content:
      content += event.text;
      break;
    case OutputEvent::Kind::tool_begin:
      calls.push_back({event.text, ""});
      break;
    case OutputEvent::Kind::tool_arguments:
      if (!calls.empty()) calls.back().arguments += event.text;
      break;
    case OutputEvent::Kind::tool_end:
      break;
  }
}

void WholeAnswer::finish_choice(std::string&, int choice, const ChoiceEnd& end) {
  AnswerChoice& target = choices_[static_cast<size_t>(choice)];
  target.end = end;
  target.ids.insert(target.ids.end(), end.ids.begin(), end.ids.end());
}

void append_usage(std::string& out, const AnswerUsage& usage) {
  fmt::format_to(
      std::back_inserter(out),
      R"({{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},)"
      R"("prompt_tokens_details":{{"cached_tokens":{}}},"completion_tokens_details":{{"reasoning_tokens":{}}}}})",
      usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens + usage.completion_tokens, usage.cached_tokens,
      usage.reasoning_tokens);
}

void append_timings(std::string& out, const AnswerUsage& usage) {
  const auto per = [](double a, double b) { return b > 0 ? a / b : 0.0; };
  const double prompt_ms = static_cast<double>(usage.prefill_ns) / 1e6;
  const double predicted_ms = static_cast<double>(usage.decode_ns) / 1e6;
  const int64_t computed = usage.prompt_tokens - usage.cached_tokens;
  const auto prompt_n = static_cast<double>(computed);
  const auto predicted_n = static_cast<double>(usage.completion_tokens);
  fmt::format_to(std::back_inserter(out),
                 R"(,"timings":{{"cache_n":{},"prompt_n":{},"prompt_ms":{:.3f},"prompt_per_token_ms":{:.3f},)"
                 R"("prompt_per_second":{:.3f},"predicted_n":{},"predicted_ms":{:.3f},"predicted_per_token_ms":{:.3f},)"
                 R"("predicted_per_second":{:.3f})",
                 usage.cached_tokens, computed, prompt_ms, per(prompt_ms, prompt_n), per(prompt_n * 1e3, prompt_ms),
                 usage.completion_tokens, predicted_ms, per(predicted_ms, predicted_n),
                 per(predicted_n * 1e3, predicted_ms));
  if (usage.draft_tokens > 0)
    fmt::format_to(std::back_inserter(out), R"(,"draft_n":{},"draft_n_accepted":{})", usage.draft_tokens,
                   usage.accepted_draft_tokens);
  out += '}';
}

void append_chat_logprobs(std::string& out, const std::vector<TokenLogprob>& logprobs, const Tokenizer& tokenizer) {
  out += '[';
  for (size_t i = 0; i < logprobs.size(); ++i) {
    if (i > 0) out += ',';
    append_logprob_entry(out, tokenizer, logprobs[i].token, logprobs[i].logprob);
    out += ",\"top_logprobs\":[";
    for (size_t k = 0; k < logprobs[i].top.size(); ++k) {
      if (k > 0) out += ',';
      append_logprob_entry(out, tokenizer, logprobs[i].top[k].first, logprobs[i].top[k].second);
      out += '}';
    }
    out += "]}";
  }
  out += ']';
}

void append_token_ids(std::string& out, const std::vector<int32_t>& ids) {
  fmt::format_to(std::back_inserter(out), "[{}]", fmt::join(ids, ","));
}

std::string token_text(const Tokenizer& tokenizer, int32_t id) { return repair_utf8(tokenizer.bytes(id)); }

std::string_view openai_finish_reason(EndReason reason) {
  switch (reason) {
    case EndReason::length:
      return "length";
    case EndReason::tool_calls:
      return "tool_calls";
    default:
      return "stop";
  }
}

void append_stop_reason(std::string& out, const ChoiceEnd& end) {
  out += ",\"stop_reason\":";
  if (!end.stop_string.empty())
    append_json_string(out, end.stop_string);
  else if (!end.limit.empty())
    append_json_string(out, "limit:" + end.limit);
  else if (end.stop_token)
    fmt::format_to(std::back_inserter(out), "{}", *end.stop_token);
  else
    out += "null";
}

void append_limit(std::string& out, const ChoiceEnd& end) {
  if (end.limit.empty()) return;
  out += ",\"limit\":";
  append_json_string(out, end.limit);
}

}  // namespace redoubt

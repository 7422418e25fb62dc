#include "server/routes_errors.h"

#include <fmt/format.h>

#include <cstdio>
#include <optional>
#include <string_view>

#include "server/api_error.h"

namespace redoubt {
namespace {

// Written and read back in this file alone: an Error carries no numbers beside its message.
// OpenAI's words for it, which clients look for: LiteLLM and what is built on it tell a full context by them.
constexpr std::string_view kContextBegin = "this model's maximum context length is ";
constexpr std::string_view kContextMessage =
    "this model's maximum context length is {} tokens, which a prompt of {}{} tokens and an answer of {} do not fit";
constexpr std::string_view kAtLeast = "at least ";
constexpr const char* kContextScan = "%lld tokens, which a prompt of %lld tokens and an answer of %lld do not fit";
constexpr const char* kContextScanAtLeast =
    "%lld tokens, which a prompt of at least %lld tokens and an answer of %lld do not fit";

struct ContextNumbers {
  long long context = 0, prompt = 0, answer = 0;
  bool is_least = false;
};

// Those of such a message.
std::optional<ContextNumbers> context_numbers(const std::string& message) {
  const size_t begin = message.find(kContextBegin);
  if (begin == std::string::npos) return std::nullopt;
  const char* numbers = message.c_str() + begin + kContextBegin.size();
  ContextNumbers out{.is_least = message.find(kAtLeast, begin) != std::string::npos};
  const char* scan = out.is_least ? kContextScanAtLeast : kContextScan;
  if (std::sscanf(numbers, scan, &out.context, &out.prompt, &out.answer) != 3) return std::nullopt;
  return out;
}

// Anthropic's sentence, by which its clients know that a conversation has to be shortened.
std::string too_long_for_anthropic(const ContextNumbers& numbers) {
  return fmt::format("prompt is too long: {}{} tokens > {} maximum", numbers.is_least ? kAtLeast : "", numbers.prompt,
                     numbers.prompt > numbers.context ? numbers.context : numbers.context - 1);
}

}  // namespace

ErrorStyle error_style(std::string_view path) {
  if (path.starts_with("/v1/messages")) return ErrorStyle::anthropic;
  return path.starts_with("/api/") ? ErrorStyle::ollama : ErrorStyle::openai;
}

std::string styled_error_body(const ApiError& error, ErrorStyle style) {
  const auto numbers = error.code == "context_length_exceeded" ? context_numbers(error.message) : std::nullopt;
  if (style == ErrorStyle::openai) {
    std::string body = error_body(error);
    if (numbers && body.ends_with("}}")) {
      body.resize(body.size() - 2);
      body += fmt::format(",\"n_prompt_tokens\":{},\"n_ctx\":{}}}}}", numbers->prompt, numbers->context);
    }
    return body;
  }
  if (style == ErrorStyle::anthropic && numbers && numbers->prompt >= numbers->context) {
    ApiError theirs = error;
    theirs.message = too_long_for_anthropic(*numbers);
    return anthropic_error_body(theirs);
  }
  return style == ErrorStyle::anthropic ? anthropic_error_body(error) : ollama_error_body(error);
}

void send_styled_error(ResponseWriter& writer, const ApiError& error, ErrorStyle style) {
  writer.send(error.status, "application/json", styled_error_body(error, style), error.headers);
}

void send_styled_error(ResponseWriter& writer, const Error& error, ErrorStyle style) {
  send_styled_error(writer, request_error(error), style);
}

ApiError request_error(const Error& error) {
  ApiError out = api_error(error);
  if (error.code == ErrorCode::context_length) out.code = "context_length_exceeded";
  if (error.code == ErrorCode::not_found && error.param == "model") out.code = "model_not_found";
  if (error.code == ErrorCode::unsupported && !error.param.empty()) {  // a field's fault, and not the path's
    out.status = 400;
    out.type = "invalid_request_error";
    out.code = "unsupported";
    out.headers.clear();
  }
  if (out.param.empty()) out.param = error.param;
  return out;
}

Error context_error(const std::string& param, PromptTokens prompt, int64_t answer_tokens, int64_t context_tokens) {
  return {
      ErrorCode::context_length,
      param + ": " +
          fmt::format(kContextMessage, context_tokens, prompt.is_least ? kAtLeast : "", prompt.count, answer_tokens),
      param};
}

ApiError model_not_found(const std::string& name) {
  return {404,
          fmt::format("model: the server has no model named '{}'", name.substr(0, 128)),
          "not_found_error",
          "model",
          "model_not_found",
          {}};
}

void send_json(ResponseWriter& writer, const Json& body) { writer.send(200, "application/json", dump_json(body)); }

}  // namespace redoubt

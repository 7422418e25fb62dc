#include "server/routes_errors.h"

#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <optional>
#include <string_view>

#include "server/api_error.h"

namespace redoubt {
namespace {

// Written and read back in this file alone: an Error carries no numbers beside its message.
constexpr std::string_view kContextMessage = "prompt of {}{} tokens and answer of {} do not fit the context of {}";
constexpr std::string_view kAtLeast = "at least ";
constexpr const char* kContextScan = "%lld tokens and answer of %lld do not fit the context of %lld";

// The numbers of such a message: {prompt, answer, context}.
std::optional<std::array<long long, 3>> context_numbers(const std::string& message) {
  constexpr std::string_view kBegin = kContextMessage.substr(0, kContextMessage.find('{'));
  const size_t begin = message.find(kBegin);
  if (begin == std::string::npos) return std::nullopt;
  size_t at = begin + kBegin.size();
  if (std::string_view(message).substr(at).starts_with(kAtLeast)) at += kAtLeast.size();
  std::array<long long, 3> numbers{};
  if (std::sscanf(message.c_str() + at, kContextScan, &numbers[0], &numbers[1], &numbers[2]) != 3) return std::nullopt;
  return numbers;
}

}  // namespace

ErrorStyle error_style(std::string_view path) {
  if (path.starts_with("/v1/messages")) return ErrorStyle::anthropic;
  return path.starts_with("/api/") ? ErrorStyle::ollama : ErrorStyle::openai;
}

std::string styled_error_body(const ApiError& error, ErrorStyle style) {
  if (style == ErrorStyle::openai) {
    std::string body = error_body(error);
    const auto numbers = error.code == "context_length_exceeded" ? context_numbers(error.message) : std::nullopt;
    if (numbers && body.ends_with("}}")) {
      body.resize(body.size() - 2);
      body += fmt::format(",\"n_prompt_tokens\":{},\"n_ctx\":{}}}}}", (*numbers)[0], (*numbers)[2]);
    }
    return body;
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
  }
  if (out.param.empty()) out.param = error.param;
  return out;
}

Error context_error(const std::string& param, PromptTokens prompt, int64_t answer_tokens, int64_t context_tokens) {
  return {
      ErrorCode::context_length,
      param + ": " +
          fmt::format(kContextMessage, prompt.is_least ? kAtLeast : "", prompt.count, answer_tokens, context_tokens),
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

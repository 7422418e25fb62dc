// One error, three envelopes: OpenAI's {"error":{message,type,param,code}}, Anthropic's {"type":"error","error":{…}} on
// /v1/messages, Ollama's {"error":"…"} on /api/*.
#pragma once

#include <string>
#include <string_view>

#include "server/http.h"

namespace redoubt {

enum class ErrorStyle : uint8_t { openai, anthropic, ollama };

ErrorStyle error_style(std::string_view path);  // of a route

std::string styled_error_body(const ApiError& error, ErrorStyle style);
void send_styled_error(ResponseWriter& writer, const ApiError& error, ErrorStyle style);
void send_styled_error(ResponseWriter& writer, const Error& error, ErrorStyle style);

// api_error, with the codes that clients look for: unknown models and prompts that do not fit.
ApiError request_error(const Error& error);
// A prompt, or a prompt and its answer, that the context has no room for. OpenAI's envelope then carries
// n_prompt_tokens and n_ctx too, as llama.cpp's does.
struct PromptTokens {
  int64_t count = 0;
  bool is_least = false;  // there are at least so many: nobody counted them
};
Error context_error(const std::string& param, PromptTokens prompt, int64_t answer_tokens, int64_t context_tokens);
ApiError model_not_found(const std::string& name);
void send_json(ResponseWriter& writer, const Json& body);

}  // namespace redoubt

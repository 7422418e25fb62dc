// The body of POST /v1/messages, translated into the chat that all protocols share.
#pragma once

#include "server/chat_request.h"

namespace redoubt {

enum class MaxTokensField : uint8_t { required, optional };  // count_tokens has none

// Accepts what Claude Code sends: `system` as blocks (its billing header, which changes with every request, stays out
// of the prompt), cache_control anywhere, tool results with blocks inside. Errors: invalid_argument.
Result<ChatRequest> parse_anthropic_request(const Json& body, MaxTokensField max_tokens = MaxTokensField::required);

}  // namespace redoubt

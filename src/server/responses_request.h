// The body of POST /v1/responses, translated into the chat that all protocols share.
#pragma once

#include "server/chat_request.h"

namespace redoubt {

struct ResponsesRequest {
  ChatRequest chat;
  std::string echo;  // JSON members of the response object that repeat the request: "instructions":…,"tools":[…],…
  std::string tools_left_out;  // as ResponsesTools has them
};

// Errors: invalid_argument; not_found for a previous_response_id or conversation (none is kept).
Result<ResponsesRequest> parse_responses_request(const Json& body);

}  // namespace redoubt

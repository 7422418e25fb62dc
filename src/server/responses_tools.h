// The tools of POST /v1/responses: functions and custom tools are the model's to call; all others, which a provider
// would run itself, are left out, and named in a header of the answer.
#pragma once

#include <string>

#include "server/chat_request.h"

namespace redoubt {

struct ResponsesTools {
  Json echo = Json::array();  // those that the model was told of, as the client wrote them
  std::string left_out;       // types of the others, "web_search,mcp"; "" if there are none
};

constexpr const char* kToolsLeftOutHeader = "x-redoubt-tools-left-out";

// Errors: invalid_argument; no type, a tool_choice that asks for what is left out.
Result<ResponsesTools> parse_responses_tools(ChatRequest& chat, const JsonFields& fields);

}  // namespace redoubt

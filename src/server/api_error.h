// The errors the server itself answers, in the envelope of the protocol the path belongs to.
#pragma once

#include <string>
#include <string_view>

#include "server/http.h"

namespace redoubt {

// {"type":"error","error":{"type","message"}} with Anthropic's names of types.
std::string anthropic_error_body(const ApiError& error);

// Ollama's {"error":"..."}.
std::string ollama_error_body(const ApiError& error);

// /v1/messages: Anthropic's envelope; /api/: Ollama's {"error":"..."}; elsewhere OpenAI's.
std::string error_body_for_path(std::string_view path, const ApiError& error);

// The error of a status that needs no more than a sentence: 400, 401, 404, 405, 408, 413, 417, 431, 500, 503.
ApiError status_error(int status, std::string message);

// What the request is at fault for, by what it says.
bool is_clients_fault(ErrorCode code);

}  // namespace redoubt

// The bodies of Ollama's /api/chat and /api/generate, translated into the chat that all protocols share.
#pragma once

#include <optional>

#include "engine/model_stay.h"
#include "server/chat_request.h"

namespace redoubt {

enum class OllamaEndpoint : uint8_t { chat, generate };

struct OllamaRequest {
  ChatRequest chat;
  bool raw = false;               // generate: `prompt` is the whole prompt, without a template
  std::string prompt;             // if raw
  bool load_only = false;         // no prompt and no messages
  std::optional<ModelStay> stay;  // keep_alive
};

Result<OllamaRequest> parse_ollama_request(const Json& body, OllamaEndpoint endpoint);

}  // namespace redoubt

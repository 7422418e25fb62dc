// Bodies of every protocol: whatever the bytes are, a parser returns a request or an error. The first byte chooses.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/anthropic_request.h"
#include "server/chat_request.h"
#include "server/chat_tools.h"
#include "server/completions_request.h"
#include "server/custom_tools.h"
#include "server/ollama_request.h"
#include "server/responses_request.h"
#include "server/sse.h"

namespace {

void parse_body(int protocol, std::string_view text) {
  using namespace redoubt;
  const auto body = parse_json_body(text);
  if (!body) return;
  switch (protocol) {
    case 0:
      static_cast<void>(parse_chat_request(*body));
      break;
    case 1:
      static_cast<void>(parse_completions_request(*body));
      break;
    case 2:
      static_cast<void>(parse_anthropic_request(*body));
      break;
    case 3:
      static_cast<void>(parse_responses_request(*body));
      break;
    case 4:
      static_cast<void>(parse_ollama_request(*body, OllamaEndpoint::chat));
      break;
    default:
      static_cast<void>(parse_ollama_request(*body, OllamaEndpoint::generate));
  }
}

// The reader of forced calls trusts its grammar, but not blindly: any text must leave it whole.
void read_calls(std::string_view text) {
  redoubt::ForcedCallReader reader(redoubt::ForcedCall{});
  std::vector<redoubt::OutputEvent> events;
  for (const char c : text) reader.push(std::string_view(&c, 1), events);
  reader.finish(events);
  redoubt::CustomInput input;
  std::string pieces;
  for (const char c : text) pieces += input.push(std::string_view(&c, 1));
  if (pieces + input.finish() != redoubt::custom_input(text)) __builtin_trap();  // however it is cut
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const int choice = data[0] % 8;
  if (choice == 6) {
    read_calls(text);
  } else if (choice == 7) {
    std::string out;
    redoubt::append_json_string(out, text);
    if (!redoubt::parse_json(out)) __builtin_trap();  // whatever was escaped is JSON
  } else {
    parse_body(choice, text);
  }
  return 0;
}

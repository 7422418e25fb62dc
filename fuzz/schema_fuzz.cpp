// JSON schemas from anybody; what compiles is walked, and a text that ended must be JSON.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "fuzz/grammar_walk.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2 || size > 8192) return 0;
  const auto schema = redoubt::parse_json(std::string_view(reinterpret_cast<const char*>(data + 1), size - 1));
  if (!schema.has_value()) return 0;
  const auto grammar = redoubt::grammar_from_json_schema(*schema);
  if (!grammar.has_value()) return 0;
  const std::string text = redoubt::fuzz::walk(*grammar, data[0]);
  if (!text.empty() && !nlohmann::json::accept(text)) std::abort();
  return 0;
}

// Regular expressions, GBNF texts and choices from anybody; what compiles is walked, and masks must agree with accept.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "fuzz/grammar_walk.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2 || size > 4096) return 0;
  const std::string text(reinterpret_cast<const char*>(data + 2), size - 2);
  const auto grammar = data[0] % 2 == 0 ? redoubt::grammar_from_regex(text) : redoubt::grammar_from_gbnf(text);
  if (grammar.has_value()) redoubt::fuzz::walk(*grammar, data[1]);
  return 0;
}

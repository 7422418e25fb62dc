// A tokenizer for tests: the 256 bytes, each a token of its own, an end of sequence and the marks of thinking.
#pragma once

#include <string>

#include "core/json.h"
#include "core/utf8.h"
#include "text/tokenizer.h"

namespace redoubt::test {

// The printable character that stands for a byte in byte-level vocabularies.
inline std::string mapped_byte(int byte) {
  const auto is_printable = [](int b) {
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
  };
  char32_t code = static_cast<char32_t>(byte);
  if (!is_printable(byte)) {
    code = 0x100;
    for (int b = 0; b < byte; ++b) code += is_printable(b) ? 0 : 1;
  }
  std::string text;
  append_utf8(text, code);
  return text;
}

constexpr int32_t kEos = 256, kThink = 257, kEndThink = 258;  // a byte's id is the byte

inline Tokenizer byte_tokenizer() {
  Json vocab = Json::object();
  for (int byte = 0; byte < 256; ++byte) vocab[mapped_byte(byte)] = byte;
  const auto added = [](int32_t id, const char* content, bool special) {
    return Json{{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", special}};
  };
  const Json byte_level{
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
  const Json file{{"version", "1.0"},
                  {"added_tokens",
                   {added(kEos, "<eos>", true), added(kThink, "<think>", false), added(kEndThink, "</think>", false)}},
                  {"normalizer", nullptr},
                  {"pre_tokenizer", byte_level},
                  {"post_processor", nullptr},
                  {"decoder", byte_level},
                  {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}, {"ignore_merges", false}}}};
  return Tokenizer::from_json(dump_json(file), R"({"eos_token":"<eos>"})").value();
}

}  // namespace redoubt::test

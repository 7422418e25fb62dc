// Any bytes as a tokenizer.json and, after a NUL byte, a text: the file is read or refused, and what it makes encodes
// the text, valid or not, with any part of it as markup, to ids that exist and that stream as they decode. Without a
// NUL byte the input is the text, and the file a small one made here.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/utf8.h"
#include "text/tokenizer.h"

namespace {

// Letters, a mark that NFC composes, white space and the replacement character's bytes; every kind of added token.
constexpr std::string_view kSmall = R"({
  "added_tokens": [
    {"id": 40, "content": "<a>", "special": true, "normalized": false},
    {"id": 41, "content": "<a>b", "special": false, "normalized": true},
    {"id": 42, "content": "<s>", "special": true, "normalized": false, "lstrip": true, "rstrip": true},
    {"id": 43, "content": "ab", "special": false, "normalized": true, "single_word": true}],
  "normalizer": {"type": "NFC"},
  "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
    {"type": "Digits", "individual_digits": true},
    {"type": "Split", "pattern": {"String": "-"}, "behavior": "MergedWithNext", "invert": false},
    {"type": "ByteLevel", "add_prefix_space": true, "use_regex": true}]},
  "model": {"type": "BPE", "unk_token": "b",
    "vocab": {"a": 0, "b": 1, "c": 2, "Ġ": 3, "Ċ": 4, "Ì": 5, "e": 6, "Ã": 7, "ï": 8, "¿": 9, "½": 10, "<": 11, ">": 12,
              "Ġa": 13, "bc": 14, "Ġabc": 15, "ï¿": 16, "1": 17},
    "merges": ["Ġ a", "b c", ["Ġa", "bc"], "ï ¿"]}})";

void encode(const redoubt::Tokenizer& tokenizer, std::string_view text) {
  for (const redoubt::MarkedText& marked :
       {redoubt::MarkedText::all_markup(std::string(text)), redoubt::MarkedText::plain(std::string(text)),
        redoubt::MarkedText{std::string(text), {{text.size() / 3, text.size()}, {0, text.size() / 4}}}}) {
    const auto ids = tokenizer.encode(marked);
    redoubt::StreamDecoder stream(tokenizer, /*skip_control=*/false);
    std::string streamed;
    for (const int32_t id : ids) {
      if (id < 0 || id >= tokenizer.vocab_size()) std::abort();
      // Plain text makes no added token, but for one whose content is a single byte.
      if (marked.markup.empty() && tokenizer.bytes(id).size() > 1 && tokenizer.kind(id) != redoubt::TokenKind::normal) {
        std::abort();
      }
      streamed += stream.push(id);
    }
    streamed += stream.finish();
    if (streamed != tokenizer.decode(ids) || !redoubt::is_valid_utf8(streamed)) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = input.find('\0');
  if (zero == std::string_view::npos) {
    static const redoubt::Tokenizer small = redoubt::Tokenizer::from_json(kSmall).value();
    encode(small, input);
    return 0;
  }
  const auto tokenizer = redoubt::Tokenizer::from_json(input.substr(0, zero));
  if (tokenizer) encode(*tokenizer, input.substr(zero + 1));
  return 0;
}

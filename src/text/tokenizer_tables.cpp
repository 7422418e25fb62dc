// What files leave unsaid: the byte-level alphabet, and the splits behind each `tokenizer.ggml.pre`.
#include <array>

#include "core/utf8.h"
#include "text/pretokenizer_known.h"
#include "text/tokenizer_spec.h"

namespace redoubt {
namespace {

std::vector<SplitRule> isolated(std::initializer_list<std::string_view> expressions) {
  std::vector<SplitRule> splits;
  for (const std::string_view expression : expressions) splits.push_back({.pattern = std::string(expression)});
  return splits;
}

// Code point of a byte, and back. The printable bytes of Latin-1 stand for themselves, the others follow U+0100.
std::array<int16_t, 0x144> make_bytes_of() {
  std::array<int16_t, 0x144> bytes_of;
  bytes_of.fill(-1);
  int16_t next = 0x100;
  for (int16_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    bytes_of[static_cast<size_t>(printable ? byte : next++)] = byte;
  }
  return bytes_of;
}

}  // namespace

bool unmap_byte_level(std::string_view mapped, std::string& bytes) {
  static const std::array<int16_t, 0x144> kBytesOf = make_bytes_of();
  bytes.clear();
  for (size_t i = 0; i < mapped.size();) {
    const CodePoint c = decode_utf8(mapped, i);
    if (!c.valid || c.value >= kBytesOf.size() || kBytesOf[c.value] < 0) return false;
    bytes += static_cast<char>(kBytesOf[c.value]);
    i += static_cast<size_t>(c.bytes);
  }
  return true;
}

std::optional<NamedPretokenizer> named_pretokenizer(std::string_view name) {
  if (name == "deepseek-v3") {
    return NamedPretokenizer{
        isolated({patterns::kDeepSeekV3Digits, patterns::kDeepSeekV3Cjk, patterns::kDeepSeekV3Words})};
  }
  if (name == "deepseek-llm") return NamedPretokenizer{patterns::deepseek_llm()};
  if (name == "deepseek-coder") return NamedPretokenizer{patterns::deepseek_coder()};
  if (name == "llama-bpe" || name == "llama3" || name == "llama-v3") {
    return NamedPretokenizer{.splits = isolated({patterns::kLlama3}), .ignore_merges = true};
  }
  if (name == "qwen2" || name == "deepseek-r1-qwen") {
    return NamedPretokenizer{.splits = isolated({patterns::kQwen2}), .nfc = true};  // NFC: as Qwen's tokenizer.json
  }
  if (name == "smollm") return NamedPretokenizer{isolated({R"(\p{N})", patterns::kGpt2})};
  if (name == "gpt-2") return NamedPretokenizer{isolated({patterns::kGpt2})};
  return std::nullopt;
}

}  // namespace redoubt

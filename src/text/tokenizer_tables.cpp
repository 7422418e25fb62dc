// What files leave unsaid: the byte-level alphabet, and the splits behind each `tokenizer.ggml.pre`.
#include <array>

#include "core/utf8.h"
#include "text/pretokenizer_known.h"
#include "text/tokenizer_spec.h"

namespace redoubt {
namespace {

// DeepSeek-LLM's second split, "cased letters" as its authors listed them: about \p{Lu}\p{Ll}\p{Lt} of an older
// Unicode.
constexpr std::string_view kDeepSeekLlmLetters =
    "A-Za-z\\xB5\\xC0-\\xD6\\xD8-\\xF6\\xF8-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}"
    "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}"
    "\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}"
    "\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}"
    "\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}"
    "\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}"
    "\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}"
    "\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}"
    "\\x{2124}\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}"
    "\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}"
    "\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}"
    "\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}"
    "\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}"
    "\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}";
constexpr std::string_view kDeepSeekLlmSigns =
    R"(\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+)";
constexpr std::string_view kDeepSeekLlmCjk = R"([\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+)";

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
  if (name == "deepseek-llm") {
    const std::string words = "\\s?[" + std::string(kDeepSeekLlmLetters) + "]+";
    // `\s+$`, written so that a run that is not at the end is looked at once instead of once a character.
    return NamedPretokenizer{
        isolated({R"([\r\n])", words, kDeepSeekLlmSigns, R"((?<!\s)\s++$)", kDeepSeekLlmCjk, R"(\p{N}+)"})};
  }
  if (name == "deepseek-coder") {
    return NamedPretokenizer{isolated({R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kDeepSeekLlmCjk, R"(\p{N})"})};
  }
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

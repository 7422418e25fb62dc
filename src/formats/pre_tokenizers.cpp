#include "formats/pre_tokenizers.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/json.h"

namespace redoubt {
namespace {

// The cased letters of DeepSeek's first tokenizer, as its authors listed them. Source: docs/formats/gguf.md.
constexpr std::string_view kCasedLetters =
    R"(\x{41}-\x{5A}\x{61}-\x{7A}\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293})"
    R"(\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C})"
    R"(\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-\x{10C5})"
    R"(\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77})"
    R"(\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57})"
    R"(\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4})"
    R"(\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC})"
    R"(\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D})"
    R"(\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B})"
    R"(\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F})"
    R"(\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A})"
    R"(\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2})"
    R"(\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943})";
constexpr std::string_view kEastAsian = R"([\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+)";
constexpr std::string_view kSigns =
    R"(\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+)";

struct Known {
  std::string_view gguf_name;
  std::vector<std::string> patterns;
  bool individual_digits = false;
  bool own_pattern = false;  // ByteLevel with use_regex
};

// DeepSeek's file holds line breaks where others hold escapes; compared, and written, as escapes.
std::string with_escapes(std::string_view pattern) {
  std::string text;
  for (const char c : pattern) {
    if (c == '\r') {
      text += "\\r";
    } else if (c == '\n') {
      text += "\\n";
    } else {
      text += c;
    }
  }
  return text;
}

const std::vector<Known>& known() {
  static const std::vector<Known> table{
      {"deepseek-v3",
       {R"(\p{N}{1,3})", "[一-龥\u3040-ゟ゠-ヿ]+",
        R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}},
      {"llama-bpe",
       {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}},
      {"qwen2",
       {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}},
      {"deepseek-coder", {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", std::string(kEastAsian), R"(\p{N})"}},
      {"deepseek-llm",
       {R"([\r\n])", fmt::format(R"(\s?[{}]+)", kCasedLetters), std::string(kSigns), R"(\s+$)", std::string(kEastAsian),
        R"(\p{N}+)"}},
      {"smollm", {}, true, true},
      {"gpt-2", {}, false, true},
  };
  return table;
}

}  // namespace

std::string pre_tokenizer_name(std::span<const std::string> patterns, bool individual_digits, bool own_pattern) {
  std::vector<std::string> escaped;
  for (const std::string& pattern : patterns) escaped.push_back(with_escapes(pattern));
  for (const Known& entry : known()) {
    if (entry.patterns == escaped && entry.individual_digits == individual_digits && entry.own_pattern == own_pattern) {
      return std::string(entry.gguf_name);
    }
  }
  // The long letter class of DeepSeek's first tokenizer is spelled differently from file to file.
  if (escaped.size() >= 3 && escaped[0] == "[\\r\\n]") {
    return escaped[1].starts_with("\\s?\\p{L}") ? "deepseek-coder" : "deepseek-llm";
  }
  return {};
}

std::string pre_tokenizer_json(std::string_view name) {
  if (name == "deepseek-r1-qwen") name = "qwen2";
  if (name == "llama3" || name == "llama-v3") name = "llama-bpe";
  if (name == "default") name = "gpt-2";
  const auto& table = known();
  const auto entry = std::ranges::find(table, name, &Known::gguf_name);
  if (entry == table.end()) return {};
  Json steps = Json::array();
  if (entry->individual_digits) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
  for (const std::string& pattern : entry->patterns) {
    steps.push_back(
        {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
  }
  steps.push_back(
      {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", entry->own_pattern}});
  return dump_json({{"type", "Sequence"}, {"pretokenizers", steps}});
}

}  // namespace redoubt

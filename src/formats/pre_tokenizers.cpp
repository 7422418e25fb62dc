#include "formats/pre_tokenizers.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/json.h"

namespace redoubt {
namespace {

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

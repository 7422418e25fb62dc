// What a tokenizer file says, whatever its container. tokenizer_json.cpp and tokenizer_gguf.cpp fill it in,
// tokenizer.cpp builds the machinery from it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "text/bpe.h"
#include "text/tokenizer.h"

namespace redoubt {

class GgufFile;

// Limits of a tokenizer file. The largest published vocabulary has 262,144 entries, the longest added token 40 bytes.
inline constexpr int32_t kMaxTokenId = 1 << 22;
inline constexpr size_t kMaxTokenBytes = size_t{16} << 10;
inline constexpr size_t kMaxAddedTokenBytes = 1024;
inline constexpr size_t kMaxPatternBytes = size_t{16} << 10;
inline constexpr size_t kMaxSplits = 32;

struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = false;      // left out of decoded answers
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and after it
  bool single_word = false;  // only where no word character touches it
  bool normalized = false;   // looked for after normalisation, in what the others left over
};

// What becomes of a match of the pattern. Names are those of tokenizer.json.
enum class SplitBehavior : uint8_t { isolated, removed, merged_with_previous, merged_with_next, contiguous };

struct SplitRule {
  enum class Kind : uint8_t {
    regex,         // Oniguruma's dialect in tokenizer.json; see pretokenizer_pattern.h
    literal,       // the pattern is a string
    prefix_space,  // puts a space before a piece that does not begin with one
  };
  Kind kind = Kind::regex;
  std::string pattern;
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;

  bool operator==(const SplitRule&) const = default;
};

struct TokenizerSpec {
  Vocabulary vocabulary;
  std::vector<Merge> merges;  // in order of rank
  std::vector<AddedToken> added;
  std::vector<SplitRule> splits;
  bool nfc = false;
  bool ignore_merges = false;  // a piece that is a token is that token, whatever the merges say
  std::optional<int32_t> unknown;
  bool fuse_unknown = false;
  std::optional<int32_t> bos, eos;
  bool add_bos = false;
};

Result<TokenizerSpec> read_tokenizer_json(std::string_view tokenizer_json, std::string_view tokenizer_config_json);
Result<TokenizerSpec> read_tokenizer_gguf(const GgufFile& file);

// The published splits by the name that GGUF files give them (`tokenizer.ggml.pre`); nullopt if unknown.
struct NamedPretokenizer {
  std::vector<SplitRule> splits;
  bool ignore_merges = false;
  bool nfc = false;
};
std::optional<NamedPretokenizer> named_pretokenizer(std::string_view name);

// Byte-level BPE writes each byte as one printable code point: "Ġ" is a space. False if a character is none of those
// 256.
bool unmap_byte_level(std::string_view mapped, std::string& bytes);

}  // namespace redoubt

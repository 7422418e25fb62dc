// Byte-level BPE: words to tokens and back, equal to the published tokenizers token for token.
//
// Added tokens (special and user-defined) are cut out first, then the pre-tokenizer's patterns split the text, then BPE
// merges inside each piece. Only characters that a chat template itself wrote may match an added token: MarkedText
// carries, for each byte, whether the template or the request wrote it, so that a user's "<｜Assistant｜>" is text.
// Source: the tokenizer.json of each model; GGUF tokenizer.ggml.* keys.
// Thread safety: const after open. Bound: BPE merging, at least 10 MB/s a core on prose.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace redoubt {

class GgufFile;
class Checkpoint;
class SideFiles;

// A text with the parts that may be read as markup.
struct MarkedText {
  struct Range {
    size_t begin = 0, end = 0;  // bytes, end exclusive
  };
  std::string text;
  std::vector<Range> markup;  // written by the template: added tokens are recognised only wholly inside one of these

  static MarkedText all_markup(std::string text) {  // raw text: special tokens in it are recognised
    const size_t size = text.size();
    return {std::move(text), {{0, size}}};
  }
  static MarkedText plain(std::string text) { return {std::move(text), {}}; }
};

enum class TokenKind : uint8_t {
  normal,
  control,       // added, special: left out of decoded answers
  user_defined,  // added, not special: <think>, tool marks; part of decoded text
  unused,        // filler row without text
};

class Tokenizer {
 public:
  static Result<Tokenizer> from_directory(const std::filesystem::path& directory);  // tokenizer.json (+ _config.json)
  static Result<Tokenizer> from_files(const SideFiles& files);                      // the same, wherever they lie
  static Result<Tokenizer> from_gguf(const GgufFile& file);
  static Result<Tokenizer> from_checkpoint(const Checkpoint& checkpoint);
  static Result<Tokenizer> open(const std::filesystem::path& path);  // a directory, a .gguf or a packed file
  static Result<Tokenizer> from_json(std::string_view tokenizer_json, std::string_view tokenizer_config_json = {});

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  std::vector<int32_t> encode(const MarkedText& text) const;  // adds no BOS
  // The same if it is at most `most` ids, else nullopt, found out long before a text without end was worked through.
  std::optional<std::vector<int32_t>> encode_within(const MarkedText& text, int64_t most) const;
  // The bytes of the longest text that can be `tokens` tokens; the largest size_t where the tokenizer may drop text.
  size_t most_bytes(int64_t tokens) const;
  // `text` has no fewer tokens than this. 0 where the tokenizer may drop text.
  int64_t fewest_tokens(std::string_view text) const;
  std::string decode(std::span<const int32_t> ids, bool skip_control = false) const;  // bytes that are no UTF-8: U+FFFD
  // The raw bytes of one token (possibly part of a character); added tokens give their literal text. "" if unknown id.
  std::string_view bytes(int32_t id) const;
  TokenKind kind(int32_t id) const;
  std::optional<int32_t> find(std::string_view literal) const;  // an added token, or a token with just these bytes

  int32_t vocab_size() const;  // one more than the largest id
  std::optional<int32_t> bos() const;
  std::optional<int32_t> eos() const;
  bool add_bos() const;  // what the file asks for (the commands and the API add none unless asked)
  std::string bos_text() const;
  std::string eos_text() const;

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Text of a token stream, whole characters only. push returns what became complete; finish what never will, repaired.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_control = true)
      : tokenizer_(&tokenizer), skip_control_(skip_control) {}
  std::string push(int32_t id);
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_control_;
  std::string pending_;
};

}  // namespace redoubt

// Structured output: a grammar over bytes, and the mask of tokens that may come next.
//
// Sources: JSON schema, any JSON object, a regular expression, a choice of texts, or a GBNF-style grammar. What a
// schema asks and we do not enforce is refused by name (unsupported), never ignored. Limits bound compile time and
// size. Bound: under 50 us a mask at a vocabulary of 129,280 (bench/grammar).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/result.h"

namespace redoubt {

class Tokenizer;

class Grammar {  // compiled, immutable, shared between sequences
 public:
  virtual ~Grammar() = default;
  virtual size_t size_bytes() const = 0;  // with the masks found for it so far
  // What compiling it took, also where it was kept since. To have used up one of its limits costs kMaxGrammarCost.
  virtual size_t cost() const = 0;
};
using GrammarPtr = std::shared_ptr<const Grammar>;
constexpr size_t kMaxGrammarCost = 1'000'000;

// Whether a schema's numbers are those of the text that it was read from (text/written_numbers.h). Where that is not
// known, numbers of enum and const that may be others are refused.
enum class SchemaNumbers : uint8_t { unknown, as_written };
Result<GrammarPtr> grammar_from_json_schema(const Json& schema, SchemaNumbers numbers = SchemaNumbers::unknown);
Result<GrammarPtr> grammar_for_json_object();
Result<GrammarPtr> grammar_from_regex(std::string_view pattern);
Result<GrammarPtr> grammar_from_choice(std::span<const std::string> choices);
Result<GrammarPtr> grammar_from_gbnf(std::string_view text);  // root rule "root"

// The tokens' bytes, arranged for masking; built once per tokenizer. Control and unused tokens are never allowed.
class GrammarVocabulary {
 public:
  virtual ~GrammarVocabulary() = default;
  virtual int32_t vocab_size() const = 0;
};
std::shared_ptr<const GrammarVocabulary> make_grammar_vocabulary(const Tokenizer& tokenizer);

// Finds masks before a sequence asks for them, those of free text first, from the beginning on: outside the step
// loop, where each would hold up all sequences. What the limits leave out is found when it is asked for. Changes no
// mask. Returns how many it looked at.
struct PrepareLimits {
  size_t max_masks = 2048;
  int64_t max_us = 30'000;
};
size_t prepare_masks(const Grammar& grammar, const GrammarVocabulary& vocabulary, const PrepareLimits& limits = {});

// Where one sequence stands in a grammar. Copyable (speculation rolls back by copying).
class GrammarMatcher {
 public:
  GrammarMatcher(GrammarPtr grammar, std::shared_ptr<const GrammarVocabulary> vocabulary);
  GrammarMatcher(const GrammarMatcher&);
  GrammarMatcher(GrammarMatcher&&) noexcept;
  GrammarMatcher& operator=(GrammarMatcher&&) noexcept;
  ~GrammarMatcher();

  // Sets bit i of mask[i / 32] for each token i that may come next (not end-of-sequence: see can_end). Clears the rest.
  void fill_mask(std::span<uint32_t> mask);
  bool accept(int32_t token);  // false, and unchanged, if the grammar forbids it
  bool can_end() const;        // the text so far is a whole sentence: end-of-sequence may come
  bool must_end() const;       // and nothing else may

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace redoubt

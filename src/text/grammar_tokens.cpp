// Which of a tokenizer's tokens a grammar may produce, and the masks that all tenants' grammars share.

#include "text/grammar_program.h"
#include "text/grammar_vocabulary.h"
#include "text/output_parser_state.h"
#include "text/tokenizer.h"

namespace redoubt {
namespace {

// A token that a model's template uses as a mark must not be written by a grammar: readers would take it for the mark.
bool is_mark(std::string_view text) { return text.size() > 2 && text.front() == '<' && text.back() == '>'; }

// What stands in almost every schema and tells nothing of it: JSON itself, and the formats.
void share_rules_of_json(grammar::Vocabulary& vocabulary) {
  const Json string = {{"type", "string"}};
  Json types = Json::array({string, {{"type", "number"}}, {{"type", "integer"}}, {{"type", "boolean"}}});
  for (const char* format : {"date", "time", "date-time", "uuid", "ipv4", "email"})
    types.push_back({{"type", "string"}, {"format", format}});
  for (const auto& ours : {grammar_for_json_object(), grammar_from_json_schema({{"anyOf", types}})})
    if (ours.has_value()) vocabulary.share_rules_of(static_cast<const grammar::Program&>(**ours));
}

}  // namespace

std::shared_ptr<const GrammarVocabulary> make_grammar_vocabulary(const Tokenizer& tokenizer) {
  const MarkIds marks = find_marks(tokenizer);
  std::vector<std::string> texts(static_cast<size_t>(tokenizer.vocab_size()));
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const TokenKind kind = tokenizer.kind(id);
    if (kind == TokenKind::control || kind == TokenKind::unused) continue;
    const std::string_view text = tokenizer.bytes(id);
    if (kind == TokenKind::user_defined && is_mark(text)) continue;
    if (text.find('\xff') != std::string_view::npos) continue;  // no text has it; see mark_bytes
    texts[static_cast<size_t>(id)] = text;
  }
  // The marks of tool calls stand in grammars of tool calls only (tool_grammar.h); the think marks in none.
  for (const Mark mark : {Mark::think_begin, Mark::think_end})
    if (const auto id = marks[static_cast<size_t>(mark)]) texts[static_cast<size_t>(*id)].clear();
  for (size_t i = static_cast<size_t>(Mark::calls_begin); i < kMarks; ++i)
    if (marks[i]) texts[static_cast<size_t>(*marks[i])] = mark_bytes(static_cast<Mark>(i));
  const auto vocabulary = std::make_shared<grammar::Vocabulary>(texts);
  share_rules_of_json(*vocabulary);
  return vocabulary;
}

}  // namespace redoubt

#include "text/tool_grammar.h"

#include <algorithm>
#include <map>

#include "text/grammar_program.h"

namespace redoubt {
namespace {

using grammar::Automaton;
using grammar::AutomatonBudget;
using grammar::Nfa;

constexpr uint8_t kLastTextByte = 0xfe;  // FF begins a mark

// Text that spells none of the words. With `end`, text that comes to this one of them and ends with it.
// The automaton of Aho and Corasick: a state is the longest beginning of a word that the text ends with.
Automaton text_without(const std::vector<std::string>& words, const std::string* end) {
  std::map<std::string, uint32_t> states{{"", 0}};
  std::vector<std::string> beginnings{""};
  for (const std::string& word : words) {
    for (size_t length = 1; length < word.size(); ++length)
      if (states.try_emplace(word.substr(0, length), static_cast<uint32_t>(beginnings.size())).second)
        beginnings.push_back(word.substr(0, length));
  }
  const auto accept = static_cast<uint32_t>(beginnings.size());
  Automaton out;
  out.states.resize(beginnings.size() + (end != nullptr ? 1 : 0));
  if (end != nullptr) out.states[accept].accepting = true;
  std::string letters;
  for (const std::string& word : words) letters += word;
  std::sort(letters.begin(), letters.end(),
            [](char a, char b) { return static_cast<uint8_t>(a) < static_cast<uint8_t>(b); });
  letters.erase(std::unique(letters.begin(), letters.end()), letters.end());
  for (uint32_t s = 0; s < beginnings.size(); ++s) {
    Automaton::State& state = out.states[s];
    state.accepting = end == nullptr;
    int next = 0;  // bytes below are done; those of no word lead to the start
    const auto others = [&](int last) {
      if (next <= last) state.bytes.push_back({static_cast<uint8_t>(next), static_cast<uint8_t>(last), 0});
    };
    for (const char letter : letters) {
      const int byte = static_cast<uint8_t>(letter);
      others(byte - 1);
      next = byte + 1;
      const std::string text = beginnings[s] + letter;
      const auto spelled = std::find_if(words.begin(), words.end(), [&](const auto& w) { return text.ends_with(w); });
      if (spelled != words.end()) {
        if (end != nullptr && *spelled == *end)
          state.bytes.push_back({static_cast<uint8_t>(byte), static_cast<uint8_t>(byte), accept});
        continue;
      }
      size_t cut = 0;
      while (!states.contains(text.substr(cut))) ++cut;
      state.bytes.push_back({static_cast<uint8_t>(byte), static_cast<uint8_t>(byte), states[text.substr(cut)]});
    }
    others(kLastTextByte);
  }
  return out;
}

// Text whose first character that is no white space is not `byte`.
Automaton text_not_beginning_with(uint8_t byte) {
  Automaton out;
  out.states.resize(2);
  for (auto& state : out.states) state.accepting = true;
  out.states[1].bytes = {{0, kLastTextByte, 1}};
  const auto blank = [](int b) { return b == ' ' || b == '\n' || b == '\r' || b == '\t'; };
  for (int b = 0; b <= kLastTextByte; ++b)
    if (b != byte)
      out.states[0].bytes.push_back({static_cast<uint8_t>(b), static_cast<uint8_t>(b), blank(b) ? 0u : 1u});
  return out;
}

// The root rule, written from left to right.
class CallWriter {
 public:
  CallWriter(const MarkIds& marks, std::span<const ToolSignature> tools) : marks_(marks), tools_(tools) {
    start_ = nfa.add_state();
    end_ = nfa.add_state();
    nfa.accept(end_);
  }
  Nfa nfa;
  uint32_t start() const { return start_; }
  uint32_t end() const { return end_; }

  bool is_token(Mark mark) const { return marks_[static_cast<size_t>(mark)].has_value(); }
  std::string bytes(Mark mark) const { return is_token(mark) ? mark_bytes(mark) : std::string(mark_text(mark)); }

  uint32_t text(uint32_t from, std::string_view bytes) {
    for (const char c : bytes) {
      const uint32_t to = nfa.add_state();
      nfa.add_bytes(from, static_cast<uint8_t>(c), static_cast<uint8_t>(c), to);
      from = to;
    }
    return from;
  }
  uint32_t mark(uint32_t from, Mark mark) { return text(from, bytes(mark)); }
  uint32_t maybe(uint32_t from, std::string_view bytes) {
    const uint32_t to = text(from, bytes);
    nfa.add_empty(from, to);
    return to;
  }
  uint32_t call(uint32_t from, uint32_t rule) {
    const uint32_t to = nfa.add_state();
    nfa.add_call(from, rule, to);
    return to;
  }
  // before NAME between ARGUMENTS, of any tool
  uint32_t signature(uint32_t from, std::string_view before, const std::vector<std::string>& between, uint32_t first) {
    const uint32_t named = text(from, before), to = nfa.add_state();
    for (size_t i = 0; i < tools_.size(); ++i) {
      uint32_t at = text(named, tools_[i].name);
      for (const std::string& part : between) at = part == " " ? maybe(at, part) : text(at, part);
      nfa.add_call(at, first + static_cast<uint32_t>(i), to);
    }
    return to;
  }

 private:
  const MarkIds& marks_;
  std::span<const ToolSignature> tools_;
  uint32_t start_, end_;
};

// From behind the mark that begins the calls to the end of the answer. `first`: the rule of the first tool's arguments.
void write_deepseek(CallWriter& out, uint32_t from, bool v3, bool parallel, uint32_t first) {
  const uint32_t begun = out.mark(from, Mark::call_begin);
  const std::string separator = out.bytes(Mark::call_separator);
  const uint32_t arguments = v3 ? out.signature(begun, "function" + separator, {"\n```json\n"}, first)
                                : out.signature(begun, "", {separator}, first);
  const uint32_t called = out.mark(v3 ? out.text(arguments, "\n```") : arguments, Mark::call_end);
  out.nfa.add_empty(out.mark(called, Mark::calls_end), out.end());
  if (parallel) out.nfa.add_empty(out.mark(out.maybe(called, "\n"), Mark::call_begin), begun);
}

void write_hermes(CallWriter& out, uint32_t from, bool parallel, uint32_t first) {
  const uint32_t name = out.maybe(out.text(out.maybe(from, "\n"), "{\"name\":"), " ");
  const uint32_t arguments = out.signature(name, "\"", {"\",", " ", "\"arguments\":", " "}, first);
  const uint32_t called = out.mark(out.maybe(out.text(arguments, "}"), "\n"), Mark::hermes_end);
  out.nfa.add_empty(called, out.end());
  if (parallel) out.nfa.add_empty(out.mark(out.maybe(called, "\n"), Mark::hermes_begin), from);
}

void write_llama(CallWriter& out, uint32_t from, bool parallel, uint32_t first) {
  const uint32_t name = out.maybe(out.text(from, "{\"name\":"), " ");
  const uint32_t arguments = out.signature(name, "\"", {"\",", " ", "\"parameters\":", " "}, first);
  const uint32_t called = out.text(arguments, "}");
  out.nfa.add_empty(called, out.end());
  if (parallel) out.nfa.add_empty(out.maybe(out.text(called, ";"), " "), from);
}

}  // namespace

bool can_bind_calls(ToolSyntax syntax) {
  return syntax == ToolSyntax::deepseek_v3 || syntax == ToolSyntax::deepseek_v31 || syntax == ToolSyntax::hermes ||
         syntax == ToolSyntax::llama_json;
}

Result<GrammarPtr> grammar_with_tool_calls(const ToolCallOptions& options, std::span<const ToolSignature> tools,
                                           const MarkIds& marks) {
  AutomatonBudget budget{{}};
  CallWriter out(marks, tools);
  const bool deepseek = options.syntax == ToolSyntax::deepseek_v3 || options.syntax == ToolSyntax::deepseek_v31;
  const bool llama = options.syntax == ToolSyntax::llama_json;
  if (!can_bind_calls(options.syntax))
    return unsupported("tools: the arguments of calls are not enforced in this model's syntax");

  // What begins a call; a second one, of DeepSeek, that a reader takes too.
  std::vector<Mark> triggers{deepseek ? Mark::calls_begin : llama ? Mark::python_tag : Mark::hermes_begin};
  if (deepseek) triggers.push_back(Mark::call_begin);
  std::vector<std::string> spelled;
  for (const Mark mark : triggers)
    if (!out.is_token(mark)) spelled.emplace_back(mark_text(mark));

  // Rules: 0 the root, 1 text without a call, 2 text up to where one begins; then the content's and the tools' roots.
  std::vector<Automaton> own(3);
  std::vector<GrammarPtr> parts;
  own[1] = text_without(spelled, nullptr);
  if (llama) {
    REDOUBT_TRY(own[1], intersect(own[1], text_not_beginning_with('{'), budget));
  }
  const bool spells_trigger = !llama && !out.is_token(triggers[0]);
  own[2] = text_without(spelled, spells_trigger ? &spelled[0] : nullptr);

  uint32_t begun = 0;
  const auto blanks = [&](uint32_t from) {
    for (int i = 0; i < 2; ++i) from = out.maybe(from, "\n");
    return from;
  };
  if (options.content != nullptr) {
    parts.push_back(options.content);
    out.nfa.add_empty(out.call(out.start(), 3), out.end());
    begun = blanks(out.start());
    if (!llama) begun = out.mark(begun, triggers[0]);
  } else {
    out.nfa.add_empty(out.call(out.start(), 1), out.end());
    if (llama)
      begun = blanks(out.start());
    else
      begun = spells_trigger ? out.call(out.start(), 2) : out.mark(out.call(out.start(), 2), triggers[0]);
  }
  if (llama && out.is_token(Mark::python_tag)) begun = out.maybe(begun, mark_bytes(Mark::python_tag));

  const auto first = static_cast<uint32_t>(own.size() + parts.size());
  for (const ToolSignature& tool : tools) parts.push_back(tool.arguments);
  if (deepseek)
    write_deepseek(out, begun, options.syntax == ToolSyntax::deepseek_v3, options.parallel, first);
  else if (llama)
    write_llama(out, begun, options.parallel, first);
  else
    write_hermes(out, begun, options.parallel, first);
  REDOUBT_CHECK(budget.spend_states(out.nfa.size()));
  REDOUBT_TRY(own[0], out.nfa.determinise(budget));
  return grammar::link_around(std::move(own), parts);
}

Result<GrammarPtr> grammar_with_tool_calls(const ToolCallOptions& options, std::span<const ToolSignature> tools,
                                           const Tokenizer& tokenizer) {
  return grammar_with_tool_calls(options, tools, find_marks(tokenizer));
}

}  // namespace redoubt

// Grammars of tool calls. In the model's own syntax where it may call or not (free_call_grammar); in another where it
// must: tool_choice "required" or a named function.
//
// Forced, the answer (after the thinking) is then forced by grammar to be JSON whose arguments follow the tool's
// schema, and read back here as calls. A form of our own, not the model's: a mark such as <｜tool▁calls▁begin｜> could
// be spelled by ordinary tokens, which a parser of marks would rightly take for text, while JSON is JSON however it is
// cut into tokens.
//   named, or one tool:  {"city": "Paris"}
//   several tools:       [{"name": "weather", "arguments": {"city": "Paris"}}, ...]   one only, without parallel calls
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "server/chat_request.h"
#include "text/grammar.h"
#include "text/output_parser.h"

namespace redoubt {

struct ForcedCall {
  std::string name;  // the one function; "" where the answer says which
};

// Errors: invalid_argument naming the tool whose schema has a feature that is not enforced.
Result<GrammarPtr> forced_call_grammar(const ChatRequest& request, const CompiledGrammars& grammars);
ForcedCall forced_call(const ChatRequest& request);

// An answer that may call, where a call is bound or the content has a structure (the request's): the grammar
// binds from the mark of a call on. Tools that are neither strict nor custom take any JSON object.
// Errors: invalid_argument naming the tool whose schema, or the syntax that cannot be enforced.
Result<GrammarPtr> free_call_grammar(const ChatRequest& request, ToolSyntax syntax, const CompiledGrammars& grammars);
// Whether a tool's calls are bound: a strict one's always, a custom one's where the syntax can be.
bool binds_calls(const ChatRequest& request, ToolSyntax syntax);

// Turns the forced JSON, as it comes, into tool events. Names come before arguments: the grammar orders them so.
class ForcedCallReader {
 public:
  explicit ForcedCallReader(ForcedCall call) : call_(std::move(call)) {}
  void push(std::string_view text, std::vector<OutputEvent>& out);
  void finish(std::vector<OutputEvent>& out);  // an answer that was cut ends its call

 private:
  void push_listed(char c, std::vector<OutputEvent>& out);
  void add_argument(char c, std::vector<OutputEvent>& out);

  ForcedCall call_;
  int index_ = -1;        // of the call being read
  bool in_call_ = false;  // its arguments are being passed on
  bool in_string_ = false, escaped_ = false;
  int depth_ = 0;
  int arguments_depth_ = 0;  // depth at which the arguments' value began
  bool in_value_ = false;    // of the key key_, at depth 2
  std::string key_, string_;
};

}  // namespace redoubt

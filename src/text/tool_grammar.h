// A grammar for an answer that may call tools: what comes before a call is free (or has a structure of its own), and
// from the mark that begins a call on, the model's own syntax binds: names are those of the tools, arguments follow
// their grammars.
//
// Marks that are tokens in this vocabulary stand in the grammar as bytes that no text has (mark_bytes); where a mark is
// spelled in text, the text before it is any that does not spell it.
#pragma once

#include <span>
#include <string>

#include "core/result.h"
#include "text/grammar.h"
#include "text/output_parser_state.h"

namespace redoubt {

struct ToolSignature {
  std::string name;      // letters, digits, _ - . : /
  GrammarPtr arguments;  // a JSON object
};

struct ToolCallOptions {
  ToolSyntax syntax = ToolSyntax::hermes;
  bool parallel = true;  // several calls in one answer
  GrammarPtr content;    // of an answer without a call; null: any text, and a call may follow it
};

bool can_bind_calls(ToolSyntax syntax);

// Errors: unsupported (a syntax whose arguments are no JSON), invalid_argument (too large together).
Result<GrammarPtr> grammar_with_tool_calls(const ToolCallOptions& options, std::span<const ToolSignature> tools,
                                           const Tokenizer& tokenizer);
Result<GrammarPtr> grammar_with_tool_calls(const ToolCallOptions& options, std::span<const ToolSignature> tools,
                                           const MarkIds& marks);

}  // namespace redoubt

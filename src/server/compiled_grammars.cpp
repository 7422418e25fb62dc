#include "server/compiled_grammars.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/clock.h"
#include "governance/permit.h"
#include "text/written_numbers.h"

namespace redoubt {
namespace {

std::string name_of(GrammarSpec::Kind kind) {
  switch (kind) {
    case GrammarSpec::Kind::none:
      return "none";
    case GrammarSpec::Kind::json_object:
      return "json_object";
    case GrammarSpec::Kind::json_schema:
      return "json_schema";
    case GrammarSpec::Kind::regex:
      return "regex";
    case GrammarSpec::Kind::choice:
      return "choice";
    case GrammarSpec::Kind::gbnf:
      return "gbnf";
  }
  return {};
}

// What the kind's source is beside its kind.
Json text_of(const GrammarSpec& spec) {
  switch (spec.kind) {
    case GrammarSpec::Kind::json_schema:
      return spec.schema;
    case GrammarSpec::Kind::choice:
      return spec.choices;
    case GrammarSpec::Kind::regex:
    case GrammarSpec::Kind::gbnf:
      return spec.text;
    case GrammarSpec::Kind::none:
    case GrammarSpec::Kind::json_object:
      break;
  }
  return {};
}

SchemaNumbers numbers_of(std::string_view json) {
  return numbers_are_as_written(json) ? SchemaNumbers::as_written : SchemaNumbers::unknown;
}

}  // namespace

Json source_of(const GrammarSpec& spec) { return Json::array({name_of(spec.kind), text_of(spec)}); }

Error grammar_error(const Error& error, const std::string& field, const std::string& of) {
  const bool is_unsupported = error.code == ErrorCode::unsupported;
  // A place in a schema is a JSON pointer, and goes on from the field.
  const std::string param = error.param.starts_with('/') ? field + error.param : field;
  // The compilers' own heads say what the field's name says better.
  std::string_view message = error.message;
  for (const std::string_view head : {"tools: ", "schema: ", "grammar: "}) {
    if (message.starts_with(head)) message.remove_prefix(head.size());
  }
  if (const std::string keyword = param.substr(param.rfind('/') + 1) + ": "; message.starts_with(keyword))
    message.remove_prefix(keyword.size());
  return {is_unsupported ? ErrorCode::unsupported : ErrorCode::invalid_argument,
          fmt::format("{}{}: {}", param, of, message), param};
}

CompiledGrammars::CompiledGrammars(const HttpRequest& http, const LoadedModel& model)
    : model_(model), tenant_(http.permit->principal().tenant), body_(http.body) {}

Result<GrammarPtr> CompiledGrammars::other(std::string kind, const Json& source,
                                           const GrammarCache::Compile& compile) const {
  if (model_.grammars == nullptr) return compile();
  return model_.grammars->find({.space = tenant_, .kind = std::move(kind), .source = dump_json(source)}, [&] {
    Result<GrammarPtr> compiled = compile();
    if (compiled && model_.vocabulary != nullptr) prepare(**compiled);
    return compiled;
  });
}

// Each has its time, and all together have some times as much: a request may bring hundreds of tools.
void CompiledGrammars::prepare(const Grammar& grammar) const {
  if (prepare_us_ <= 0) return;
  PrepareLimits limits;
  limits.max_us = std::min(limits.max_us, prepare_us_);
  const SteadyClock clock;
  const int64_t start_ns = clock.now_ns();
  prepare_masks(grammar, *model_.vocabulary, limits);
  prepare_us_ -= (clock.now_ns() - start_ns) / 1000;
}

Result<GrammarPtr> CompiledGrammars::json_object() const {
  return other(name_of(GrammarSpec::Kind::json_object), {}, grammar_for_json_object);
}

// The order of a schema's keys is the order of an answer's: the text as it came is the schema's own.
Result<GrammarPtr> CompiledGrammars::json_schema(const Json& schema) const {
  return json_schema(schema, numbers_of_body());
}

Result<GrammarPtr> CompiledGrammars::json_schema(const Json& schema, SchemaNumbers numbers) const {
  const bool is_as_written = numbers == SchemaNumbers::as_written;
  const std::string kind = name_of(GrammarSpec::Kind::json_schema) + (is_as_written ? "" : ", numbers unknown");
  return other(kind, schema, [&] { return grammar_from_json_schema(schema, numbers); });
}

SchemaNumbers CompiledGrammars::numbers_of_body() const {
  if (!numbers_) numbers_ = numbers_of(body_);
  return *numbers_;
}

Result<GrammarPtr> CompiledGrammars::of(const GrammarSpec& spec) const {
  auto compiled = [&]() -> Result<GrammarPtr> {
    switch (spec.kind) {
      case GrammarSpec::Kind::none:
        return GrammarPtr();
      case GrammarSpec::Kind::json_object:
        return json_object();
      case GrammarSpec::Kind::json_schema:
        return json_schema(spec.schema, spec.text.empty() ? numbers_of_body() : numbers_of(spec.text));
      case GrammarSpec::Kind::regex:
        return other(name_of(spec.kind), text_of(spec), [&] { return grammar_from_regex(spec.text); });
      case GrammarSpec::Kind::choice:
        return other(name_of(spec.kind), text_of(spec), [&] { return grammar_from_choice(spec.choices); });
      case GrammarSpec::Kind::gbnf:
        return other(name_of(spec.kind), text_of(spec), [&] { return grammar_from_gbnf(spec.text); });
    }
    return GrammarPtr();
  }();
  if (!compiled) return grammar_error(compiled.error(), spec.param);
  return compiled;
}

}  // namespace redoubt

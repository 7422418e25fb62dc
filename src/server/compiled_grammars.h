// Grammars as one tenant's requests to one model ask for them: compiled once, then kept with the model
// (text/grammar_cache.h), each tenant's apart.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model_host.h"
#include "server/http.h"
#include "text/grammar.h"

namespace redoubt {

// The structure an answer must have. `param` names the field it came from, for errors.
struct GrammarSpec {
  enum class Kind : uint8_t { none, json_object, json_schema, regex, choice, gbnf };
  Kind kind = Kind::none;
  Json schema;
  std::string text;  // regex, gbnf; of a schema what it was read from, if that was a string of the request
  std::vector<std::string> choices;
  std::string param;
};
// What tells two structures apart: equal texts, equal grammars.
Json source_of(const GrammarSpec& spec);

// What is wrong with the structure at `field`, and where in it: "response_format.json_schema.schema/properties/a/not".
// `of` says in the message whose it is (" (tool 'search')"). What is understood and not enforced: unsupported.
Error grammar_error(const Error& error, const std::string& field, const std::string& of = {});

class CompiledGrammars {
 public:
  // Of a model without a cache (grammars == nullptr) each is compiled anew. The model outlives this.
  CompiledGrammars(const HttpRequest& http, const LoadedModel& model);

  const LoadedModel& model() const { return model_; }
  // nullptr for none. A feature that is not enforced is the request's fault (400), named in the message.
  Result<GrammarPtr> of(const GrammarSpec& spec) const;
  Result<GrammarPtr> json_object() const;
  Result<GrammarPtr> json_schema(const Json& schema) const;  // errors without a param
  // Of another kind: `source` tells everything that `compile` depends on, but for the model.
  Result<GrammarPtr> other(std::string kind, const Json& source, const GrammarCache::Compile& compile) const;

 private:
  void prepare(const Grammar& grammar) const;
  Result<GrammarPtr> json_schema(const Json& schema, SchemaNumbers numbers) const;
  SchemaNumbers numbers_of_body() const;

  const LoadedModel& model_;
  std::string tenant_;
  std::string_view body_;                         // of the request, which outlives this
  mutable int64_t prepare_us_ = 150'000;          // left to find masks in, of all the request's grammars
  mutable std::optional<SchemaNumbers> numbers_;  // of the body, once they were asked for: it is gone through for that
};

}  // namespace redoubt

#include "governance/cedar_parser.h"

#include <fmt/format.h>

#include <array>
#include <unordered_set>

#include "core/utf8.h"
#include "governance/cedar_expression_parser.h"

namespace redoubt::cedar {

std::string_view effect_name(Effect effect) { return effect == Effect::permit ? "permit" : "forbid"; }

namespace {

constexpr size_t kMaxAnnotations = 64;
constexpr size_t kMaxConditions = 1000;  // `when` and `unless` of one policy

class PolicyParser {
 public:
  PolicyParser(TokenStream& tokens, Builder& builder, const ParseLimits& limits)
      : tokens_(tokens), builder_(builder), limits_(limits), expressions_(tokens, builder, limits.max_depth) {}

  Status policies() {
    std::unordered_set<std::string_view> ids;
    while (tokens_.peek().kind != Token::Kind::end) {
      const Token& begin = tokens_.peek();
      auto& parsed = builder_.program.policies;
      if (parsed.size() == limits_.max_policies) {
        return tokens_.at(begin, fmt::format("more than {} policies", limits_.max_policies));
      }
      REDOUBT_TRY(Policy policy, this->policy());
      if (policy.id.empty()) policy.id = builder_.arena().copy(fmt::format("policy{}", parsed.size()));
      if (!ids.insert(policy.id).second) {
        return tokens_.at(begin, fmt::format("a second policy with the id {}", in_quotes(policy.id)));
      }
      parsed.push_back(std::move(policy));
    }
    return ok();
  }

 private:
  Result<Policy> policy() {
    Policy policy;
    policy.begin = tokens_.peek().position;
    while (tokens_.peek().is("@")) REDOUBT_CHECK(annotation(policy));
    const Token& effect = tokens_.peek();
    if (!effect.is("permit") && !effect.is("forbid")) return tokens_.unexpected("permit or forbid");
    policy.effect = tokens_.next().text == "permit" ? Effect::permit : Effect::forbid;
    REDOUBT_CHECK(tokens_.expect("("));
    REDOUBT_CHECK(tokens_.expect("principal"));
    REDOUBT_TRY(policy.principal, entity_scope());
    REDOUBT_CHECK(tokens_.expect(","));
    REDOUBT_CHECK(tokens_.expect("action"));
    REDOUBT_TRY(policy.action, action_scope());
    REDOUBT_CHECK(tokens_.expect(","));
    REDOUBT_CHECK(tokens_.expect("resource"));
    REDOUBT_TRY(policy.resource, entity_scope());
    tokens_.take(",");
    REDOUBT_CHECK(tokens_.expect(")"));
    while (tokens_.peek().is("when") || tokens_.peek().is("unless")) REDOUBT_CHECK(condition(policy));
    const Token& last = tokens_.peek();
    REDOUBT_CHECK(tokens_.expect(";"));
    policy.end = last.position + 1;
    return policy;
  }

  Status annotation(Policy& policy) {
    tokens_.next();
    const Token& key = tokens_.peek();
    if (key.kind != Token::Kind::name) return tokens_.unexpected("an annotation's name");
    tokens_.next();
    std::string_view value;
    if (tokens_.take("(")) {
      REDOUBT_TRY(const std::string text, expressions_.string_literal());
      value = builder_.arena().copy(text);
      REDOUBT_CHECK(tokens_.expect(")"));
    }
    for (const auto& [name, other] : policy.annotations) {
      if (name == key.text) return tokens_.at(key, fmt::format("a second annotation @{}", key.text));
    }
    if (policy.annotations.size() == kMaxAnnotations) {
      return tokens_.at(key, fmt::format("more than {} annotations", kMaxAnnotations));
    }
    policy.annotations.emplace_back(key.text, value);
    if (key.text == "id") policy.id = value;
    return ok();
  }

  Status condition(Policy& policy) {
    const Token& word = tokens_.next();
    REDOUBT_CHECK(tokens_.expect("{"));
    REDOUBT_TRY(uint32_t node, expressions_.expression());
    REDOUBT_CHECK(tokens_.expect("}"));
    if (word.text == "unless") {
      REDOUBT_TRY(node, builder_.node(Op::logical_not, std::array{node}, word.position));
    }
    if (policy.conditions.size() == kMaxConditions) {
      return tokens_.at(word, fmt::format("more than {} conditions", kMaxConditions));
    }
    policy.conditions.push_back(node);
    return ok();
  }

  Result<const EntityName*> scope_entity() {
    if (tokens_.peek().is("?")) {
      return tokens_.at(tokens_.peek(), "templates (?principal, ?resource) are not supported");
    }
    return expressions_.entity();
  }

  Result<Scope> entity_scope() {
    Scope scope;
    if (tokens_.take("is")) {
      scope.test = Scope::Test::is;
      REDOUBT_TRY(scope.type, expressions_.type_name());
      if (!tokens_.take("in")) return scope;
      scope.test = Scope::Test::is_in;
    } else if (tokens_.take("==")) {
      scope.test = Scope::Test::equal;
    } else if (tokens_.take("in")) {
      scope.test = Scope::Test::in;
    } else {
      return scope;
    }
    REDOUBT_TRY(const EntityName* name, scope_entity());
    scope.names.push_back(name);
    return scope;
  }

  Result<Scope> action_scope() {
    Scope scope;
    if (tokens_.take("==")) {
      scope.test = Scope::Test::equal;
    } else if (tokens_.take("in")) {
      scope.test = Scope::Test::in;
      if (tokens_.take("[")) {
        while (!tokens_.take("]")) {
          REDOUBT_TRY(const EntityName* name, action_entity());
          scope.names.push_back(name);
          if (!tokens_.peek().is("]")) REDOUBT_CHECK(tokens_.expect(","));
        }
        return scope;
      }
    } else if (tokens_.peek().is("is")) {
      return tokens_.at(tokens_.peek(), "'is' has no place at the action");
    } else {
      return scope;
    }
    REDOUBT_TRY(const EntityName* name, action_entity());
    scope.names.push_back(name);
    return scope;
  }

  Result<const EntityName*> action_entity() {
    const Token& begin = tokens_.peek();
    REDOUBT_TRY(const EntityName* name, scope_entity());
    if (name->type != "Action" && !name->type.ends_with("::Action")) {
      return tokens_.at(begin, fmt::format("expected an entity of type Action, found {}", to_text(*name)));
    }
    return name;
  }

  TokenStream& tokens_;
  Builder& builder_;
  const ParseLimits& limits_;
  ExpressionParser expressions_;
};

}  // namespace

Result<Program> parse_policies(std::string_view text, const ParseLimits& limits, Arena& arena) {
  if (text.size() > limits.max_bytes) {
    return invalid(fmt::format("policies: {} bytes of text, at most {}", text.size(), limits.max_bytes));
  }
  if (!is_valid_utf8(text)) return invalid("policies: the text is not UTF-8");
  REDOUBT_TRY(const std::vector<Token> list, tokenize(text));
  TokenStream tokens(text, list);
  Builder builder(text, limits.max_depth, arena);
  REDOUBT_CHECK(PolicyParser(tokens, builder, limits).policies());
  return std::move(builder.program);
}

}  // namespace redoubt::cedar

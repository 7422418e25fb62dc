#include "governance/policy_authority.h"

#include <charconv>
#include <optional>

namespace redoubt {
namespace {

std::optional<int64_t> whole_number(const std::string& text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

PolicyContext policy_context(const AccessQuestion& question, int64_t now_ms) {
  PolicyContext context{.now_ms = now_ms};
  for (const auto& [key, value] : question.context) {
    if (key == "source_ip") {
      context.source_ip = value;
    } else if (key == "purpose") {
      context.purpose = value;  // a string, also if it is written in digits
    } else if (key == "stage") {
      context.stage = value;
    } else if (key == "auth_method") {
      context.auth_method = value;
    } else if (const auto number = whole_number(value)) {
      if (key == "budget_left") {
        context.budget_left = number;
      } else {
        context.numbers[key] = *number;
      }
    } else {
      context.strings[key] = value;
    }
  }
  return context;
}

Verdict PolicyAuthority::decide(const Principal& principal, const AccessQuestion& question) const {
  if (is_stale()) return Verdict::unknown;
  PolicyContext context = policy_context(question, clock_.now_ms());
  if (question.budget_left && engine_->snapshot()->policies->reads_budget())
    context.budget_left = question.budget_left(principal);
  const Decision decision = engine_->decide(
      AuthorizationRequest(principal, question.action, question.resource_kind, question.resource_id, context),
      question.model_follows);
  return decision.allowed ? Verdict::permitted : decision.forbidden() ? Verdict::forbidden : Verdict::not_permitted;
}

Status PolicyAuthority::still_valid(const Principal&) const {
  if (is_stale()) return unavailable("who may do what cannot be told now: the database is away");
  return ok();
}

PrincipalPtr PolicyAuthority::current(const PrincipalPtr& principal) const {
  return principals_.current ? principals_.current(*principal) : principal;
}

uint64_t PolicyAuthority::version() const {
  const uint64_t principals = principals_.version ? principals_.version() : 0;
  // Also when what is known is too old to decide by, and when it is young again.
  const uint64_t stale = is_stale() ? 1 : 0;
  return engine_->version() * 0x9E3779B97F4A7C15u ^ (principals * 2 + stale);
}

}  // namespace redoubt

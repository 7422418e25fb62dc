#include "governance/limit_index.h"

#include <fmt/format.h>

#include <algorithm>

namespace redoubt {
namespace {

std::string subject_key(LimitScope scope, std::string_view subject) {
  return fmt::format("{} {}", scope_name(scope), subject);
}

}  // namespace

LimitIndex::LimitIndex(LimitRules rules) : rules_(std::move(rules)) {
  for (const LimitRule& rule : rules_.rules) by_subject_[subject_key(rule.scope, rule.subject)].push_back(&rule);
}

std::vector<LimitIndex::Met> LimitIndex::limits_of(const Principal& principal, const std::string& model) const {
  std::vector<Met> met;
  if (rules_.rules.empty()) return met;
  const auto add = [&](LimitScope scope, const std::string& subject, bool is_each = true) {
    if (subject.empty()) return;
    const size_t own = met.size();
    for (const std::string_view of : {std::string_view(subject), std::string_view("*")}) {
      if (of == "*" && !is_each) continue;
      const auto at = by_subject_.find(subject_key(scope, of));
      if (at == by_subject_.end()) continue;
      for (const LimitRule* rule : at->second) {
        if (!rule->model.empty() && rule->model != model) continue;
        const auto same = [&](const Met& other) {
          return other.rule->kind == rule->kind && other.rule->model == rule->model;
        };
        if (std::find_if(met.begin() + static_cast<std::ptrdiff_t>(own), met.end(), same) != met.end()) continue;
        const std::string of_model = rule->model.empty() ? "" : " for " + rule->model;
        met.push_back({rule, fmt::format("{} {} {}{}", kind_name(rule->kind), scope_name(scope), subject, of_model),
                       fmt::format("{} of {} {}{}", kind_name(rule->kind), scope_name(scope), subject, of_model)});
      }
    }
  };
  add(LimitScope::tenant, principal.tenant);
  for (const std::string& team : principal.teams) add(LimitScope::team, principal.tenant + "/" + team);
  if (!principal.id.empty()) add(LimitScope::user, principal.tenant + "/" + principal.id);
  // Keys that follow one another by rotation are one: what the first used counts for the last.
  const std::string& first = principal.first_key.empty() ? principal.key_id : principal.first_key;
  add(LimitScope::key, first);
  if (principal.key_id != first) add(LimitScope::key, principal.key_id, false);
  add(LimitScope::model, model);
  return met;
}

const TenantSetting& LimitIndex::tenant(const std::string& name) const {
  const auto at = rules_.tenants.find(name);
  return at == rules_.tenants.end() ? default_tenant_ : at->second;
}

ModelPrice LimitIndex::price(const std::string& model) const {
  const auto at = rules_.prices.find(model);
  return at == rules_.prices.end() ? ModelPrice{} : at->second;
}

int64_t amount_of(LimitKind kind, const UseAmounts& use, const ModelPrice& price) {
  constexpr int64_t kMillion = 1'000'000;
  switch (kind) {
    case LimitKind::requests_per_minute:
    case LimitKind::concurrent_streams:
      return 1;
    case LimitKind::tokens_per_minute:
    case LimitKind::tokens_per_day:
    case LimitKind::tokens_per_month:
    case LimitKind::context_tokens:
      return use.prompt + use.answer;
    case LimitKind::money_per_day:
    case LimitKind::money_per_month: {
      const auto cost =
          static_cast<__int128>(use.prompt) * price.prompt + static_cast<__int128>(use.answer) * price.answer;
      return static_cast<int64_t>((cost + kMillion - 1) / kMillion);
    }
    case LimitKind::thinking_tokens_per_day:
    case LimitKind::thinking_tokens_per_request:
      return use.thinking;
  }
  return 0;
}

}  // namespace redoubt

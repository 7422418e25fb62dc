#include "server/admin_limits.h"

#include <fmt/format.h>

#include <algorithm>

#include "server/admin_answer.h"
#include "server/json_fields.h"
#include "server/router.h"
#include "server/routes_schemas.h"

namespace redoubt {
namespace {

Json shown(const LimitRule& rule) {
  return {{"scope", scope_name(rule.scope)},
          {"subject", rule.subject},
          {"kind", kind_name(rule.kind)},
          {"model", rule.model},
          {"amount", rule.amount}};
}
Json shown(const std::string& tenant, const TenantSetting& setting) {
  return {{"tenant", tenant}, {"time_zone", setting.time_zone}, {"share_weight", setting.share_weight}};
}
Json shown(const std::string& model, const ModelPrice& price) {
  return {{"model", model}, {"prompt", price.prompt}, {"answer", price.answer}};
}

bool is_money(LimitKind kind) { return kind == LimitKind::money_per_day || kind == LimitKind::money_per_month; }

bool has_price(const LimitRules& all, const std::string& model) {
  const auto at = all.prices.find(model);
  return at != all.prices.end() && (at->second.prompt > 0 || at->second.answer > 0);
}

bool is_known(const DirectorySnapshot& there, LimitScope scope, const std::string& subject) {
  const size_t slash = subject.find('/');
  const std::string tenant = subject.substr(0, slash), name = slash < subject.size() ? subject.substr(slash + 1) : "";
  switch (scope) {
    case LimitScope::tenant:
      return there.tenants.contains(subject);
    case LimitScope::team:
      return there.teams.contains({tenant, name});
    case LimitScope::user: {
      // "corp:alice": whom a provider's token names, the directory need not know.
      const auto found = there.principals.find(name);
      return found != there.principals.end() ? found->second.tenant == tenant : name.find(':') != std::string::npos;
    }
    case LimitScope::key:
      return there.keys.contains(subject) ||
             std::ranges::any_of(there.keys, [&](const auto& key) { return key.second->first_key == subject; });
    case LimitScope::model:
      return true;
  }
  return true;
}

}  // namespace

Json LimitAdministration::warnings_of(const LimitRule& rule, const LimitRules& all) const {
  Json warnings = Json::array();
  const std::string name = fmt::format("{} of {} {}", kind_name(rule.kind), scope_name(rule.scope), rule.subject);
  if (rule.subject != "*" && directory != nullptr && !is_known(*directory->snapshot(), rule.scope, rule.subject))
    warnings.push_back(
        fmt::format("{}: there is no {} of that name; until there is, it limits nobody", name, scope_name(rule.scope)));
  std::vector<std::string> named;  // the models that it counts alone
  if (!rule.model.empty()) named.push_back(rule.model);
  if (rule.scope == LimitScope::model && rule.subject != "*") named.push_back(rule.subject);
  for (const std::string& model : named) {
    if (!models.empty() && std::ranges::find(models, model) == models.end())
      warnings.push_back(fmt::format("{}: no model {} is served; until one is, it limits nothing", name, model));
  }
  if (!is_money(rule.kind)) return warnings;
  if (named.empty() && models.empty()) {
    if (std::ranges::none_of(all.prices, [&](const auto& price) { return has_price(all, price.first); }))
      warnings.push_back(fmt::format("{}: no model has a price, so it limits nothing", name));
    return warnings;
  }
  for (const std::string& model : named.empty() ? models : named) {
    if (!has_price(all, model))
      warnings.push_back(fmt::format("{}: {} has no price, so its tokens cost nothing", name, model));
  }
  return warnings;
}

Result<Json> LimitAdministration::list() const {
  REDOUBT_TRY(const LimitRules rules, store.rules());
  Json limits = Json::array(), tenants = Json::array(), prices = Json::array();
  Json warnings = Json::array();
  for (const LimitRule& rule : rules.rules) {
    limits.push_back(shown(rule));
    for (Json& warning : warnings_of(rule, rules)) warnings.push_back(std::move(warning));
  }
  for (const auto& [tenant, setting] : rules.tenants) tenants.push_back(shown(tenant, setting));
  for (const auto& [model, price] : rules.prices) prices.push_back(shown(model, price));
  return Json{{"limits", std::move(limits)},
              {"tenants", std::move(tenants)},
              {"prices", std::move(prices)},
              {"warnings", std::move(warnings)}};
}

Result<Json> LimitAdministration::set(const Json& body) const {
  REDOUBT_CHECK(check_fields(body, {"scope", "subject", "kind", "model", "amount"}));
  const JsonFields fields(body);
  REDOUBT_TRY(const auto scope_text, fields.string("scope"));
  REDOUBT_TRY(const auto kind_text, fields.string("kind"));
  REDOUBT_TRY(const auto subject, fields.string("subject"));
  REDOUBT_TRY(const auto model, fields.string("model"));
  REDOUBT_TRY(const auto amount, fields.integer("amount", 0));
  const auto scope = scope_of(scope_text.value_or(""));
  const auto kind = kind_of(kind_text.value_or(""));
  if (!scope) return invalid("scope: expected tenant, team, user, key or model", "scope");
  if (!kind) return invalid("kind: expected one of docs/limits.md, such as tokens_per_day", "kind");
  if (!body.contains("amount")) return invalid("amount: expected a number, or null for no limit", "amount");
  LimitRule rule{*scope, subject.value_or("*"), *kind, model.value_or(""), amount.value_or(0)};
  // A limit of a key that rotation made is one of all that it stands in place of.
  if (*scope == LimitScope::key && directory != nullptr) {
    const auto there = directory->snapshot();
    if (const auto key = there->keys.find(rule.subject); key != there->keys.end())
      rule.subject = key->second->first_key;
  }
  REDOUBT_CHECK(amount ? store.set(rule) : store.remove(rule));
  Json out = shown(rule);
  if (!amount) {
    out["amount"] = nullptr;
    out["warnings"] = Json::array();
    return out;
  }
  REDOUBT_TRY(const LimitRules rules, store.rules());
  out["warnings"] = warnings_of(rule, rules);
  return out;
}

Result<Json> LimitAdministration::set_tenant(const std::string& tenant, const Json& body) const {
  REDOUBT_CHECK(check_fields(body, {"time_zone", "share_weight"}));
  const JsonFields fields(body);
  REDOUBT_TRY(const auto zone, fields.string("time_zone"));
  REDOUBT_TRY(const auto weight, fields.number("share_weight", 1e-3, 1e3));
  if (!zone && !weight) return invalid("expected time_zone, share_weight or both", "time_zone");
  if (directory != nullptr && !directory->snapshot()->tenants.contains(tenant))
    return not_found(fmt::format("tenant {}: there is none of that name", tenant));
  REDOUBT_TRY(const LimitRules rules, store.rules());
  const auto at = rules.tenants.find(tenant);
  TenantSetting setting = at == rules.tenants.end() ? TenantSetting{} : at->second;
  if (zone) setting.time_zone = *zone;
  if (weight) setting.share_weight = *weight;
  REDOUBT_CHECK(store.set_tenant(tenant, setting));
  return shown(tenant, setting);
}

Result<Json> LimitAdministration::set_price(const std::string& model, const Json& body) const {
  REDOUBT_CHECK(check_fields(body, {"prompt", "answer"}));
  const JsonFields fields(body);
  REDOUBT_TRY(const auto prompt, fields.integer("prompt", 0));
  REDOUBT_TRY(const auto answer, fields.integer("answer", 0));
  if (!prompt && !answer) return invalid("expected prompt, answer or both", "prompt");
  REDOUBT_TRY(const LimitRules rules, store.rules());
  const auto at = rules.prices.find(model);
  ModelPrice price = at == rules.prices.end() ? ModelPrice{} : at->second;
  if (prompt) price.prompt = *prompt;
  if (answer) price.answer = *answer;
  REDOUBT_CHECK(store.set_price(model, price));
  Json out = shown(model, price);
  out["warnings"] = Json::array();
  if (!models.empty() && std::ranges::find(models, model) == models.end())
    out["warnings"].push_back(fmt::format("no model {} is served", model));
  return out;
}

Result<Json> LimitAdministration::usage(const std::string& counter) const {
  REDOUBT_TRY(const auto standings, ledger.standings(counter, wall.now_ms()));
  Json list = Json::array();
  for (const QuotaStanding& standing : standings)
    list.push_back({{"counter", standing.key.counter},
                    {"period", standing.key.period},
                    {"settled", standing.settled},
                    {"reserved", standing.reserved}});
  return Json{{"usage", std::move(list)}};
}

void add_limit_routes(const LimitAdministration& limits, std::vector<Route>& routes) {
  const auto add = [&](std::string method, std::string path, std::string summary, AdminAnswer answer,
                       std::vector<Json> parameters = {}) {
    const bool reads = method == "GET";
    routes.push_back({.method = std::move(method),
                      .path = std::move(path),
                      .rule = admin_rule(reads ? "read_system" : "manage_limits"),
                      .max_body_bytes = size_t{64} << 10,
                      .summary = std::move(summary),
                      .request_schema = reads ? Json() : object_schema({}),
                      .response_schema = object_schema({}),
                      .parameters = std::move(parameters),
                      .handler = answering(std::move(answer))});
  };
  add("GET", "/admin/v1/limits", "Limits, tenants' settings, prices",
      [limits](const HttpRequest&) { return limits.list(); });
  add("PUT", "/admin/v1/limits", "Set or lift a limit",
      with_body([limits](const HttpRequest&, const Json& body) { return limits.set(body); }));
  add("PUT", "/admin/v1/limits/tenants/{id}", "A tenant's time zone and share of the machine",
      with_body([limits](const HttpRequest& request, const Json& body) {
        return limits.set_tenant(path_param(request.path_params, "id"), body);
      }),
      {path_parameter("id")});
  add("PUT", "/admin/v1/limits/prices/{id}", "A model's price",
      with_body([limits](const HttpRequest& request, const Json& body) {
        return limits.set_price(path_param(request.path_params, "id"), body);
      }),
      {path_parameter("id")});
  add("GET", "/admin/v1/limits/usage", "What is settled and reserved", [limits](const HttpRequest& request) {
    const auto at = std::ranges::find(request.query, "counter", &std::pair<std::string, std::string>::first);
    return limits.usage(at == request.query.end() ? "" : at->second);
  });
}

}  // namespace redoubt

#include "server/admin_fields.h"

#include <fmt/format.h>

#include "server/json_fields.h"

namespace redoubt {
namespace {

// `method`: that of all in the list; "": each says its own.
Status add_identities(const Json& list, const std::string& method, std::vector<ExternalIdentity>& out) {
  if (!list.is_array()) return wrong_type("identities", "an array of objects", list);
  for (const Json& item : list) {
    if (!item.is_object()) return wrong_type("identities", "an array of objects", item);
    const JsonFields fields(item, "identities");
    REDOUBT_TRY(const auto own_method, fields.string("method"));
    REDOUBT_TRY(const auto issuer, fields.string("issuer"));
    REDOUBT_TRY(const auto subject, fields.string("subject"));
    out.push_back({method.empty() ? own_method.value_or("") : method, issuer.value_or(""), subject.value_or("")});
  }
  return ok();
}

// An array: all that somebody has. An object, {"mtls": […], "oidc": null}: those of the methods it names.
Status read_identities(const Json& body, PrincipalChange& change) {
  const auto found = body.find("identities");
  if (found == body.end() || found->is_null()) return ok();
  change.identities.emplace();
  if (!found->is_object()) return add_identities(*found, "", *change.identities);
  for (const auto& [method, list] : found->items()) {
    if (!is_identity_method(method)) return invalid("identities: expected oidc or mtls", "identities");
    change.identity_methods.push_back(method);
    if (list.is_null()) continue;
    REDOUBT_CHECK(add_identities(list, method, *change.identities));
  }
  if (change.identity_methods.empty()) change.identities.reset();
  return ok();
}

}  // namespace

Result<std::optional<std::vector<std::string>>> string_list(const Json& body, const std::string& name) {
  REDOUBT_TRY(const Json* const found, JsonFields(body).array(name));
  if (found == nullptr) return std::optional<std::vector<std::string>>();
  std::vector<std::string> list;
  for (const Json& item : *found) {
    if (!item.is_string()) return wrong_type(name, "an array of strings", item);
    list.push_back(item.get<std::string>());
  }
  return std::optional(std::move(list));
}

Result<LabelChange> label_change(const Json& body) {
  REDOUBT_TRY(const Json* const found, JsonFields(body).object("labels"));
  LabelChange labels;
  if (found == nullptr) return labels;
  for (const auto& [name, value] : found->items()) {
    if (!value.is_string() && !value.is_null()) return wrong_type("labels", "strings as values, or null", value);
    labels[name] = value.is_null() ? std::nullopt : std::optional(value.get<std::string>());
  }
  return labels;
}

Result<PrincipalChange> principal_change(const Json& body) {
  PrincipalChange change;
  const JsonFields fields(body);
  REDOUBT_TRY(change.name, fields.string("name"));
  REDOUBT_TRY(change.teams, string_list(body, "teams"));
  REDOUBT_TRY(change.roles, string_list(body, "roles"));
  REDOUBT_TRY(change.labels, label_change(body));
  REDOUBT_CHECK(read_identities(body, change));
  REDOUBT_TRY(change.disabled, fields.boolean("disabled"));
  return change;
}

Result<TenantChange> tenant_change(const Json& body) {
  TenantChange change;
  const JsonFields fields(body);
  REDOUBT_TRY(change.name, fields.string("name"));
  REDOUBT_TRY(change.labels, label_change(body));
  REDOUBT_TRY(change.disabled, fields.boolean("disabled"));
  return change;
}

Result<TeamChange> team_change(const Json& body) {
  TeamChange change;
  REDOUBT_TRY(change.name, JsonFields(body).string("name"));
  REDOUBT_TRY(change.labels, label_change(body));
  return change;
}

Result<std::string> required_string(const Json& body, const std::string& name) {
  REDOUBT_TRY(const auto found, JsonFields(body).string(name));
  if (!found || found->empty()) return invalid(fmt::format("{}: expected a string", name), name);
  return *found;
}

}  // namespace redoubt

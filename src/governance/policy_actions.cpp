#include "governance/policy_actions.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace redoubt {
namespace {

constexpr std::array kActions{
    ActionEntry{"use", "", "what anybody who works with models needs"},
    ActionEntry{"generate", "use", "have a model answer"},
    ActionEntry{"tokenize", "use", "turn text into tokens and back"},
    ActionEntry{"read_models", "use", "see which models there are"},
    ActionEntry{"shape", "", "change how an answer is made"},
    ActionEntry{"set_priority", "shape", "ask to be served before others"},
    ActionEntry{"set_keep_alive", "shape", "say how long a model stays loaded"},
    ActionEntry{"set_chat_template", "shape", "bring a chat template of one's own"},
    ActionEntry{"use_adapter", "shape", "have an adapter applied"},
    ActionEntry{"train", "", "make an adapter from a dataset"},
    ActionEntry{"use_dataset", "", "read a dataset"},
    ActionEntry{"observe", "", "watch how the server does"},
    ActionEntry{"read_metrics", "observe", "read counters and times"},
    ActionEntry{"read_system", "observe", "read configuration, nodes and versions"},
    ActionEntry{"administer_system", "", "what the system administrator does"},
    ActionEntry{"manage_models", "administer_system", "load, unload, add and remove models and adapters"},
    ActionEntry{"manage_nodes", "administer_system", "drain, stop and configure nodes"},
    ActionEntry{"manage_users", "administer_system", "add, change and disable users, services, teams and tenants"},
    ActionEntry{"administer_security", "", "what the security administrator does"},
    ActionEntry{"read_policies", "administer_security", "read policies, explain and compare them"},
    ActionEntry{"manage_policies", "administer_security", "change policies"},
    ActionEntry{"manage_keys", "administer_security", "issue and revoke API keys, change their scopes"},
    ActionEntry{"manage_limits", "administer_security", "change limits and budgets"},
    ActionEntry{"administer_audit", "", "what the audit administrator does"},
    ActionEntry{"read_audit", "administer_audit", "read audit records"},
    ActionEntry{"export_audit", "administer_audit", "take audit records out"},
    ActionEntry{"manage_audit", "administer_audit", "change where records go and how long they are kept"},
    ActionEntry{"appoint_administrators", "", "name the three administrators, once"},
};

constexpr std::array<std::string_view, 12> kTypes{
    "Redoubt::User",    "Redoubt::Service", "Redoubt::Open",   "Redoubt::Appointer",
    "Redoubt::Team",    "Redoubt::Role",    "Redoubt::Tenant", "Redoubt::Model",
    "Redoubt::Adapter", "Redoubt::Dataset", "Redoubt::Route",  "Redoubt::Action",
};

// A policy on an attribute that is of another kind than it expects has no say, and this one is read by forbids.
Status check_tenants(const cedar::Entities& entities) {
  for (const cedar::Entity& entity : entities.all()) {
    const cedar::Value* tenant = entity.attributes != nullptr ? entity.attributes->find("tenant") : nullptr;
    if (tenant == nullptr) continue;
    if (tenant->kind != cedar::Kind::entity || tenant->entity->type != "Redoubt::Tenant") {
      return invalid(fmt::format("entities: {}: tenant: expected an entity of type Redoubt::Tenant, found {}",
                                 cedar::to_text(entity.name), cedar::to_text(*tenant)));
    }
  }
  return ok();
}

}  // namespace

std::span<const ActionEntry> action_table() { return kActions; }

const ActionEntry* find_action(std::string_view name) {
  const auto at =
      std::find_if(kActions.begin(), kActions.end(), [&](const ActionEntry& entry) { return entry.name == name; });
  return at == kActions.end() ? nullptr : &*at;
}

bool is_asked_of_route(std::string_view action) {
  const ActionEntry* entry = find_action(action);
  return entry != nullptr && entry->group == "use";
}

std::span<const std::string_view> entity_types() { return kTypes; }

std::string_view entity_type(std::string_view kind) {
  constexpr std::string_view kNamespace = "Redoubt::";
  for (const std::string_view type : kTypes) {
    if (type.substr(kNamespace.size()) == kind) return type;
  }
  return {};
}

bool is_principal_type(std::string_view type) {
  return type == "Redoubt::User" || type == "Redoubt::Service" || type == "Redoubt::Open" ||
         type == "Redoubt::Appointer";
}
bool is_group_type(std::string_view type) {
  return type == "Redoubt::Role" || type == "Redoubt::Team" || type == "Redoubt::Tenant";
}
bool is_resource_type(std::string_view type) {
  return type == "Redoubt::Model" || type == "Redoubt::Adapter" || type == "Redoubt::Dataset" ||
         type == "Redoubt::Route";
}

Json with_configured(Json described, const Json& configured) {
  if (!described.is_array()) return described;  // an error, elsewhere
  const auto uid_of = [](const Json& entity) {
    const Json uid = entity.is_object() ? entity.value("uid", Json()) : Json();
    return uid.is_object() && uid.contains("__entity") ? uid["__entity"] : uid;
  };
  const size_t own = described.size();
  for (const Json& entity : configured) {
    const auto end = described.begin() + static_cast<std::ptrdiff_t>(own);
    if (std::none_of(described.begin(), end, [&](const Json& one) { return uid_of(one) == uid_of(entity); }))
      described.push_back(entity);
  }
  return described;
}

Result<std::shared_ptr<const cedar::Entities>> shared_entities(const Json& described) {
  if (!described.is_array()) return invalid("entities: expected a list");
  Json all = described;
  for (const ActionEntry& action : kActions) {
    Json parents = Json::array();
    if (!action.group.empty()) parents.push_back({{"type", "Redoubt::Action"}, {"id", std::string(action.group)}});
    all.push_back({{"uid", {{"type", "Redoubt::Action"}, {"id", std::string(action.name)}}},
                   {"attrs", Json::object()},
                   {"parents", std::move(parents)}});
  }
  REDOUBT_TRY(cedar::Entities entities, cedar::Entities::from_json(all));
  REDOUBT_CHECK(check_tenants(entities));
  return std::make_shared<const cedar::Entities>(std::move(entities));
}

}  // namespace redoubt

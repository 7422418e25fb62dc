// The actions that policies speak of, and the groups they belong to: Redoubt::Action::"generate" is in
// Redoubt::Action::"use". A policy that names a group covers all in it, also those that come later.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "governance/cedar_entities.h"

namespace redoubt {

struct ActionEntry {
  std::string_view name;
  std::string_view group;    // an entry's name, or empty
  std::string_view meaning;  // for people
};
std::span<const ActionEntry> action_table();
const ActionEntry* find_action(std::string_view name);

// Done to models by routes that are asked about before.
bool is_asked_of_route(std::string_view action);

// "Redoubt::Action", "Redoubt::User", ...: `kind` is the part after the ::.
std::string_view entity_type(std::string_view kind);  // empty if there is no such type
std::span<const std::string_view> entity_types();     // all, with "Redoubt::"

bool is_principal_type(std::string_view type);  // with "Redoubt::", as the next two
bool is_group_type(std::string_view type);      // that a principal belongs to
bool is_resource_type(std::string_view type);

// The actions with their groups as entities, and, beside them, what an administrator described: models with labels,
// datasets, adapters. Errors: invalid_argument; also a resource's `tenant` that is no Redoubt::Tenant, since the
// policies that keep tenants apart could not be evaluated.
Result<std::shared_ptr<const cedar::Entities>> shared_entities(const Json& described = Json::array());

// `described`, and of `configured` (the models' labels in the server's configuration) whatever it does not speak of.
Json with_configured(Json described, const Json& configured);

}  // namespace redoubt

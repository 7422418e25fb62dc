// The laws of directory.h as functions of what there is, and what names, lists and labels may hold.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "governance/directory.h"
#include "governance/directory_records.h"

namespace redoubt {

Status check_id(const std::string& what, const std::string& id);
Status check_name(const std::optional<std::string>& name);
// The labels after a change.
Result<Labels> changed(const Labels& labels, const LabelChange& change);
// `tenant` is the principal's: its teams must be there.
Status check_principal_fields(const DirectorySnapshot& there, const std::string& tenant, const PrincipalChange& fields);

// May `actor` give a principal these roles, having had those?
Status may_set_roles(const Actor& actor, const std::vector<std::string>& before, const std::vector<std::string>& after);
Status may_change(const Actor& actor, const PrincipalRecord& principal);
// `ends_s`: when the key would end; 0: never.
Status may_make_key(const Actor& actor, const PrincipalRecord& principal, const std::vector<std::string>& scopes,
                    int64_t ends_s);
Status may_revoke_key(const Actor& actor, const PrincipalRecord& principal);
Status check_key_request(const KeyRequest& request);

std::string actor_name(const Actor& actor);  // its id, or "owner"

}  // namespace redoubt

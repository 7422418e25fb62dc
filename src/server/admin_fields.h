// The fields of administrative bodies as the directory wants them. An absent field is left as it is.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "governance/directory.h"

namespace redoubt {

Result<std::optional<std::vector<std::string>>> string_list(const Json& body, const std::string& name);
// {"labels": {"site": "graz", "floor": null}}: sets one and takes one away (RFC 7396); the others stay.
Result<LabelChange> label_change(const Json& body);
Result<PrincipalChange> principal_change(const Json& body);
Result<TenantChange> tenant_change(const Json& body);
Result<TeamChange> team_change(const Json& body);
Result<std::string> required_string(const Json& body, const std::string& name);

}  // namespace redoubt

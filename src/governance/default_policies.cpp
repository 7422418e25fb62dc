#include "governance/default_policies.h"

namespace redoubt {

std::string_view default_policy_text() {
  return R"(// What a new server permits. `redoubt policy show` prints this text; docs/policies.md explains it.

@id("users-work-with-models")
permit (
  principal in Redoubt::Role::"user",
  action in Redoubt::Action::"use",
  resource
)
when { !(resource has tenant) || principal in resource.tenant };

@id("a-model-of-one-tenant-is-not-another's")
forbid (
  principal,
  action,
  resource
)
when { resource has tenant }
unless { principal in resource.tenant };

@id("system-administrators-run-the-server")
permit (
  principal in Redoubt::Role::"system_admin",
  action in [Redoubt::Action::"administer_system", Redoubt::Action::"observe"],
  resource
);

@id("security-administrators-decide-who-may-what")
permit (
  principal in Redoubt::Role::"security_admin",
  action in [Redoubt::Action::"administer_security", Redoubt::Action::"read_system"],
  resource
);

@id("audit-administrators-see-what-happened")
permit (
  principal in Redoubt::Role::"audit_admin",
  action in [Redoubt::Action::"administer_audit", Redoubt::Action::"observe", Redoubt::Action::"read_policies"],
  resource
);

@id("the-appointing-key-appoints")
permit (
  principal is Redoubt::Appointer,
  action == Redoubt::Action::"appoint_administrators",
  resource
);

@id("without-keys-everybody-works-with-models")
permit (
  principal is Redoubt::Open,
  action in [Redoubt::Action::"use", Redoubt::Action::"shape", Redoubt::Action::"observe"],
  resource
);
)";
}

std::string_view guard_policy_text() {
  return R"(@id("guard: running the server is the system administrator's part alone")
forbid (principal, action in Redoubt::Action::"administer_system", resource)
unless {
  principal in Redoubt::Role::"system_admin" &&
  !(principal in Redoubt::Role::"security_admin") &&
  !(principal in Redoubt::Role::"audit_admin")
};

@id("guard: deciding who may what is the security administrator's part alone")
forbid (
  principal,
  action in [Redoubt::Action::"manage_policies", Redoubt::Action::"manage_keys", Redoubt::Action::"manage_limits"],
  resource
)
unless {
  principal in Redoubt::Role::"security_admin" &&
  !(principal in Redoubt::Role::"system_admin") &&
  !(principal in Redoubt::Role::"audit_admin")
};

@id("guard: the audit is the audit administrator's part alone")
forbid (principal, action in Redoubt::Action::"administer_audit", resource)
unless {
  principal in Redoubt::Role::"audit_admin" &&
  !(principal in Redoubt::Role::"system_admin") &&
  !(principal in Redoubt::Role::"security_admin")
};

@id("guard: no text takes the audit from the audit administrator")
permit (principal in Redoubt::Role::"audit_admin", action in Redoubt::Action::"administer_audit", resource);

@id("guard: only the appointing key appoints")
forbid (principal, action == Redoubt::Action::"appoint_administrators", resource)
unless { principal is Redoubt::Appointer };

@id("guard: the appointing key only appoints")
forbid (principal is Redoubt::Appointer, action, resource)
unless { action == Redoubt::Action::"appoint_administrators" };
)";
}

}  // namespace redoubt

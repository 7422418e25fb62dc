// Who a request is from, once that is proved: the one form of it that policies, limits and the audit see.
// Made by Identity and never changed afterwards; shared by pointer, since a key's principal is made once and used by
// each of its requests.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace redoubt {

enum class PrincipalKind : uint8_t {
  user,       // a person
  service,    // a program
  appointer,  // the appointing key: may name the three administrators once, and nothing else
  open,       // `auth: off` on a loopback listener
};
std::string_view kind_name(PrincipalKind kind);  // "user", "service", "appointer", "open"

// Roles with a meaning of their own; others are names that policies may use. No principal holds two of the first three.
inline constexpr std::string_view kSystemAdmin = "system_admin";      // models, nodes, tenants, users, services
inline constexpr std::string_view kSecurityAdmin = "security_admin";  // policies, keys' scopes, limits, revocation
inline constexpr std::string_view kAuditAdmin = "audit_admin";        // reads records; changes nothing
inline constexpr std::string_view kUserRole = "user";                 // may ask models, as policies permit

struct Principal {
  PrincipalKind kind = PrincipalKind::user;
  std::string id;                                     // of the user or service: letters, digits and . _ - @
  std::string tenant;                                 // "default" if nobody made another
  std::vector<std::string> teams;                     // sorted
  std::vector<std::string> roles;                     // sorted
  std::vector<std::string> token_teams, token_roles;  // those of them that a provider's token gave, sorted
  std::string auth_method;                            // api_key, oidc, mtls, off
  std::string key_id;                                 // of an API key, else ""
  std::string first_key;            // of a key that rotation made: the one in whose place it stands; else as key_id
  std::string issuer, subject;      // of a token or certificate: what its provider calls it
  std::string signed_by;            // of a token: the fingerprint of its provider's key
  std::vector<std::string> scopes;  // actions that the key is narrowed to; empty: all that the principal may do
  std::map<std::string, std::string> labels, tenant_labels;
  std::map<std::string, std::map<std::string, std::string>> team_labels;  // by team; of those that have any
  int64_t expires_at_s = 0;  // of the key, token or certificate, since 1970; 0: never

  bool has_role(std::string_view role) const;
};
using PrincipalPtr = std::shared_ptr<const Principal>;

}  // namespace redoubt

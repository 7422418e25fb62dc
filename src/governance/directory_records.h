// What the directory holds: tenants, their teams, users and services, and their keys. Read from memory by every
// request.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "crypto/keyed_hash.h"
#include "governance/principal.h"

namespace redoubt {

using Labels = std::map<std::string, std::string>;

struct TenantRecord {
  std::string id, name;
  Labels labels;
  bool disabled = false;
  int64_t created_at_s = 0;
};

struct TeamRecord {
  std::string tenant, id, name;
  Labels labels;
  int64_t created_at_s = 0;
};

// By what a provider of identities calls somebody.
struct ExternalIdentity {
  std::string method;  // oidc, mtls
  std::string issuer;  // the token's `iss`; "" for mtls
  std::string subject;  // the token's `sub`; for a certificate "DNS:…", "URI:…", "EMAIL:…" or its subject "CN=…,O=…"
  auto operator<=>(const ExternalIdentity&) const = default;
};

inline bool is_identity_method(std::string_view method) { return method == "oidc" || method == "mtls"; }

struct PrincipalRecord {
  std::string id, tenant, name;
  PrincipalKind kind = PrincipalKind::user;
  std::vector<std::string> teams, roles;  // sorted
  Labels labels;
  std::vector<ExternalIdentity> identities;  // sorted
  bool disabled = false;
  int64_t created_at_s = 0;
};

struct KeyRecord {
  std::string id;  // the visible prefix
  std::string principal, name;
  std::vector<std::string> scopes;  // sorted
  Digest256 hash{};
  int64_t created_at_s = 0;
  std::string created_by;
  int64_t expires_at_s = 0;  // 0: never
  std::optional<int64_t> revoked_at_s;
  std::string replaced_by;  // the key that rotation made, or ""
  std::string first_key;    // of a row of rotations the first, whose limits and counters are theirs: its id, if it is
  // Shared by all snapshots; written to the database by and by. 0: never used.
  std::shared_ptr<std::atomic<int64_t>> last_used_at_s;
  PrincipalPtr who;  // what a request with this key is from; null if revoked, or its principal or tenant is disabled

  bool goes_on_at(int64_t now_s) const { return !revoked_at_s && (expires_at_s == 0 || now_s < expires_at_s); }
  bool valid_at(int64_t now_s) const { return who != nullptr && goes_on_at(now_s); }  // its owner may come in with it
};
using KeyPtr = std::shared_ptr<const KeyRecord>;

struct DirectorySnapshot {
  std::map<std::string, TenantRecord> tenants;
  std::map<std::pair<std::string, std::string>, TeamRecord> teams;  // by tenant and id
  std::map<std::string, PrincipalRecord> principals;
  std::map<std::string, KeyPtr> keys;
  std::unordered_map<Digest256, KeyPtr, DigestHash> keys_by_hash;
  std::map<ExternalIdentity, std::string> identities;  // to the principal's id

  // What a request of this principal is from, the caller's to add to; null if it or its tenant is disabled or unknown.
  std::shared_ptr<Principal> principal(const std::string& id, std::string_view auth_method) const;
  void add_labels(Principal& principal) const;  // those of its tenant and teams
};

// Letters, digits and . _ - @, the first a letter or digit, at most 128.
bool is_id(std::string_view text);
bool is_administrator(const std::vector<std::string>& roles);

Json to_json(const TenantRecord& tenant);
Json to_json(const TeamRecord& team);
Json to_json(const PrincipalRecord& principal);
Json to_json(const KeyRecord& key, int64_t now_s);  // with its state: active, expired, revoked, disabled

}  // namespace redoubt

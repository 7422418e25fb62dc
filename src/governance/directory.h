// The directory: who there is, in which tenant and teams, with which roles and keys. Read from memory, kept in the
// database, the same on every node within half a second.
//
// Laws that no policy can lift, checked here whatever the route asked:
//  - The three administrators' roles come from the appointing key or from whoever owns the data folder, never from
//    another administrator, and nobody holds two of them.
//  - A principal that holds one is changed and removed by the owner of the data folder alone; its keys are made by the
//    principal itself or that owner. So no administrator can become another.
//  - Keys are revoked by their principal, by that owner, or by the security administrator; the audit administrator's by
//    the first two alone: who changes policies cannot silence the audit.
//  - A key makes and rotates none for its own principal that may more than itself, or ends later.
//  - The appointing key names the three administrators once, together, and is then no more.
//  - An id that was used is never given to somebody else.
//
// Errors of every change: denied (a law), invalid_argument, not_found, conflict, unavailable.
// Thread safety: any.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/periodic_thread.h"
#include "core/result.h"
#include "core/snapshot.h"
#include "crypto/keyed_hash.h"
#include "governance/directory_records.h"
#include "governance/principal.h"
#include "storage/database.h"
#include "storage/refresher.h"

namespace redoubt {

// Who changes something: a principal, or, if null, whoever owns the data folder (a command on this machine).
using Actor = PrincipalPtr;

// What labels become, by name; null: the label is taken away. Those that are not named stay, whoever changes them.
using LabelChange = std::map<std::string, std::optional<std::string>>;

struct TenantChange {
  std::optional<std::string> name;
  LabelChange labels;
  std::optional<bool> disabled;
};
struct TeamChange {
  std::optional<std::string> name;
  LabelChange labels;
};
struct PrincipalChange {
  std::optional<std::string> name;
  std::optional<std::vector<std::string>> teams, roles;
  LabelChange labels;
  std::optional<std::vector<ExternalIdentity>> identities;
  std::vector<std::string> identity_methods;  // `identities` are all of theirs, and others stay; empty: of all methods
  std::optional<bool> disabled;
};
struct NewPrincipal {
  std::string id;
  PrincipalKind kind = PrincipalKind::user;  // or service
  std::string tenant = "default";
  PrincipalChange fields;  // roles: ["user"] if not given
};
struct KeyRequest {
  std::string principal;
  std::string name;
  std::vector<std::string> scopes;  // actions; empty: all that the principal may do
  int64_t expires_in_s = 0;         // 0: never
};
struct NewKey {
  std::string text;  // the whole key: shown once, kept nowhere
  std::string id;
};
struct Appointment {
  std::string system, security, audit;  // ids of three new or present users
};
struct AppointedKeys {
  NewKey system, security, audit;
};

struct DirectoryOptions {
  int period_ms = 250;   // from one look at the database to the next; 0: never by itself (tests)
  int use_flush_s = 10;  // how often the times of last use are written
  int64_t max_keys = 100'000, max_principals = 100'000;
};

class Directory {
 public:
  // Migrates, loads, and starts the background work. `hash` is that of all nodes of this database: another is an error.
  static Result<std::unique_ptr<Directory>> open(Database& database, KeyedHash hash, const Clock& clock,
                                                 const WallClock& wall, DirectoryOptions options = {});
  ~Directory();

  std::shared_ptr<const DirectorySnapshot> snapshot() const { return snapshot_.load(); }
  // Counts up whenever another snapshot is in place: a permit made under an older one looks again.
  uint64_t version() const { return version_; }
  int64_t age_ns() const { return refresher_.age_ns(); }  // since the snapshot was known to be the database's
  Status refresh() { return refresher_.refresh(); }
  const KeyedHash& hash() const { return hash_; }

  Status create_tenant(const Actor& actor, const std::string& id, const TenantChange& fields);
  Status change_tenant(const Actor& actor, const std::string& id, const TenantChange& change);
  Status remove_tenant(const Actor& actor, const std::string& id);  // one without principals
  Status create_team(const Actor& actor, const std::string& tenant, const std::string& id, const TeamChange& fields);
  Status change_team(const Actor& actor, const std::string& tenant, const std::string& id, const TeamChange& change);
  Status remove_team(const Actor& actor, const std::string& tenant, const std::string& id);  // and who was in it is not
  Status create_principal(const Actor& actor, const NewPrincipal& principal);
  Status change_principal(const Actor& actor, const std::string& id, const PrincipalChange& change);
  Status remove_principal(const Actor& actor, const std::string& id);

  Result<NewKey> create_key(const Actor& actor, const KeyRequest& request);
  // A new key beside the old one, which goes on for `overlap_s` and then expires; name and scopes are the same. It ends
  // when the old one would have if that one asks itself, and else has its lifetime anew.
  Result<NewKey> rotate_key(const Actor& actor, const std::string& id, int64_t overlap_s = 86'400);
  Status revoke_key(const Actor& actor, const std::string& id);

  // Names the three administrators, gives each a key, and ends the appointing key.
  Result<AppointedKeys> appoint(const Actor& actor, const Appointment& appointment);

  // What the first start makes, once for a database: tenant "default", user "first", the appointing key. With
  // `bootstrap` (REDOUBT_BOOTSTRAP_KEY) that is the user's key instead of one drawn, at this and at every later start:
  // another value ends the one before, and one that was revoked never comes back.
  struct FirstKeys {
    std::string user, appointing;     // "" where none was made
    bool bootstrap_is_ended = false;  // `bootstrap` was revoked or rotated: it opens nothing
  };
  Result<FirstKeys> first_start(const std::string& bootstrap);

  // A key was used: remembered in memory at once, in the database by and by.
  void note_use(const KeyRecord& key) const { key.last_used_at_s->store(wall_.now_s(), std::memory_order_relaxed); }
  Status flush_uses();

 private:
  Directory(Database& database, KeyedHash hash, const Clock& clock, const WallClock& wall, DirectoryOptions options);
  Status load(Transaction& tx);
  Status check_hash();
  // A change: runs `body` with what there is, marks the topic, and reads it back here.
  Status change(const std::function<Status(Transaction&, const DirectorySnapshot&)>& body);
  Status follow_bootstrap(Transaction& tx, const std::string& bootstrap);
  Result<NewKey> insert_key(Transaction& tx, const Actor& actor, const KeyRequest& request,
                            const std::string& text = {});
  void flush_or_tell();

  Database& database_;
  KeyedHash hash_;
  const WallClock& wall_;
  DirectoryOptions options_;
  Snapshot<DirectorySnapshot> snapshot_;
  std::atomic<uint64_t> version_{0};
  Refresher refresher_;

  std::map<std::string, int64_t> flushed_;  // key id to the time of use written last; the flushing thread's
  std::mutex flushing_;
  PeriodicThread flusher_;  // last: it uses the rest
};

}  // namespace redoubt

// Leave to carry out one request, and the means to take it back while the request is under way.
//
// A permit is made where a caller was recognised (PermitRegister::issue) and goes with the request until its last byte.
// It answers from memory: what it asks (Authority) keeps snapshots. Deny by default: what nobody permitted is denied,
// and a permit that was taken back permits nothing more.
//
// A request's permits are asked again when the authority says that something changed (keys, users, policies), when
// their principal's time is over, and every few seconds for conditions of time. What was permitted and no longer is
// takes the permit back: revoked() is true from then on and on_revoked callbacks run, within a second of the change.
//
// Thread safety: all of Permit, PermitRegister and an Authority may be used from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/periodic_thread.h"
#include "core/result.h"
#include "governance/principal.h"

namespace redoubt {

// May the principal do `action` to this resource?
struct AccessQuestion {
  std::string action;                          // "generate"
  std::string resource_kind;                   // "Model", "Route", "Adapter", "Dataset"
  std::string resource_id;                     // "r1"; of a route "POST /v1/chat/completions"
  std::map<std::string, std::string> context;  // what conditions read: source address, purpose, priority, ...
  // The resource is a route, and a model that its request names is asked about next: only what applies to any model, or
  // names routes, is judged.
  bool model_follows = false;
  // context.budget_left of this principal, told anew each time the question is asked; null or nullopt: there is none.
  std::function<std::optional<int64_t>(const Principal&)> budget_left = nullptr;
};

enum class Verdict : uint8_t {
  permitted,
  not_permitted,  // nothing permits it
  forbidden,      // something forbids it
  unknown,        // it cannot be told: what is known is older than its bound
};

class Authority {
 public:
  virtual ~Authority() = default;
  virtual Verdict decide(const Principal& principal, const AccessQuestion& question) const = 0;
  // Is the principal still one? Errors: denied with a reason that the client may read (key revoked, user disabled);
  // unavailable: it cannot be told.
  virtual Status still_valid(const Principal& principal) const = 0;
  // The principal as it is now, with the teams and roles that it has today; null: it is one no more.
  virtual PrincipalPtr current(const PrincipalPtr& principal) const { return principal; }
  // Another number whenever one of these may answer differently.
  virtual uint64_t version() const = 0;
};

class Permit {
 public:
  Permit(PrincipalPtr principal, std::shared_ptr<const Authority> authority);

  const Principal& principal() const { return *principal_; }

  // Of a key that is narrowed to scopes: is one of these two among them? Errors: denied. Asked again as check is.
  Status need_scope(const std::string& scope, const std::string& action);
  // Errors: denied, with what was asked; unavailable: it cannot be told. A question that was permitted is asked again
  // when things change.
  Status check(AccessQuestion question);
  // As check, but what nothing permits and nothing forbids passes, and clears nothing: for a route whose resource only
  // its body names.
  Status check_not_forbidden(AccessQuestion question);
  // True once a check permitted something. Before that no answer may leave the server.
  bool cleared() const { return cleared_; }

  bool revoked() const { return revoked_; }
  // It was taken back not because anything changed, but because nobody can tell if something did.
  bool ended_by_outage() const { return revoked_ && reason_.code == ErrorCode::unavailable; }
  // The callback runs once, on the register's thread, when the permit is taken back; at once if it is already. The
  // reason is denied (a revocation) or unavailable (an outage).
  void on_revoked(std::function<void(const Error& reason)> callback);

  // For the register: asks again; a change takes the permit back.
  void ask_again();

 private:
  struct Asked {
    AccessQuestion question;
    bool only_not_forbidden = false;
  };
  Status ask(Asked asked);
  bool in_scope(const Principal& principal);
  Status judge(const Principal& principal, const Asked& asked) const;
  void take_back(const Error& reason);
  Error ended() const;  // of a permit that was taken back

  const PrincipalPtr principal_;
  const std::shared_ptr<const Authority> authority_;
  std::atomic<bool> cleared_{false}, revoked_{false};
  std::mutex mutex_;
  std::vector<Asked> asked_;         // few: route, model, and what the request asks beside
  std::vector<std::string> scopes_;  // of which a key that is narrowed must have one
  Error reason_;                     // written once, before revoked_
  std::function<void(const Error&)> on_revoked_;
};

// The permits under way. Its thread watches for changes.
class PermitRegister {
 public:
  struct Options {
    int64_t look_ms = 100;      // for a change of the authority's version
    int64_t ask_all_ms = 2000;  // conditions of time change without a version
  };
  PermitRegister(std::shared_ptr<const Authority> authority, Options options,
                 std::shared_ptr<const WallClock> clock = std::make_shared<SystemWallClock>());

  std::shared_ptr<Permit> issue(PrincipalPtr principal);
  size_t under_way() const;
  void ask_all_again();  // now; for tests and for administration that will not wait

 private:
  // For changes since the version that was seen (the first when the register was made), and since all were asked.
  void look(uint64_t& seen, std::chrono::steady_clock::time_point& asked);
  std::vector<std::shared_ptr<Permit>> alive() const;

  const std::shared_ptr<const Authority> authority_;
  const Options options_;
  const std::shared_ptr<const WallClock> clock_;
  struct Live;
  const std::shared_ptr<Live> live_;  // outlived by permits
  PeriodicThread watcher_;            // last: it uses the rest
};

}  // namespace redoubt

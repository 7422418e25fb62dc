// Everything that decides who may do what, opened in the order in which one part needs another: database, directory,
// identity, policies, limits; and the gate over them. Which of it there is, the configuration says:
//   auth: off      an open gate and nothing else; loopback only
//   api_key_file   the keys of that file, one level of trust: no database, no administration
//   else           the directory's keys, tokens of identity providers, client certificates, by policies
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/first_keys.h"
#include "apps/identity_store.h"
#include "apps/serve_config.h"
#include "core/clock.h"
#include "governance/clock_comparison.h"
#include "governance/identity.h"
#include "governance/jwks_keeper.h"
#include "governance/limit_service.h"
#include "governance/node_claim.h"
#include "governance/oidc.h"
#include "governance/policy_store.h"
#include "server/gate.h"
#include "server/health.h"
#include "server/metrics_registry.h"

namespace redoubt {

class FrontDoor {
 public:
  // `bootstrap` is REDOUBT_BOOTSTRAP_KEY. Clocks outlive it.
  static Result<std::unique_ptr<FrontDoor>> open(const ServeConfig& config, const std::filesystem::path& data,
                                                 const std::string& bootstrap, const Clock& clock,
                                                 const WallClock& wall);

  ~FrontDoor();  // first keys that nobody was told are kept in DATA/first.key

  const std::shared_ptr<Gate>& gate() const { return gate_; }
  bool administered() const { return store_.directory != nullptr; }
  Limits* limits() const { return limits_.limits.get(); }  // null where there is no directory
  void add_routes(std::vector<Route>& routes);             // of administration
  // Who came in and who did not, and what limits did; it outlives the registry.
  void add_metrics(MetricsRegistry& registry) const;
  void add_health(HealthState& state) const;  // is anybody admitted?
  void note_running() const;                  // that this node is still there, in the database; to be called every hour
  // What to print of the keys that a first start made, with a ready-made curl; once.
  Result<std::string> tell_first_keys(Audience audience, const std::string& base_url);

 private:
  FrontDoor(std::string base_url, const std::filesystem::path& data, const WallClock& wall)
      : base_url_(std::move(base_url)), data_(data), wall_(wall) {}
  Status open_identity(const ServeConfig& config, const std::string& bootstrap, const Clock& clock);
  bool policies_fresh() const;  // young enough to decide by
  std::string closed() const;   // why nobody is admitted by this node; "" if they are

  const std::string base_url_;  // as configured
  const std::filesystem::path data_;
  const WallClock& wall_;
  std::vector<std::string> models_;  // of the configuration
  bool takes_certificates_ = false;  // of clients
  IdentityStore store_;
  std::unique_ptr<ClockComparison> clocks_;
  std::unique_ptr<NodeClaim> claim_;
  Directory::FirstKeys first_keys_;
  std::unique_ptr<OidcVerifier> oidc_;
  std::unique_ptr<JwksKeeper> jwks_;
  std::unique_ptr<Identity> identity_;
  std::unique_ptr<PolicyStore> policies_;
  LimitService limits_;
  std::shared_ptr<Gate> gate_;
};

}  // namespace redoubt

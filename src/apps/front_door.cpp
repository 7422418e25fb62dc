#include "apps/front_door.h"

#include <fmt/format.h>

#include <utility>

#include "core/log.h"
#include "core/mapped_file.h"
#include "crypto/base64url.h"
#include "governance/random_file.h"
#include "server/admin_call.h"
#include "server/admin_limits.h"
#include "server/admin_policies.h"
#include "server/identity_gate.h"
#include "server/limit_metrics.h"
#include "server/peer_client.h"

namespace redoubt {
namespace {

constexpr int64_t kMaxPolicyAgeNs = 2'000'000'000;  // as IdentityOptions::max_age_ms
constexpr size_t kMaxPolicyBytes = 16 << 20, kNodeBytes = 16;

Result<std::optional<PolicyFile>> read_policy_file(const std::string& file) {
  if (file.empty()) return std::optional<PolicyFile>();
  REDOUBT_TRY(std::string text, read_text_file(file, kMaxPolicyBytes));
  return std::optional(PolicyFile{.name = std::filesystem::path(file).filename().string(), .text = std::move(text)});
}

// The same after a restart, and of one process at a time: drawn once, kept in the data folder, which one process locks.
// Not the host's name: two replicas may have the same one and the same path, and would settle each other's leases.
Result<std::string> node_name(const std::filesystem::path& data) {
  REDOUBT_TRY(const std::vector<uint8_t> bytes, open_random_file(data / "node.id", kNodeBytes));
  return base64url(bytes);
}

// A database inside the data folder is of the one process that locks it; any other one a copy of the folder would
// share.
Result<std::unique_ptr<NodeClaim>> claim_node(Database& database, const std::string& node, bool is_alone,
                                              const std::filesystem::path& data, const WallClock& wall) {
  auto claim = NodeClaim::take(database, node, wall, {.may_wait = !is_alone});
  if (claim || claim.error().code != ErrorCode::conflict) return claim;
  return Error{ErrorCode::conflict,
               fmt::format("{}: a live process on this database has the same id, so this data folder is a copy of its "
                           "own: remove {} and the node draws an id for itself at the next start",
                           data.string(), (data / "node.id").string()),
               {}};
}

// The models of the configuration: with their labels, as policies' entities, and their stages.
NodeModels models_told_to_policies(const std::vector<ModelEntry>& models, std::string node) {
  NodeModels told{.node = std::move(node)};
  for (const ModelEntry& model : models) {
    Json attributes = Json::object();
    for (const auto& [name, text] : model.labels) attributes[name] = text;
    told.entities.push_back(
        {{"uid", {{"type", "Redoubt::Model"}, {"id", model.name}}}, {"attrs", std::move(attributes)}});
    told.stages.emplace(model.name, model.stage);
  }
  return told;
}

// A provider that the configuration names is a named peer.
Result<std::string> fetch_keys(const OidcProvider& provider) {
  REDOUBT_TRY(PeerResponse response, ask_peer({.url = provider.jwks_url, .ca_file = provider.jwks_ca}));
  if (response.status != 200) return unavailable(fmt::format("{}: status {}", provider.jwks_url, response.status));
  return std::move(response.body);
}

}  // namespace

Result<std::unique_ptr<FrontDoor>> FrontDoor::open(const ServeConfig& config, const std::filesystem::path& data,
                                                   const std::string& bootstrap, const Clock& clock,
                                                   const WallClock& wall) {
  std::unique_ptr<FrontDoor> door(new FrontDoor(config.base_url(config.host, config.port), data, wall));
  for (const ModelEntry& model : config.models) door->models_.push_back(model.name);
  const bool off = config.auth == "off";
  if (!bootstrap.empty() && (off || !config.api_key_file.empty()))
    return invalid(fmt::format("REDOUBT_BOOTSTRAP_KEY: excluded by {}, which would leave it unread; unset one of them",
                               off ? "auth: off" : "api_key_file"));
  if (off) {
    door->gate_ = make_open_gate();
  } else if (!config.api_key_file.empty()) {
    REDOUBT_TRY(std::vector<std::string> keys, read_api_keys(config.api_key_file));
    door->gate_ = make_key_file_gate(std::move(keys));
  } else {
    REDOUBT_CHECK(door->open_identity(config, bootstrap, clock));
  }
  return door;
}

FrontDoor::~FrontDoor() {
  const auto told = tell_first_keys(Audience::file, base_url_);
  if (!told) {
    log::error("first keys: {}", told.error().message);
  } else {
    fmt::print("{}", *told);
  }
}

Status FrontDoor::open_identity(const ServeConfig& config, const std::string& bootstrap, const Clock& clock) {
  REDOUBT_TRY(const std::optional<PolicyFile> file, read_policy_file(config.policies));
  REDOUBT_TRY(store_, open_identity_store(data_, config.database, clock, wall_));
  clocks_ = std::make_unique<ClockComparison>(*store_.database, wall_);
  REDOUBT_CHECK(clocks_->look());
  REDOUBT_TRY(first_keys_, store_.directory->first_start(bootstrap));
  if (first_keys_.bootstrap_is_ended)
    log::warn("REDOUBT_BOOTSTRAP_KEY: this key was revoked or rotated and opens nothing; set another one");
  takes_certificates_ = config.tls && config.tls->clients != ClientCertificates::none;
  if (!config.oidc.empty()) {
    REDOUBT_TRY(oidc_, OidcVerifier::create(config.oidc));
    jwks_ = std::make_unique<JwksKeeper>(*oidc_, JwksKeeperOptions{.fetch = fetch_keys}, clock);
  }
  identity_ = std::make_unique<Identity>(*store_.directory, oidc_.get(), clock, wall_);
  REDOUBT_TRY(std::string node, node_name(data_));
  REDOUBT_TRY(claim_, claim_node(*store_.database, node, config.database.empty(), data_, wall_));
  REDOUBT_TRY(policies_,
              PolicyStore::open(*store_.database, file, clock, wall_, models_told_to_policies(config.models, node)));
  REDOUBT_TRY(limits_, LimitService::open(*store_.database, std::move(node), clock, wall_));
  gate_ = make_identity_gate(
      *identity_, policies_->engine(), wall_, [this] { return policies_fresh(); }, [this] { return closed(); });
  return ok();
}

void FrontDoor::add_routes(std::vector<Route>& routes) {
  if (!administered()) return;
  add_admin_identity_routes(*store_.directory, wall_, routes);
  WaysIn ways{.certificates = takes_certificates_};
  if (oidc_ != nullptr) {
    for (const OidcProvider& provider : oidc_->providers()) ways.issuers.insert(provider.issuer);
  }
  add_policy_routes(*policies_, *store_.directory, std::move(ways), routes);
  add_limit_routes({.store = *limits_.store,
                    .ledger = *limits_.ledger,
                    .wall = wall_,
                    .directory = store_.directory.get(),
                    .models = models_},
                   routes);
}

void FrontDoor::add_metrics(MetricsRegistry& registry) const {
  if (!administered()) return;
  registry.add_collector([this](std::vector<MetricsRegistry::Sample>& samples) {
    const IdentityStats stats = identity_->stats();
    const auto count = [&](const char* name, const char* help, uint64_t value, MetricLabels labels = {}) {
      samples.push_back({name, help, "counter", std::move(labels), static_cast<double>(value)});
    };
    count("redoubt_identity_admitted_total", "Requests whose caller was recognised", stats.admitted);
    for (size_t i = 0; i < kRefusals; ++i) {
      count("redoubt_identity_refused_total", "Requests whose caller was not recognised, by what was wrong",
            stats.refused[i], {{"reason", std::string(refusal_name(static_cast<Refusal>(i)))}});
    }
    count("redoubt_identity_locked_out_total", "Requests refused because too many failed from their address",
          stats.locked_out);
    count("redoubt_identity_unavailable_total", "Requests refused because who is known could not be told",
          stats.unavailable);
    samples.push_back({"redoubt_directory_age_seconds",
                       "Since the users and keys in memory were known to be the database's",
                       "gauge",
                       {},
                       static_cast<double>(store_.directory->age_ns()) / 1e9});
    if (oidc_ == nullptr) return;
    for (size_t i = 0; i < oidc_->providers().size(); ++i) {
      samples.push_back({"redoubt_oidc_keys_age_seconds",
                         "Since a provider's keys were known to be its own; -1: they never were",
                         "gauge",
                         {{"provider", oidc_->providers()[i].name}},
                         static_cast<double>(jwks_->age_s(i))});
    }
  });
  add_limit_metrics(*limits_.limits, registry);
}

void FrontDoor::add_health(HealthState& state) const {
  if (!administered()) return;
  state.directory_stale = !identity_->fresh();
  state.policies_stale = !policies_fresh();
  state.ledger_away = limits_.limits->stats().failing_ns > 0;
  state.claim_lost = claim_->is_lost();
  state.clocks_apart = clocks_->are_apart();
}

void FrontDoor::note_running() const {
  if (!administered()) return;
  if (const Status noted = policies_->note_running(); !noted)
    log::warn("policies: that this node runs cannot be noted: {}", noted.error().message);
}

std::string FrontDoor::closed() const {
  if (claim_->is_lost()) return "another process took this node's id, which admits nobody any more";
  return clocks_->are_apart() ? clocks_->apart() : std::string();
}

bool FrontDoor::policies_fresh() const { return policies_->age_ns() <= kMaxPolicyAgeNs; }

Result<std::string> FrontDoor::tell_first_keys(Audience audience, const std::string& base_url) {
  return redoubt::tell_first_keys(std::exchange(first_keys_, {}), audience, data_, base_url);
}

}  // namespace redoubt

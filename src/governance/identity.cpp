#include "governance/identity.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <tuple>

#include "governance/api_keys.h"

namespace redoubt {
namespace {

constexpr std::string_view kLockedParam = "retry_after_s=";

Error refused(std::string why) { return {ErrorCode::unauthenticated, std::move(why), {}}; }

// A signed token has three parts, and its header begins with `{"` in base64url. No key of ours has a dot.
bool looks_like_token(std::string_view text) { return text.starts_with("eyJ") && std::ranges::count(text, '.') == 2; }

void sort(std::vector<std::string>& list) {
  std::ranges::sort(list);
  list.erase(std::unique(list.begin(), list.end()), list.end());
}

void add_from_token(Principal& who) {
  who.teams.insert(who.teams.end(), who.token_teams.begin(), who.token_teams.end());
  who.roles.insert(who.roles.end(), who.token_roles.begin(), who.token_roles.end());
  sort(who.teams);
  sort(who.roles);
}

}  // namespace

int64_t retry_after_s(const Error& error) {
  int64_t seconds = 0;
  if (error.param.starts_with(kLockedParam)) {
    std::from_chars(error.param.data() + kLockedParam.size(), error.param.data() + error.param.size(), seconds);
  }
  return seconds;
}

Identity::Identity(Directory& directory, OidcVerifier* oidc, const Clock& clock, const WallClock& wall,
                   IdentityOptions options)
    : directory_(directory), oidc_(oidc), wall_(wall), options_(options), lockout_(options.lockout, clock) {}

bool Identity::fresh() const { return directory_.age_ns() <= options_.max_age_ms * 1'000'000; }

std::string_view refusal_name(Refusal refusal) {
  constexpr std::array<std::string_view, kRefusals> kNames{"nothing_shown", "unknown_key",     "ended_key",
                                                           "bad_token",     "unknown_subject", "unknown_certificate"};
  return kNames[static_cast<size_t>(refusal)];
}

IdentityStats Identity::stats() const {
  IdentityStats stats{.admitted = admitted_, .locked_out = locked_out_, .unavailable = unavailable_};
  for (size_t i = 0; i < kRefusals; ++i) stats.refused[i] = refused_[i];
  return stats;
}

Error Identity::locked(int64_t wait_s) {
  ++locked_out_;
  return {ErrorCode::overloaded, "too many failed attempts from this address",
          fmt::format("{}{}", kLockedParam, wait_s)};
}

Result<PrincipalPtr> Identity::authenticate(const Credentials& credentials) {
  if (!fresh()) {
    ++unavailable_;
    return unavailable("who is known here cannot be told now: the database is away");
  }
  if (credentials.bearer.empty() && credentials.api_key.empty() && credentials.certificate == nullptr) {
    ++refused_[static_cast<size_t>(Refusal::nothing_shown)];
    return refused("an API key is needed");
  }
  const int64_t wait_s = lockout_.wait_of(credentials.source_address);
  Judged judged = judge(credentials, wait_s > 0);
  if (judged.who == nullptr) {
    if (wait_s > 0) return locked(wait_s);
    // A provider whose keys are not there says nothing about the caller.
    if (judged.error.code != ErrorCode::unauthenticated) {
      ++unavailable_;
      return std::move(judged.error);
    }
    if (const int64_t own_s = lockout_.failed(credentials.source_address, judged.account); own_s > 0)
      return locked(own_s);
    ++refused_[static_cast<size_t>(judged.refusal)];
    return std::move(judged.error);
  }
  ++admitted_;
  return std::move(judged.who);
}

Identity::Judged Identity::judge(const Credentials& credentials, bool waits) {
  const std::string_view address = credentials.source_address;
  if (!credentials.bearer.empty()) {
    return oidc_ != nullptr && looks_like_token(credentials.bearer) ? judge_token(credentials.bearer, address, waits)
                                                                    : judge_key(credentials.bearer, address, waits);
  }
  if (!credentials.api_key.empty()) return judge_key(credentials.api_key, address, waits);
  return judge_certificate(*credentials.certificate);
}

Identity::Judged Identity::judge_key(std::string_view key, std::string_view address, bool waits) {
  const Error error = refused("the API key is not valid");
  if (key.size() > kMaxKeyBytes) return {.refusal = Refusal::unknown_key, .error = error};
  const auto snapshot = directory_.snapshot();
  const auto found = snapshot->keys_by_hash.find(key_hash(directory_.hash(), key));
  if (found == snapshot->keys_by_hash.end()) return {.refusal = Refusal::unknown_key, .error = error};
  const KeyRecord& record = *found->second;
  if (!record.valid_at(wall_.now_s()))
    return {.account = record.principal, .refusal = Refusal::ended_key, .error = error};
  // Of 256 random bits none is found by guessing. One that a person chose might be, so that a wait holds for it too,
  // right or wrong, but where it came in before.
  if (record.id == kBootstrapKey) {
    if (waits && !lockout_.chosen_is_known(address)) return {.refusal = Refusal::unknown_key, .error = error};
    lockout_.chosen_came_in(address);
  }
  directory_.note_use(record);
  return {.who = record.who};
}

PrincipalPtr Identity::principal_of(const OidcClaims& claims, std::string& account) const {
  const OidcProvider& provider = *claims.provider;
  const auto snapshot = directory_.snapshot();
  std::shared_ptr<Principal> made;
  const auto known = snapshot->identities.find({"oidc", provider.issuer, claims.subject});
  if (known != snapshot->identities.end()) {
    account = known->second;
    made = snapshot->principal(known->second, "oidc");
    if (made == nullptr) return nullptr;
  } else {
    account = provider.name + ":" + claims.subject;
    const auto tenant = snapshot->tenants.find(provider.tenant);
    if (!provider.admit_unknown || tenant == snapshot->tenants.end() || tenant->second.disabled) return nullptr;
    made = std::make_shared<Principal>();
    made->id = account;
    made->tenant = provider.tenant;
    made->roles = {std::string(kUserRole)};
    made->auth_method = "oidc";
  }
  made->issuer = provider.issuer;
  made->subject = claims.subject;
  made->signed_by = claims.signed_by;
  for (const std::string& group : claims.groups) {
    if (const auto team = provider.group_teams.find(group); team != provider.group_teams.end())
      made->token_teams.push_back(team->second);
    if (const auto role = provider.group_roles.find(group); role != provider.group_roles.end())
      made->token_roles.push_back(role->second);
  }
  sort(made->token_teams);
  sort(made->token_roles);
  add_from_token(*made);
  snapshot->add_labels(*made);
  made->expires_at_s = claims.expires_at_s;
  return made;
}

std::optional<Identity::Token> Identity::remembered(const Digest256& name, uint64_t keys_version) {
  Shard& shard = shards_[name.back() % shards_.size()];
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.tokens.find(name);
  const bool holds = found != shard.tokens.end() && wall_.now_s() < found->second.claims->expires_at_s &&
                     found->second.keys_version == keys_version;
  return holds ? std::optional(found->second) : std::nullopt;
}

Identity::Judged Identity::judge_token(std::string_view token, std::string_view address, bool waits) {
  const uint64_t directory_version = directory_.version(), keys_version = oidc_->version();
  const Digest256 name = directory_.hash().hash("token", token);
  auto known = remembered(name, keys_version);
  if (known && known->directory_version == directory_version) return {.who = std::move(known->who)};
  if (!known) {
    if (waits && !lockout_.may_verify(address))
      return {.refusal = Refusal::bad_token, .error = refused("the token is not looked at now")};
    auto claims = oidc_->verify(token, wall_.now_s());
    if (!claims) return {.refusal = Refusal::bad_token, .error = claims.error()};
    known = Token{.claims = std::make_shared<const OidcClaims>(std::move(claims).value())};
  }
  Judged judged{.refusal = Refusal::unknown_subject, .error = refused("the token is of nobody who is known here")};
  judged.who = principal_of(*known->claims, judged.account);
  if (judged.who == nullptr) return judged;
  Shard& shard = shards_[name.back() % shards_.size()];
  const std::lock_guard lock(shard.mutex);
  if (shard.tokens.size() >= options_.max_tokens / shards_.size()) shard.tokens.clear();
  shard.tokens.insert_or_assign(name, Token{std::move(known->claims), judged.who, directory_version, keys_version});
  return judged;
}

Identity::Judged Identity::judge_certificate(const ClientCertificate& certificate) {
  Judged judged{.refusal = Refusal::unknown_certificate,
                .error = refused("the client certificate is of nobody who is known here")};
  if (certificate.expires_at_s != 0 && wall_.now_s() >= certificate.expires_at_s) return judged;
  const auto snapshot = directory_.snapshot();
  std::vector<std::string> names = certificate.names;
  names.push_back(certificate.subject);
  // Whom it names, each with a name of theirs. One that names two is of neither; but only the data folder's owner says
  // what an administrator is called, and whoever ties names to users must not shut one out by that.
  std::map<std::string, std::string> named, administrators;
  for (const std::string& name : names) {
    const auto found = snapshot->identities.find({"mtls", "", name});
    if (found == snapshot->identities.end()) continue;
    const auto record = snapshot->principals.find(found->second);
    const bool is_administrators = record != snapshot->principals.end() && is_administrator(record->second.roles);
    (is_administrators ? administrators : named).insert_or_assign(found->second, name);
  }
  const auto& whose = administrators.empty() ? named : administrators;
  if (whose.size() != 1) return judged;
  std::string known_by;
  std::tie(judged.account, known_by) = *whose.begin();
  if (auto who = snapshot->principal(judged.account, "mtls")) {
    who->subject = std::move(known_by);
    who->expires_at_s = certificate.expires_at_s;
    judged.who = std::move(who);
  }
  return judged;
}

PrincipalPtr Identity::current(const Principal& principal) const {
  const int64_t now_s = wall_.now_s();
  const auto snapshot = directory_.snapshot();
  if (principal.auth_method == "api_key") {
    const auto found = snapshot->keys.find(principal.key_id);
    return found != snapshot->keys.end() && found->second->valid_at(now_s) ? found->second->who : nullptr;
  }
  if (principal.expires_at_s != 0 && now_s >= principal.expires_at_s) return nullptr;
  if (principal.kind == PrincipalKind::open) return std::make_shared<const Principal>(principal);
  if (principal.auth_method == "oidc" && (oidc_ == nullptr || !oidc_->holds_key(principal.issuer, principal.signed_by)))
    return nullptr;
  // By a token or certificate: is it still, or is it by now, somebody's of the directory?
  const auto known = snapshot->identities.find({principal.auth_method, principal.issuer, principal.subject});
  if (known != snapshot->identities.end()) {
    if (known->second != principal.id) return nullptr;
    const auto now = snapshot->principal(principal.id, principal.auth_method);
    if (now == nullptr) return nullptr;
    now->issuer = principal.issuer;
    now->subject = principal.subject;
    now->signed_by = principal.signed_by;
    now->expires_at_s = principal.expires_at_s;
    now->token_teams = principal.token_teams;  // these stay until the token ends
    now->token_roles = principal.token_roles;
    add_from_token(*now);
    snapshot->add_labels(*now);
    return now;
  }
  // Not in the directory: of a provider that admits such, into a tenant that is there.
  const auto tenant = snapshot->tenants.find(principal.tenant);
  const bool admitted = principal.id.find(':') != std::string::npos;  // no id of the directory has one
  if (!admitted || tenant == snapshot->tenants.end() || tenant->second.disabled) return nullptr;
  auto now = std::make_shared<Principal>(principal);
  snapshot->add_labels(*now);
  return now;
}

}  // namespace redoubt

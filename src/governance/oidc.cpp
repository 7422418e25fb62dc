#include "governance/oidc.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/lower_case.h"
#include "core/utf8.h"
#include "crypto/jws.h"
#include "governance/directory_records.h"

namespace redoubt {
namespace {

constexpr size_t kMaxSubjectBytes = 256;
constexpr size_t kMaxGroups = 500;

Error refused(std::string why) { return {ErrorCode::unauthenticated, std::move(why), {}}; }

// RFC 9068 §2.1: other types (of logout, of signed requests) are not for coming in.
bool type_fits(std::string_view given) {
  const std::string type = lower_case(given);
  return type.empty() || type == "jwt" || type == "at+jwt" || type == "application/at+jwt";
}

// NumericDate (RFC 7519 §2): seconds, perhaps with a fraction. Nothing if absent; an error if it is no number.
Result<std::optional<int64_t>> time_claim(const Json& claims, const char* name) {
  const auto found = claims.find(name);
  if (found == claims.end()) return std::optional<int64_t>();
  constexpr double kMostSeconds = 1e12;  // the year 33658: no sum of it overflows
  const double value = found->is_number() ? found->get<double>() : -1;
  if (!(value >= 0 && value < kMostSeconds)) return refused("the token's times cannot be read");
  return std::optional<int64_t>(static_cast<int64_t>(value));
}

bool holds_audience(const Json& claims, const std::vector<std::string>& audiences) {
  const auto found = claims.find("aud");
  if (found == claims.end()) return false;
  const auto fits = [&](const Json& one) {
    return one.is_string() && std::ranges::find(audiences, one.get<std::string>()) != audiences.end();
  };
  return found->is_array() ? std::ranges::any_of(*found, fits) : fits(*found);
}

Status check_times(const Json& claims, const OidcProvider& provider, int64_t now_s, int64_t& expires_at_s) {
  REDOUBT_TRY(const auto expires, time_claim(claims, "exp"));
  REDOUBT_TRY(const auto not_before, time_claim(claims, "nbf"));
  REDOUBT_TRY(const auto issued, time_claim(claims, "iat"));
  if (!expires) return refused("the token does not say when it expires");
  expires_at_s = *expires + provider.clock_skew_s;
  if (now_s >= expires_at_s) return refused("the token has expired");
  if ((not_before && now_s + provider.clock_skew_s < *not_before) ||
      (issued && now_s + provider.clock_skew_s < *issued))
    return refused("the token is not valid yet");
  return ok();
}

}  // namespace

Status OidcProvider::validate() const {
  if (!is_id(name)) return invalid("oidc: expected a name of letters, digits and . _ - @", "name");
  if (issuer.empty()) return invalid(fmt::format("oidc {}: expected an issuer", name), "issuer");
  if (audiences.empty() || std::ranges::find(audiences, "") != audiences.end())
    return invalid(fmt::format("oidc {}: expected at least one audience", name), "audiences");
  if (algorithms.empty()) return invalid(fmt::format("oidc {}: expected at least one algorithm", name), "algorithms");
  if (jwks_file.empty() == jwks_url.empty())
    return invalid(fmt::format("oidc {}: expected either jwks_file or jwks_url", name), "jwks_file");
  if (!jwks_ca.empty() && jwks_url.empty())
    return invalid(fmt::format("oidc {}: jwks_ca goes with jwks_url", name), "jwks_ca");
  if (clock_skew_s < 0 || clock_skew_s > 600)
    return invalid(fmt::format("oidc {}: expected a clock skew of 0 to 600 seconds", name), "clock_skew_s");
  if (!is_id(tenant)) return invalid(fmt::format("oidc {}: expected a tenant's id", name), "tenant");
  for (const auto& [group, role] : group_roles) {
    if (!is_id(role) || is_administrator({role}))
      return invalid(fmt::format("oidc {}: a provider's group gives no administrator's role", name), "group_roles");
  }
  for (const auto& [group, team] : group_teams) {
    if (!is_id(team)) return invalid(fmt::format("oidc {}: expected teams' ids", name), "group_teams");
  }
  return ok();
}

OidcVerifier::OidcVerifier(std::vector<OidcProvider> providers) : providers_(std::move(providers)) {
  for (size_t i = 0; i < providers_.size(); ++i) state_.push_back(std::make_unique<State>());
}

Result<std::unique_ptr<OidcVerifier>> OidcVerifier::create(std::vector<OidcProvider> providers) {
  for (size_t i = 0; i < providers.size(); ++i) {
    REDOUBT_CHECK(providers[i].validate());
    for (size_t k = 0; k < i; ++k) {
      if (providers[k].issuer == providers[i].issuer || providers[k].name == providers[i].name)
        return invalid(fmt::format("oidc {}: its name or issuer is another's too", providers[i].name));
    }
  }
  return std::unique_ptr<OidcVerifier>(new OidcVerifier(std::move(providers)));
}

void OidcVerifier::set_keys(size_t provider, JwkSet keys) {
  state_[provider]->keys.store(std::make_shared<const JwkSet>(std::move(keys)));
  ++version_;
}

std::optional<size_t> OidcVerifier::provider_of(std::string_view issuer) const {
  const auto found = std::ranges::find(providers_, issuer, &OidcProvider::issuer);
  if (found == providers_.end()) return std::nullopt;
  return static_cast<size_t>(found - providers_.begin());
}

bool OidcVerifier::holds_key(std::string_view issuer, std::string_view fingerprint) const {
  const auto index = provider_of(issuer);
  if (!index) return false;
  const auto keys = state_[*index]->keys.load();
  return keys != nullptr &&
         std::ranges::any_of(keys->keys(), [&](const PublicKey& key) { return key.fingerprint == fingerprint; });
}

Result<OidcClaims> OidcVerifier::verify(std::string_view token, int64_t now_s) {
  REDOUBT_TRY(const Jws jws, parse_jws(token));
  if (!type_fits(jws.type)) return refused("the token is of a type that is not for coming in");
  const auto claims = parse_json(jws.payload, {.max_depth = 16, .max_bytes = kMaxTokenBytes});
  if (!claims || !claims->is_object()) return refused("the token cannot be read");
  // Not trusted yet: it only says by whose keys to verify.
  const auto issuer = claims->find("iss");
  const bool says_issuer = issuer != claims->end() && issuer->is_string();
  const auto index = says_issuer ? provider_of(issuer->get<std::string>()) : std::nullopt;
  if (!index) return refused("the token is of an issuer that is not known here");
  const OidcProvider& provider = providers_[*index];
  State& state = *state_[*index];
  const std::shared_ptr<const JwkSet> keys = state.keys.load();
  if (keys == nullptr) return unavailable(fmt::format("oidc {}: the provider's keys are not there yet", provider.name));
  const PublicKey* const signed_by = verify_jws(jws, *keys, provider.algorithms);
  if (signed_by == nullptr) {
    if (std::ranges::none_of(keys->keys(), [&](const PublicKey& key) { return key.id == jws.key_id; }))
      ++state.unknown_keys;
    return refused("the token's signature is not the provider's");
  }

  OidcClaims proved;
  proved.provider = &provider;
  proved.signed_by = signed_by->fingerprint;
  if (!holds_audience(*claims, provider.audiences)) return refused("the token is for another audience");
  REDOUBT_CHECK(check_times(*claims, provider, now_s, proved.expires_at_s));
  const auto subject = claims->find(provider.id_claim);
  if (subject == claims->end() || !subject->is_string()) return refused("the token does not say who it is of");
  proved.subject = subject->get<std::string>();
  if (proved.subject.empty() || proved.subject.size() > kMaxSubjectBytes ||
      std::ranges::any_of(proved.subject, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }))
    return refused("the token does not say who it is of");
  if (const auto groups = claims->find(provider.groups_claim); groups != claims->end() && groups->is_array()) {
    for (const Json& group : *groups) {
      if (group.is_string() && proved.groups.size() < kMaxGroups) proved.groups.push_back(group.get<std::string>());
    }
  }
  return proved;
}

}  // namespace redoubt

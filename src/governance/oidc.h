// Tokens of identity providers (OpenID Connect Core 1.0; JWT, RFC 7519; access tokens, RFC 9068): who issued it, for
// whom, until when, and of which groups.
//
// A provider is named in the configuration with the algorithms it may use and where its keys are. Its keys are in
// memory; they come from a file or a peer by background work (JwksKeeper), never while a request waits.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "core/snapshot.h"
#include "crypto/jwk_set.h"

namespace redoubt {

struct OidcProvider {
  std::string name;                    // ours: "corp"; users that the directory does not know are "corp:alice"
  std::string issuer;                  // `iss`, to the letter
  std::vector<std::string> audiences;  // a token's `aud` must hold one of them; never empty
  std::vector<SignatureAlgorithm> algorithms{SignatureAlgorithm::rs256, SignatureAlgorithm::ps256,
                                             SignatureAlgorithm::es256, SignatureAlgorithm::eddsa};
  std::string jwks_file, jwks_url;  // one of the two
  std::string jwks_ca;           // PEM: who may have signed the certificate of jwks_url; "": the system's authorities
  int64_t clock_skew_s = 60;     // by which its clock and ours may differ
  std::string id_claim = "sub";  // who it is; another only if the provider never gives it to a second person
  std::string groups_claim = "groups";
  std::string tenant = "default";  // of users that the directory does not know
  bool admit_unknown = false;      // users that the directory does not know come in, with the role `user`
  std::map<std::string, std::string> group_teams;  // the provider's group to our team
  std::map<std::string, std::string> group_roles;  // and to our role; an administrator's is refused

  Status validate() const;
};

// What a token proved.
struct OidcClaims {
  const OidcProvider* provider = nullptr;
  std::string subject;              // the value of id_claim
  std::vector<std::string> groups;  // as the provider names them
  int64_t expires_at_s = 0;         // with the clock skew
  std::string signed_by;            // the fingerprint of the key
};

class OidcVerifier {
 public:
  static Result<std::unique_ptr<OidcVerifier>> create(std::vector<OidcProvider> providers);

  // Errors: unauthenticated; `unavailable` while a provider's keys are not there yet.
  Result<OidcClaims> verify(std::string_view token, int64_t now_s);

  const std::vector<OidcProvider>& providers() const { return providers_; }
  void set_keys(size_t provider, JwkSet keys);
  // A token that this key signed still counts: it is in the issuer's set.
  bool holds_key(std::string_view issuer, std::string_view fingerprint) const;
  // Counts up with every set of keys; what was verified under another is verified again.
  uint64_t version() const { return version_; }
  // Tokens that named a key which the provider's set does not hold: a reason to fetch it again.
  uint64_t unknown_keys(size_t provider) const { return state_[provider]->unknown_keys; }

 private:
  struct State {
    Snapshot<JwkSet> keys{nullptr};
    std::atomic<uint64_t> unknown_keys{0};
  };
  explicit OidcVerifier(std::vector<OidcProvider> providers);
  std::optional<size_t> provider_of(std::string_view issuer) const;

  std::vector<OidcProvider> providers_;
  std::vector<std::unique_ptr<State>> state_;  // one a provider
  std::atomic<uint64_t> version_{0};
};

}  // namespace redoubt

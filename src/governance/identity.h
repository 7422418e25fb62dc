// Who is this request from? By an API key, a provider's token, or a client certificate; from memory alone, in about a
// microsecond (a token that was not seen before: that of verifying its signature). Never waits.
//
// A request that shows a key or token is judged by that, whatever certificate came with it. What is wrong with it is
// not told to strangers: an unknown, an expired and a revoked key are refused in the same words. What is proven comes
// in whoever guesses at the same address (lockout.h). Errors of authenticate: unauthenticated; overloaded (locked out:
// see retry_after_s); unavailable (the directory is older than the bound, so a revocation may have been missed). Thread
// safety: any.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/clock.h"
#include "core/result.h"
#include "governance/directory.h"
#include "governance/lockout.h"
#include "governance/oidc.h"
#include "governance/principal.h"

namespace redoubt {

// Of a client whose certificate the TLS layer has verified, revocation lists included.
struct ClientCertificate {
  std::string subject;             // RFC 2253: "CN=trader,O=Bank"
  std::vector<std::string> names;  // "DNS:…", "URI:…", "EMAIL:…"
  int64_t expires_at_s = 0;
};

struct Credentials {
  std::string_view bearer;   // of "Authorization: Bearer …"
  std::string_view api_key;  // of x-api-key
  const ClientCertificate* certificate = nullptr;
  std::string_view source_address;  // behind trusted proxies: the client's
};

struct IdentityOptions {
  int64_t max_age_ms = 2000;   // of the directory: when the database is away longer, nobody new comes in
  size_t max_tokens = 20'000;  // verified ones remembered
  LockoutOptions lockout;
};

// Why somebody did not come in, as counters tell it; what a caller is told is less.
enum class Refusal : uint8_t {
  nothing_shown,  // neither key nor token nor certificate
  unknown_key,
  ended_key,           // revoked, expired, or of somebody who is disabled
  bad_token,           // not signed by a provider, for somebody else, or expired
  unknown_subject,     // of a provider's token, but of nobody who may come in
  unknown_certificate  // a verified one of nobody who may come in
};
inline constexpr size_t kRefusals = 6;
std::string_view refusal_name(Refusal refusal);  // "unknown_key"

struct IdentityStats {
  uint64_t admitted = 0, locked_out = 0, unavailable = 0;
  std::array<uint64_t, kRefusals> refused{};
};

class Identity {
 public:
  // `oidc` may be null: then no token is taken. Both outlive this.
  Identity(Directory& directory, OidcVerifier* oidc, const Clock& clock, const WallClock& wall,
           IdentityOptions options = {});

  Result<PrincipalPtr> authenticate(const Credentials& credentials);

  // The principal of a permit as it is now: null when its key was revoked or has expired, it or its tenant was
  // disabled, its token or certificate ended, or its provider withdrew the key that signed it. Cheap while version() is
  // what it was, if the caller remembers that.
  PrincipalPtr current(const Principal& principal) const;
  uint64_t version() const { return directory_.version() + (oidc_ != nullptr ? oidc_->version() : 0); }
  bool fresh() const;  // false: the directory is older than the bound, and nothing may be decided by it
  IdentityStats stats() const;

 private:
  // Who it is; or a refusal, and the account that it is proved to be of, if any.
  struct Judged {
    PrincipalPtr who;
    std::string account;
    Refusal refusal = Refusal::nothing_shown;
    Error error{ErrorCode::unauthenticated, "", {}};
  };
  // `waits`: the source address does, so that what is costly to prove or could be guessed is not looked at.
  Judged judge(const Credentials& credentials, bool waits);
  Judged judge_key(std::string_view key, std::string_view address, bool waits);
  Judged judge_token(std::string_view token, std::string_view address, bool waits);
  Judged judge_certificate(const ClientCertificate& certificate);
  PrincipalPtr principal_of(const OidcClaims& claims, std::string& account) const;
  Error locked(int64_t wait_s);

  // What its signature proved holds as long as the provider's keys do; who that is, as long as the directory.
  struct Token {
    std::shared_ptr<const OidcClaims> claims;  // shared: a token is looked up in every request that shows it
    PrincipalPtr who;
    uint64_t directory_version, keys_version;
  };
  std::optional<Token> remembered(const Digest256& name, uint64_t keys_version);
  struct Shard {
    std::mutex mutex;
    std::unordered_map<Digest256, Token, DigestHash> tokens;
  };

  Directory& directory_;
  OidcVerifier* oidc_;
  const WallClock& wall_;
  IdentityOptions options_;
  Lockout lockout_;
  std::array<Shard, 16> shards_;
  std::atomic<uint64_t> admitted_{0}, locked_out_{0}, unavailable_{0};
  std::array<std::atomic<uint64_t>, kRefusals> refused_{};
};

// Seconds to wait, of a lock-out's error; 0 of others.
int64_t retry_after_s(const Error& error);

}  // namespace redoubt

#include "server/identity_gate.h"

#include <atomic>
#include <utility>

#include "core/clock.h"
#include "core/log.h"
#include "governance/policy_authority.h"
#include "server/api_error.h"
#include "server/http_parse.h"

namespace redoubt {
namespace {

ApiError refused(const Error& error) {
  ApiError refusal;
  const int64_t wait_s = retry_after_s(error);
  if (wait_s > 0) {
    refusal = status_error(429, error.message);
    refusal.type = "rate_limit_error";
    refusal.code = "locked_out";
    refusal.headers = {{"Retry-After", std::to_string(wait_s)}};
  } else if (error.code == ErrorCode::unauthenticated) {
    refusal = status_error(401, error.message);
  } else {
    refusal = api_error(error);
  }
  return refusal;
}

// As it is now: a team or a role that was taken away counts at once.
PrincipalCheck check_of(const Identity& identity) {
  return {.current = [&identity](const Principal& principal) { return identity.current(principal); },
          .version = [&identity] { return identity.version(); }};
}

class IdentityGate final : public Gate {
 public:
  // `fresh`: directory and policies are young enough to decide by.
  IdentityGate(Identity& identity, std::shared_ptr<const PolicyEngine> policies, const WallClock& clock,
               const std::function<bool()>& fresh, std::function<std::string()> closed)
      : identity_(identity),
        closed_(std::move(closed)),
        permits_(std::make_shared<PolicyAuthority>(std::move(policies), check_of(identity), clock, fresh), {}) {}

  std::variant<std::shared_ptr<Permit>, ApiError> enter(const HttpRequest& head, const Route* route) override {
    if (closed_ != nullptr) {
      if (const std::string why = closed_(); !why.empty()) return api_error(unavailable(why));
    }
    ClientCertificate certificate;
    if (head.tls_peer) {
      certificate = {.subject = head.tls_peer->subject,
                     .names = head.tls_peer->names,
                     .expires_at_s = head.tls_peer->expires_at_s};
    }
    auto who = identity_.authenticate({.bearer = bearer_of(head.headers),
                                       .api_key = head.header("x-api-key"),
                                       .certificate = head.tls_peer ? &certificate : nullptr,
                                       .source_address = head.remote_address});
    if (!who) {
      const bool is_by_certificate = bearer_of(head.headers).empty() && head.header("x-api-key").empty();
      if (head.tls_peer && is_by_certificate && who.error().code == ErrorCode::unauthenticated)
        tell_unmatched(head.tls_peer->subject);
      return refused(who.error());
    }
    return enter_route(permits_.issue(std::move(*who)), head, route);
  }

 private:
  // Which name a verified certificate came with, so that it can be tied to a user. One line every ten seconds.
  void tell_unmatched(const std::string& subject) {
    const int64_t now_ns = SteadyClock().now_ns();
    int64_t next_ns = next_word_ns_.load();
    if (now_ns < next_ns || !next_word_ns_.compare_exchange_strong(next_ns, now_ns + 10'000'000'000)) return;
    log::warn("a client certificate is of nobody the directory knows, or of one who is disabled: subject {}", subject);
  }

  Identity& identity_;
  const std::function<std::string()> closed_;
  PermitRegister permits_;
  std::atomic<int64_t> next_word_ns_{0};
};

}  // namespace

std::shared_ptr<Gate> make_identity_gate(Identity& identity, std::shared_ptr<const PolicyEngine> policies,
                                         const WallClock& clock, std::function<bool()> policies_fresh,
                                         std::function<std::string()> closed) {
  return std::make_shared<IdentityGate>(
      identity, std::move(policies), clock,
      [&identity, also = std::move(policies_fresh)] { return identity.fresh() && (also == nullptr || also()); },
      std::move(closed));
}

}  // namespace redoubt

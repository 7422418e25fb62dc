#include "governance/permit.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

namespace redoubt {
namespace {

std::string described(const AccessQuestion& question) {
  return fmt::format("{} on {} {}", question.action, question.resource_kind, question.resource_id.substr(0, 128));
}

Error revoked_error() { return {ErrorCode::denied, "access was revoked", {}}; }
Error gone(const char* why) { return {ErrorCode::denied, why, {}}; }

}  // namespace

Permit::Permit(PrincipalPtr principal, std::shared_ptr<const Authority> authority)
    : principal_(std::move(principal)), authority_(std::move(authority)) {}

Status Permit::judge(const Principal& principal, const Asked& asked) const {
  const Verdict verdict = authority_->decide(principal, asked.question);
  if (verdict == Verdict::permitted) return ok();
  if (verdict == Verdict::unknown) return unavailable("who may do what cannot be told now: the database is away");
  if (verdict == Verdict::not_permitted && asked.only_not_forbidden) return ok();
  return Error{ErrorCode::denied,
               fmt::format("{}: {}", described(asked.question),
                           verdict == Verdict::forbidden ? "a policy forbids it" : "no policy permits it"),
               {}};
}

Status Permit::check(AccessQuestion question) { return ask({std::move(question), false}); }

Status Permit::check_not_forbidden(AccessQuestion question) {
  question.model_follows = true;
  return ask({std::move(question), true});
}

Status Permit::ask(Asked asked) {
  if (revoked_) return ended();
  const uint64_t version = authority_->version();
  const PrincipalPtr now = authority_->current(principal_);
  if (now == nullptr) return revoked_error();
  REDOUBT_CHECK(judge(*now, asked));
  const bool clears = !asked.only_not_forbidden;
  {
    const std::lock_guard lock(mutex_);
    asked_.push_back(std::move(asked));
  }
  // A change while it was judged may have been told to the permits before this question was among theirs.
  if (authority_->version() != version) ask_again();
  if (revoked_) return ended();
  if (clears) cleared_ = true;
  return ok();
}

Status Permit::need_scope(const std::string& scope, const std::string& action) {
  {
    const std::lock_guard lock(mutex_);
    scopes_ = {scope, action};
  }
  if (in_scope(*principal_)) return ok();
  return Error{ErrorCode::denied, "API key: it lacks the scope " + scope, {}};
}

bool Permit::in_scope(const Principal& principal) {
  const std::lock_guard lock(mutex_);
  return principal.scopes.empty() || scopes_.empty() ||
         std::ranges::find_first_of(principal.scopes, scopes_) != principal.scopes.end();
}

Error Permit::ended() const { return ended_by_outage() ? reason_ : revoked_error(); }

void Permit::on_revoked(std::function<void(const Error&)> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (!revoked_) {
      on_revoked_ = std::move(callback);
      return;
    }
  }
  callback(reason_);
}

void Permit::ask_again() {
  if (revoked_) return;
  if (const Status valid = authority_->still_valid(*principal_); !valid) return take_back(valid.error());
  const PrincipalPtr now = authority_->current(principal_);
  if (now == nullptr) return take_back(gone("the key, token, certificate or account is no longer valid"));
  if (!in_scope(*now)) return take_back(gone("the key has lost the scope"));
  std::vector<Asked> asked;
  {
    const std::lock_guard lock(mutex_);
    asked = asked_;
  }
  for (const Asked& one : asked) {
    if (const Status again = judge(*now, one); !again) return take_back(again.error());
  }
}

void Permit::take_back(const Error& reason) {
  std::function<void(const Error&)> callback;
  {
    const std::lock_guard lock(mutex_);
    if (revoked_) return;
    reason_ = reason;
    if (reason.code != ErrorCode::unavailable) reason_.message = "access was revoked: " + reason.message;
    revoked_ = true;
    callback = std::move(on_revoked_);
    on_revoked_ = nullptr;
  }
  if (callback) callback(reason_);
}

struct PermitRegister::Live {
  std::mutex mutex;
  std::unordered_map<const Permit*, std::weak_ptr<Permit>> permits;
};

PermitRegister::PermitRegister(std::shared_ptr<const Authority> authority, Options options,
                               std::shared_ptr<const WallClock> clock)
    : authority_(std::move(authority)), options_(options), clock_(std::move(clock)), live_(std::make_shared<Live>()) {
  using std::chrono::steady_clock;
  watcher_.start(std::chrono::milliseconds(options_.look_ms),
                 [this, asked = steady_clock::now(), seen = authority_->version()]() mutable { look(seen, asked); });
}

std::shared_ptr<Permit> PermitRegister::issue(PrincipalPtr principal) {
  // The last copy takes itself off the list.
  const std::weak_ptr<Live> weak = live_;
  std::shared_ptr<Permit> permit(new Permit(std::move(principal), authority_), [weak](Permit* gone) {
    if (const auto live = weak.lock()) {
      const std::lock_guard lock(live->mutex);
      live->permits.erase(gone);
    }
    delete gone;
  });
  const std::lock_guard lock(live_->mutex);
  live_->permits.emplace(permit.get(), permit);
  return permit;
}

size_t PermitRegister::under_way() const {
  const std::lock_guard lock(live_->mutex);
  return live_->permits.size();
}

std::vector<std::shared_ptr<Permit>> PermitRegister::alive() const {
  std::vector<std::shared_ptr<Permit>> result;
  const std::lock_guard lock(live_->mutex);
  result.reserve(live_->permits.size());
  for (const auto& [key, weak] : live_->permits) {
    if (auto permit = weak.lock()) result.push_back(std::move(permit));
  }
  return result;
}

void PermitRegister::ask_all_again() {
  for (const auto& permit : alive()) permit->ask_again();
}

void PermitRegister::look(uint64_t& seen, std::chrono::steady_clock::time_point& asked) {
  const uint64_t version = authority_->version();
  const auto now = std::chrono::steady_clock::now();
  const int64_t unix_s = clock_->now_s();
  if (version != seen || now - asked >= std::chrono::milliseconds(options_.ask_all_ms)) {
    seen = version;
    asked = now;
    return ask_all_again();
  }
  for (const auto& permit : alive()) {
    const int64_t end = permit->principal().expires_at_s;
    if (end != 0 && end <= unix_s) permit->ask_again();
  }
}

}  // namespace redoubt

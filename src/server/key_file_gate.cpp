// The two gates that need no database: keys of a file, and none.
#include "server/api_error.h"
#include "server/gate.h"
#include "server/http_parse.h"

namespace redoubt {
namespace {

// May use every client route, and administers nothing.
class ClientAuthority final : public Authority {
 public:
  Verdict decide(const Principal&, const AccessQuestion& question) const override {
    const auto scope = question.context.find("scope");
    const bool administers = scope != question.context.end() && scope->second == "admin";
    return administers ? Verdict::not_permitted : Verdict::permitted;
  }
  Status still_valid(const Principal&) const override { return ok(); }
  uint64_t version() const override { return 0; }
};

class ClientGate : public Gate {
 protected:
  explicit ClientGate(Principal principal) : principal_(std::make_shared<Principal>(std::move(principal))) {}
  const PrincipalPtr principal_;
  PermitRegister permits_{std::make_shared<ClientAuthority>(), {}};
};

class KeyFileGate final : public ClientGate {
 public:
  explicit KeyFileGate(std::vector<std::string> keys)
      : ClientGate({.kind = PrincipalKind::service,
                    .id = "key-file",
                    .tenant = "default",
                    .roles = {std::string(kUserRole)},
                    .auth_method = "api_key"}),
        keys_(std::move(keys)) {}
  std::variant<std::shared_ptr<Permit>, ApiError> enter(const HttpRequest& head, const Route* route) override {
    if (!key_matches(presented_key(head.headers), keys_)) {
      return status_error(401, "API key: expected one this server knows, in Authorization: Bearer or X-Api-Key");
    }
    return enter_route(permits_.issue(principal_), head, route);
  }

 private:
  const std::vector<std::string> keys_;
};

class OpenGate final : public ClientGate {
 public:
  OpenGate()
      : ClientGate({.kind = PrincipalKind::open,
                    .id = "anyone",
                    .tenant = "default",
                    .roles = {std::string(kUserRole)},
                    .auth_method = "off"}) {}
  std::variant<std::shared_ptr<Permit>, ApiError> enter(const HttpRequest& head, const Route* route) override {
    return enter_route(permits_.issue(principal_), head, route);
  }
  bool open() const override { return true; }
};

}  // namespace

std::shared_ptr<Gate> make_key_file_gate(std::vector<std::string> keys) {
  return std::make_shared<KeyFileGate>(std::move(keys));
}

std::shared_ptr<Gate> make_open_gate() { return std::make_shared<OpenGate>(); }

}  // namespace redoubt

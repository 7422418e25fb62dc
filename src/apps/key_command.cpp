// redoubt key: API keys, made, listed, rotated and revoked.
#include <memory>
#include <optional>

#include "apps/admin_commands.h"

namespace redoubt {
namespace {

constexpr const char* kKeys = "/admin/v1/keys";

struct KeyFlags {
  AdminFlags admin;
  std::string principal, id, name;
  std::optional<std::string> expires, overlap;
  std::vector<std::string> scopes;
};

Status create(const KeyFlags& flags) {
  Json body{{"principal", flags.principal}, {"name", flags.name}, {"scopes", flags.scopes}};
  if (flags.expires) {
    REDOUBT_TRY(const int64_t seconds, parse_seconds(*flags.expires, "--expires"));
    if (seconds == 0)
      return invalid("--expires: expected more than 0; without --expires a key has no end", "--expires");
    body["expires_in_s"] = seconds;
  }
  return ask_and_print(flags.admin, "POST", kKeys, body);
}

Status list(const KeyFlags& flags) {
  AdminQuery query;
  if (!flags.principal.empty()) query.emplace_back("principal", flags.principal);
  return print_list(flags.admin, kKeys, query,
                    {"id", "principal", "name", "state", "scopes", "expires_at", "last_used_at"});
}

Status show(const KeyFlags& flags) { return ask_and_print(flags.admin, "GET", admin_path(kKeys, flags.id)); }

Status rotate(const KeyFlags& flags) {
  Json body = Json::object();
  if (flags.overlap) {
    REDOUBT_TRY(body["overlap_s"], parse_seconds(*flags.overlap, "--overlap"));
  }
  return ask_and_print(flags.admin, "POST", admin_path(kKeys, flags.id) + "/rotate", body);
}

Status revoke(const KeyFlags& flags) {
  return ask_and_print(flags.admin, "POST", admin_path(kKeys, flags.id) + "/revoke");
}

}  // namespace

void add_key(CLI::App& app, Pending& pending) {
  AdminCommands<KeyFlags> commands(app, pending, "key", "API keys: create, list, show, rotate, revoke");
  {
    const auto [sub, flags] = commands.add("create", "A new key of a user or service; it is shown this once", create);
    sub->add_option("principal", flags->principal, "The user or service")->required();
    sub->add_option("--name", flags->name, "What it is for");
    sub->add_option("--scope", flags->scopes,
                    "Only this (several: again): generate, models, metrics, admin, or an action");
    sub->add_option("--expires", flags->expires, "When it ends: 90d, 12h, 30m or 45s from now [never]");
  }
  {
    const auto [sub, flags] = commands.add("list", "Every key, without its secret", list);
    sub->add_option("--principal", flags->principal, "Only those of this user or service");
  }
  {
    const auto [sub, flags] = commands.add("show", "One key, without its secret", show);
    sub->add_option("id", flags->id, "The key's visible prefix")->required();
  }
  {
    const auto [sub, flags] =
        commands.add("rotate", "A new key in place of another, which goes on for a while", rotate);
    sub->add_option("id", flags->id, "The key's visible prefix")->required();
    sub->add_option("--overlap", flags->overlap, "How long the old one goes on, such as 12h or 0s [1d]");
  }
  {
    const auto [sub, flags] = commands.add("revoke", "Ends a key, and what is under way with it", revoke);
    sub->add_option("id", flags->id, "The key's visible prefix")->required();
  }
}

}  // namespace redoubt

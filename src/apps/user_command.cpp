// redoubt user, team, tenant: who there is, and the naming of the three administrators.
#include <fmt/format.h>

#include <memory>
#include <optional>

#include "apps/admin_commands.h"

namespace redoubt {
namespace {

constexpr const char* kTenants = "/admin/v1/tenants";

struct Flags {
  AdminFlags admin;
  std::string id, tenant, team;
  std::optional<std::string> name;
  std::vector<std::string> teams, roles, labels, no_labels, oidc, certificates;
  bool service = false, disable = false, enable = false, no_teams = false, no_oidc = false, no_certificates = false;
  std::string system, security, audit;

  const char* folder() const { return service ? "/admin/v1/services" : "/admin/v1/users"; }
  std::string team_folder() const { return admin_path(kTenants, tenant) + "/teams"; }
};

// What the flags say, and nothing of what they do not: a label and the identities of a method that are not named stay.
Result<Json> fields(const Flags& flags) {
  Json body = Json::object();
  if (flags.name) body["name"] = *flags.name;
  if (!flags.teams.empty() || flags.no_teams) body["teams"] = flags.teams;
  if (!flags.roles.empty()) body["roles"] = flags.roles;
  for (const std::string& name : flags.no_labels) body["labels"][name] = nullptr;
  for (const std::string& label : flags.labels) {
    const size_t equals = label.find('=');
    if (equals == std::string::npos) return invalid("--label: expected NAME=VALUE", "--label");
    body["labels"][label.substr(0, equals)] = label.substr(equals + 1);
  }
  if (flags.no_oidc) body["identities"]["oidc"] = nullptr;
  for (size_t i = 0; i + 1 < flags.oidc.size(); i += 2)
    body["identities"]["oidc"].push_back({{"issuer", flags.oidc[i]}, {"subject", flags.oidc[i + 1]}});
  if (flags.no_certificates) body["identities"]["mtls"] = nullptr;
  for (const std::string& name : flags.certificates) body["identities"]["mtls"].push_back({{"subject", name}});
  if (flags.disable || flags.enable) body["disabled"] = flags.disable;
  return body;
}

Result<Json> fields_with_id(const Flags& flags) {
  REDOUBT_TRY(Json body, fields(flags));
  body["id"] = flags.id;
  return body;
}

Status ask_for_change(const Flags& flags, const std::string& path) {
  REDOUBT_TRY(const Json body, fields(flags));
  return ask_and_print(flags.admin, "PATCH", path, body);
}

Status create_user(const Flags& flags) {
  REDOUBT_TRY(Json body, fields_with_id(flags));
  if (!flags.tenant.empty()) body["tenant"] = flags.tenant;
  return ask_and_print(flags.admin, "POST", flags.folder(), body);
}
Status list_users(const Flags& flags) {
  AdminQuery query;
  if (!flags.tenant.empty()) query.emplace_back("tenant", flags.tenant);
  if (!flags.team.empty()) query.emplace_back("team", flags.team);
  return print_list(flags.admin, flags.folder(), query, {"id", "tenant", "teams", "roles", "disabled", "name"});
}
Status show_user(const Flags& flags) { return ask_and_print(flags.admin, "GET", admin_path(flags.folder(), flags.id)); }
Status change_user(const Flags& flags) { return ask_for_change(flags, admin_path(flags.folder(), flags.id)); }
Status remove_user(const Flags& flags) {
  return ask_and_print(flags.admin, "DELETE", admin_path(flags.folder(), flags.id));
}

Status appoint(const Flags& flags) {
  const Json body{{"system", flags.system}, {"security", flags.security}, {"audit", flags.audit}};
  REDOUBT_TRY(const auto target, open_admin_target(flags.admin));
  REDOUBT_TRY(const Json made, target->call("POST", "/admin/v1/administrators", body));
  if (flags.admin.json) return write_stdout(dump_json(made) + "\n");
  std::string text = "Each key is shown this once; give each to its administrator alone.\n";
  for (const auto& [office, one] : made.items())
    text += fmt::format("{:<9} {}  {}\n", office, one.value("user", ""), one.value("key", ""));
  return write_stdout(text);
}

Status create_team(const Flags& flags) {
  REDOUBT_TRY(const Json body, fields_with_id(flags));
  return ask_and_print(flags.admin, "POST", flags.team_folder(), body);
}
Status list_teams(const Flags& flags) {
  return print_list(flags.admin, flags.team_folder(), {}, {"id", "tenant", "name", "labels"});
}
Status change_team(const Flags& flags) { return ask_for_change(flags, admin_path(flags.team_folder(), flags.id)); }
Status remove_team(const Flags& flags) {
  return ask_and_print(flags.admin, "DELETE", admin_path(flags.team_folder(), flags.id));
}

Status create_tenant(const Flags& flags) {
  REDOUBT_TRY(const Json body, fields_with_id(flags));
  return ask_and_print(flags.admin, "POST", kTenants, body);
}
Status list_tenants(const Flags& flags) {
  return print_list(flags.admin, kTenants, {}, {"id", "name", "labels", "disabled"});
}
Status show_tenant(const Flags& flags) { return ask_and_print(flags.admin, "GET", admin_path(kTenants, flags.id)); }
Status change_tenant(const Flags& flags) { return ask_for_change(flags, admin_path(kTenants, flags.id)); }
Status remove_tenant(const Flags& flags) {
  return ask_and_print(flags.admin, "DELETE", admin_path(kTenants, flags.id));
}

using Subcommands = AdminCommands<Flags>;

void add_name_and_labels(CLI::App& sub, Flags& flags) {
  sub.add_option("--name", flags.name, "As people say it");
  sub.add_option("--label", flags.labels, "NAME=VALUE, for policies (several: again)")->allow_extra_args(false);
}
void add_no_label(CLI::App& sub, Flags& flags) {
  sub.add_option("--no-label", flags.no_labels, "Takes the label of this name away (several: again)")
      ->allow_extra_args(false);
}
void add_state(CLI::App& sub, Flags& flags) {
  auto* disable = sub.add_flag("--disable", flags.disable, "Nobody comes in, and what is under way ends");
  sub.add_flag("--enable", flags.enable, "As before")->excludes(disable);
}
void add_person(CLI::App& sub, Flags& flags) {
  add_name_and_labels(sub, flags);
  sub.add_option("--team", flags.teams, "Of its tenant (several: again)")->allow_extra_args(false);
  sub.add_option("--role", flags.roles, "[user] (several: again)")->allow_extra_args(false);
  sub.add_option("--oidc", flags.oidc, "ISSUER SUBJECT, as an identity provider calls it")
      ->type_size(2)
      ->check([](const std::string& value) {  // else it would be taken for the subject
        return value.starts_with("--") ? "expected ISSUER SUBJECT, found " + value : std::string();
      });
  sub.add_option("--certificate", flags.certificates, "CN=… or DNS:…, URI:…, EMAIL:… of its client certificate")
      ->allow_extra_args(false);
}

}  // namespace

void add_user(CLI::App& app, Pending& pending) {
  Subcommands commands(app, pending, "user", "Users and services: create, list, show, change, remove, appoint");
  const auto one = [&](const char* name, const char* help, Status (*run)(const Flags&)) {
    const auto [sub, flags] = commands.add(name, help, run);
    sub->add_option("id", flags->id, "Letters, digits and . _ - @")->required();
    sub->add_flag("--service", flags->service, "A program instead of a person");
    return std::pair(sub, flags);
  };
  {
    const auto [sub, flags] = one("create", "A new one; its id is never given to another", create_user);
    sub->add_option("--tenant", flags->tenant, "[default]");
    add_person(*sub, *flags);
  }
  {
    const auto [sub, flags] = commands.add("list", "Everyone", list_users);
    sub->add_option("--tenant", flags->tenant, "Only those of this tenant");
    sub->add_option("--team", flags->team, "Only those of this team");
    sub->add_flag("--service", flags->service, "Programs instead of people");
  }
  one("show", "One", show_user);
  {
    const auto [sub, flags] =
        one("change",
            "What is named becomes what is said; the rest stays. --team, --role, --oidc and --certificate say all of "
            "theirs, --label one",
            change_user);
    add_person(*sub, *flags);
    sub->add_flag("--no-team", flags->no_teams, "In none")->excludes("--team");
    sub->add_flag("--no-oidc", flags->no_oidc, "No provider's token is its any more")->excludes("--oidc");
    sub->add_flag("--no-certificate", flags->no_certificates, "No certificate is its any more")
        ->excludes("--certificate");
    add_no_label(*sub, *flags);
    add_state(*sub, *flags);
  }
  one("remove", "Takes one out, and revokes its keys", remove_user);
  {
    const auto [sub, flags] = commands.add("appoint",
                                           "Names the three administrators and makes a key for each: the appointing "
                                           "key once, the data folder's owner again",
                                           appoint);
    sub->add_option("--system", flags->system, "Who runs the server: models, nodes, users")->required();
    sub->add_option("--security", flags->security, "Who decides: policies, keys, limits")->required();
    sub->add_option("--audit", flags->audit, "Who watches: records")->required();
  }
}

void add_team(CLI::App& app, Pending& pending) {
  Subcommands commands(app, pending, "team", "Teams of a tenant: create, list, change, remove");
  const auto add = [&](const char* name, const char* help, Status (*run)(const Flags&)) {
    const auto [sub, flags] = commands.add(name, help, run);
    flags->tenant = "default";
    sub->add_option("--tenant", flags->tenant, "[default]");
    return std::pair(sub, flags);
  };
  const auto one = [&](const char* name, const char* help, Status (*run)(const Flags&)) {
    const auto [sub, flags] = add(name, help, run);
    sub->add_option("id", flags->id, "Letters, digits and . _ - @")->required();
    return std::pair(sub, flags);
  };
  {
    const auto [sub, flags] = one("create", "A new one", create_team);
    add_name_and_labels(*sub, *flags);
  }
  add("list", "Every one", list_teams);
  {
    const auto [sub, flags] = one("change", "What is named becomes what is said; the rest stays", change_team);
    add_name_and_labels(*sub, *flags);
    add_no_label(*sub, *flags);
  }
  one("remove", "Takes it away; who was in it stays", remove_team);
}

void add_tenant(CLI::App& app, Pending& pending) {
  Subcommands commands(app, pending, "tenant", "Tenants: create, list, show, change, remove");
  const auto one = [&](const char* name, const char* help, Status (*run)(const Flags&)) {
    const auto [sub, flags] = commands.add(name, help, run);
    sub->add_option("id", flags->id, "Letters, digits and . _ - @")->required();
    return std::pair(sub, flags);
  };
  {
    const auto [sub, flags] = one("create", "A new one", create_tenant);
    add_name_and_labels(*sub, *flags);
  }
  commands.add("list", "Every one", list_tenants);
  one("show", "One", show_tenant);
  {
    const auto [sub, flags] = one("change", "What is named becomes what is said; the rest stays", change_tenant);
    add_name_and_labels(*sub, *flags);
    add_no_label(*sub, *flags);
    add_state(*sub, *flags);
  }
  one("remove", "Takes one away that nobody was ever in", remove_tenant);
}

}  // namespace redoubt

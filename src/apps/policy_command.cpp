// redoubt policy show|check|explain|test|diff|apply: what policies say, before and after they hold.
//
// The policies are those of --file, or of a running server (--server), or of a data folder (--data, --database);
// without any of these, the text that a first start has. `apply` changes those of a running server or of the database.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "apps/admin_target.h"
#include "apps/command.h"
#include "apps/identity_store.h"
#include "apps/terminal.h"
#include "apps/yaml_json.h"
#include "core/clock.h"
#include "core/mapped_file.h"
#include "governance/default_policies.h"
#include "governance/policy_actions.h"
#include "governance/policy_check.h"
#include "governance/policy_expectations.h"
#include "governance/policy_explain.h"
#include "governance/policy_matrix.h"
#include "governance/policy_store.h"
#include "server/admin_policies.h"

namespace redoubt {
namespace {

constexpr size_t kMaxPolicyBytes = cedar::ParseLimits{}.max_bytes;

struct PolicyFlags {
  AdminFlags admin;
  std::string file, entities;  // files
  // show
  bool matrix = false, guards = false, all = false;
  // check, test, diff
  std::string path, second_path;
  // apply
  std::string note;
  bool dry_run = false, allow_lockout = false;
  int64_t expected = 0;
  // explain
  std::string action, resource, request, user, tenant, kind = "user";
  std::vector<std::string> teams, roles, context;
};

Result<Json> yaml_file(const std::string& file) {
  REDOUBT_TRY(const std::string text, read_text_file(file, size_t{16} << 20));
  auto json = json_from_yaml(text);
  if (!json) return std::move(json).error().within(file);
  return json;
}

// What holds somewhere: the version with the models of the configuration among its entities, and their stages.
struct Held {
  PolicyVersion version;
  ModelStages stages;
};

Result<Held> stored(const AdminFlags& flags) {
  REDOUBT_TRY(const auto database, open_own_database(flags.data, flags.database));
  Held held;
  REDOUBT_TRY(held.version, newest_policies(*database));
  REDOUBT_TRY(NodeModels models, kept_models(*database, SystemWallClock()));
  held.version.entities = with_configured(std::move(held.version.entities), models.entities);
  held.stages = std::move(models.stages);
  return held;
}

// Those of the directory that the flags name; who of them can come in is for the server to know.
Result<Administrators> security_administrators(const AdminFlags& flags) {
  REDOUBT_TRY(const auto target, open_admin_target(flags));
  Administrators found;
  for (const char* path : {"/admin/v1/users", "/admin/v1/services"}) {
    REDOUBT_TRY(const Json all, target->list(path, {}));
    for (const Json& one : all) {
      Principal who{.id = one.value("id", ""), .tenant = one.value("tenant", "default")};
      who.kind = path == std::string_view("/admin/v1/users") ? PrincipalKind::user : PrincipalKind::service;
      who.teams = one.value("teams", std::vector<std::string>());
      who.roles = one.value("roles", std::vector<std::string>());
      if (!who.has_role(kSecurityAdmin) || one.value("disabled", false)) continue;
      found.all.push_back(std::move(who));
    }
  }
  return found;
}

// As the owner of the data folder. A running server follows within half a second.
Result<Json> change_stored(const AdminFlags& flags, const Json& body) {
  REDOUBT_TRY(const auto database, open_own_database(flags.data, flags.database));
  const SteadyClock clock;
  const SystemWallClock wall;
  REDOUBT_TRY(const auto store, PolicyStore::open(*database, std::nullopt, clock, wall, {}, 0));
  PolicyAuthor author{.name = "owner", .is_owner = true};
  if (auto there = security_administrators(flags)) author.administrators = *std::move(there);
  return change_policies(*store, author, body);
}

Result<Held> held_by_server(const AdminFlags& flags) {
  REDOUBT_TRY(const auto target, open_admin_target(flags));
  REDOUBT_TRY(const Json json, target->call("GET", "/admin/v1/policies"));
  if (!json.is_object() || !json.contains("text") || !json["text"].is_string())
    return corrupt("the answer holds no policies");
  Held held;
  held.version.version = json.value("version", int64_t{0});
  held.version.text = json["text"].get<std::string>();
  held.version.entities =
      with_configured(json.value("entities", Json::array()), json.value("configured_entities", Json::array()));
  held.stages = stages_from_json(json.value("configured_stages", Json::object()));
  return held;
}

bool names_directory(const AdminFlags& flags) {
  return !flags.server.empty() || !flags.data.empty() || !flags.database.empty();
}

// The text of `file` wins over what the flags name, and --entities over what is described there.
Result<std::shared_ptr<const PolicySnapshot>> snapshot_of(const PolicyFlags& flags, const std::string& file) {
  Held held;
  held.version.text = default_policy_text();
  if (names_directory(flags.admin)) {
    REDOUBT_TRY(held, flags.admin.server.empty() ? stored(flags.admin) : held_by_server(flags.admin));
  }
  PolicyVersion& version = held.version;
  if (!file.empty()) {
    version.version = 0;
    REDOUBT_TRY(version.text, read_text_file(file, kMaxPolicyBytes));
  }
  if (!flags.entities.empty()) {
    REDOUBT_TRY(version.entities, yaml_file(flags.entities));
  }
  auto snapshot = make_policy_snapshot(std::move(version.text), version.entities,
                                       static_cast<uint64_t>(version.version), std::move(held.stages));
  if (!snapshot && !file.empty()) return std::move(snapshot).error().within(file);
  return snapshot;
}

Status print(const Json& json) { return write_stdout(dump_json(json) + "\n"); }

// One line a principal and resource, with the actions in each class; what is denied to everybody is left out.
std::string matrix_text(const Matrix& matrix, bool all) {
  std::string out;
  for (size_t p = 0; p < matrix.axis.principals.size(); ++p) {
    out += matrix.axis.principals[p].label + "\n";
    for (size_t r = 0; r < matrix.axis.resources.size(); ++r) {
      std::map<Access, std::string> actions;
      for (size_t a = 0; a < matrix.axis.actions.size(); ++a) {
        std::string& list = actions[matrix.at(p, a, r)];
        list += (list.empty() ? "" : " ") + matrix.axis.actions[a];
      }
      for (const auto& [access, list] : actions) {
        if (access == Access::denied && !all) continue;
        if (access == Access::forbidden && !all) continue;
        out += fmt::format("  {:<34} {:<9} {}\n", matrix.axis.resources[r].label, access_name(access), list);
      }
    }
  }
  return out;
}

Status show(const PolicyFlags& flags) {
  REDOUBT_TRY(const auto snapshot, snapshot_of(flags, flags.file));
  if (flags.matrix) {
    REDOUBT_TRY(const Matrix matrix, compute_matrix(snapshot, axis_of(*snapshot)));
    return flags.admin.json ? print(to_json(matrix)) : write_stdout(matrix_text(matrix, flags.all));
  }
  const PolicySet& set = flags.guards ? *snapshot->guards : *snapshot->policies;
  if (!flags.admin.json) return write_stdout(set.text());
  Json list = Json::array();
  for (uint32_t i = 0; i < set.policies().size(); ++i) {
    const cedar::Policy& policy = set.policies()[i];
    Json annotations = Json::object();
    for (const auto& [key, value] : policy.annotations) annotations[std::string(key)] = std::string(value);
    list.push_back({{"id", std::string(policy.id)},
                    {"effect", std::string(cedar::effect_name(policy.effect))},
                    {"line", set.place_of_policy(i).line},
                    {"annotations", std::move(annotations)},
                    {"text", std::string(set.policy_text(i))}});
  }
  return print({{"policies", std::move(list)}});
}

Result<KnownNames::People> known_people(const AdminFlags& flags) {
  REDOUBT_TRY(const auto target, open_admin_target(flags));
  KnownNames::People people;
  const auto list = [&](const std::string& path, const std::string& before, std::set<std::string>& out) -> Status {
    REDOUBT_TRY(const Json all, target->list(path, {}));
    for (const Json& one : all) {
      out.insert(before + one.value("id", ""));
      for (std::string& role : one.value("roles", std::vector<std::string>())) people.roles.insert(std::move(role));
    }
    return ok();
  };
  REDOUBT_CHECK(list("/admin/v1/users", "", people.users));
  REDOUBT_CHECK(list("/admin/v1/services", "", people.services));
  REDOUBT_CHECK(list("/admin/v1/tenants", "", people.tenants));
  for (const std::string& tenant : people.tenants)
    REDOUBT_CHECK(list(admin_path("/admin/v1/tenants", tenant) + "/teams", tenant + "/", people.teams));
  return people;
}

// What there is where the flags point, as far as it can be told there.
Result<KnownNames> known_names(const AdminFlags& flags, const PolicySnapshot& held) {
  KnownNames known{.described = held.entities.get(), .guards = held.guards.get()};
  if (!names_directory(flags)) return known;
  REDOUBT_TRY(known.people, known_people(flags));
  if (held.stages.empty()) return known;  // the configuration names every model, if it is known
  known.models.emplace();
  for (const cedar::Entity& entity : held.entities->all()) {
    if (entity.name.type == "Redoubt::Model") known.models->emplace(entity.name.id);
  }
  return known;
}

Status check(const PolicyFlags& flags) {
  REDOUBT_TRY(const auto snapshot, snapshot_of(flags, flags.path));
  REDOUBT_TRY(const KnownNames known, known_names(flags.admin, *snapshot));
  std::vector<std::string> warnings = policy_warnings(*snapshot->policies, known);
  Administrators administrators;
  if (names_directory(flags.admin)) {
    REDOUBT_TRY(administrators, security_administrators(flags.admin));
  }
  if (policies_changeable(snapshot, administrators) == Changeable::no) warnings.emplace_back(kLocksOut);
  const size_t count = snapshot->policies->policies().size();
  if (flags.admin.json) return print({{"policies", count}, {"warnings", warnings}});
  std::string out = fmt::format("{}: {} policies\n", flags.path, count);
  for (const std::string& warning : warnings) out += "warning: " + warning + "\n";
  return write_stdout(out);
}

// key=value: true, false and whole numbers are such, everything else a string.
Result<Json> context_of(const std::vector<std::string>& pairs) {
  Json context = Json::object();
  for (const std::string& pair : pairs) {
    const size_t equals = pair.find('=');
    if (equals == std::string::npos || equals == 0) return invalid("--context: expected key=value", "--context");
    REDOUBT_TRY(Json value, json_from_yaml(pair.substr(equals + 1)));
    context[pair.substr(0, equals)] = value.is_null() ? Json("") : std::move(value);
  }
  return context;
}

// Who asks: as the directory that the flags name has them, except for what the flags say themselves.
Result<Json> principal_of(const PolicyFlags& flags) {
  Json principal = Json::object();
  const bool is_described = !flags.tenant.empty() || !flags.teams.empty() || !flags.roles.empty();
  if (!flags.user.empty() && names_directory(flags.admin) && (flags.kind == "user" || flags.kind == "service")) {
    REDOUBT_TRY(const auto target, open_admin_target(flags.admin));
    const auto read = [&](const std::string& path, const std::string& id) {
      return target->call("GET", admin_path(path, id));
    };
    auto found = read(flags.kind == "user" ? "/admin/v1/users" : "/admin/v1/services", flags.user);
    if (!found && !is_described) return std::move(found).error().within(flags.user);
    if (found) {
      for (const char* key : {"tenant", "teams", "roles", "labels"}) {
        if (found->contains(key)) principal[key] = (*found)[key];
      }
      if (flags.tenant.empty()) {
        const std::string tenant = found->value("tenant", "default");
        REDOUBT_TRY(const Json record, read("/admin/v1/tenants", tenant));
        principal["tenant_labels"] = record.value("labels", Json::object());
        REDOUBT_TRY(const Json teams, target->list(admin_path("/admin/v1/tenants", tenant) + "/teams", {}));
        for (const Json& team : teams)
          principal["team_labels"][team.value("id", "")] = team.value("labels", Json::object());
      }
    }
  }
  principal["id"] = flags.user.empty() ? "somebody" : flags.user;
  principal["kind"] = flags.kind;
  if (!flags.tenant.empty()) principal["tenant"] = flags.tenant;
  if (!flags.teams.empty()) principal["teams"] = flags.teams;
  if (!flags.roles.empty()) principal["roles"] = flags.roles;
  return principal;
}

Result<Json> request_of(const PolicyFlags& flags) {
  if (!flags.request.empty()) return yaml_file(flags.request);
  if (flags.action.empty() || flags.resource.empty()) {
    return invalid("explain: expected ACTION and RESOURCE, or --request", "--request");
  }
  REDOUBT_TRY(Json context, context_of(flags.context));
  // Kind::id is short for Redoubt::Kind::"id".
  std::string resource = flags.resource;
  if (const size_t colons = resource.find("::");
      colons != std::string::npos && resource.find('"') == std::string::npos) {
    resource = "Redoubt::" + resource.substr(0, colons) + "::" + cedar::in_quotes(resource.substr(colons + 2));
  }
  REDOUBT_TRY(Json principal, principal_of(flags));
  return Json{{"principal", std::move(principal)},
              {"action", flags.action},
              {"resource", std::move(resource)},
              {"context", std::move(context)}};
}

Status explain_request(const PolicyFlags& flags) {
  REDOUBT_TRY(const auto snapshot, snapshot_of(flags, flags.file));
  REDOUBT_TRY(const Json json, request_of(flags));
  REDOUBT_TRY(const AuthorizationRequest request, request_from_json(json));
  const Explanation explanation = explain(snapshot, request.request());
  if (flags.admin.json) return print(to_json(explanation));
  std::string out = explanation.why + "\n";
  if (!explanation.not_known.empty())
    out += fmt::format("not known here: {} (--context says it)\n", fmt::join(explanation.not_known, ", "));
  for (const Explanation::Line& line : explanation.lines) {
    out += fmt::format("  {} {}{} (line {}): {}{}\n", line.effect, cedar::in_quotes(line.policy),
                       line.guard ? ", a guard" : "", line.line, line.decides ? "decides" : line.outcome,
                       line.detail.empty() ? "" : "; " + line.detail);
  }
  return write_stdout(out);
}

Status test(const PolicyFlags& flags) {
  REDOUBT_TRY(const auto snapshot, snapshot_of(flags, flags.file));
  REDOUBT_TRY(const Json file, yaml_file(flags.path));
  auto results = run_expectations(*snapshot, file);
  if (!results) return std::move(results).error().within(flags.path);
  const auto failed = std::count_if(results->begin(), results->end(), [](const auto& one) { return !one.passed; });
  if (flags.admin.json) {
    REDOUBT_CHECK(print({{"passed", failed == 0}, {"failed", failed}, {"results", to_json(*results)}}));
  } else {
    std::string out;
    for (const ExpectationResult& one : *results) {
      if (!one.passed) out += fmt::format("failed: {}: expected {}, {}\n", one.name, one.expected, one.found);
    }
    out += fmt::format("{} passed, {} failed\n", static_cast<int64_t>(results->size()) - failed, failed);
    REDOUBT_CHECK(write_stdout(out));
  }
  if (failed > 0) return invalid(fmt::format("{}: {} of {} tests failed", flags.path, failed, results->size()));
  return ok();
}

Status diff(const PolicyFlags& flags) {
  const bool one = flags.second_path.empty();  // against the policies that the flags name
  REDOUBT_TRY(const auto before, snapshot_of(flags, one ? "" : flags.path));
  REDOUBT_TRY(const auto after, snapshot_of(flags, one ? flags.path : flags.second_path));
  REDOUBT_TRY(const auto found, changes(before, after));
  if (flags.admin.json) return print({{"changes", to_json(found)}});
  std::string out;
  for (const MatrixChange& change : found) {
    out += fmt::format("{}, {}, {}: {} -> {}\n", change.principal, change.action, change.resource,
                       access_name(change.before), access_name(change.after));
  }
  out += fmt::format("{} cells of the matrix change\n", found.size());
  return write_stdout(out);
}

Status apply(const PolicyFlags& flags) {
  Json body{{"note", flags.note}, {"dry_run", flags.dry_run}};
  REDOUBT_TRY(body["text"], read_text_file(flags.path, kMaxPolicyBytes));
  if (flags.allow_lockout) body["allow_lockout"] = true;
  if (flags.expected > 0) body["expected_version"] = flags.expected;
  if (!flags.entities.empty()) {
    REDOUBT_TRY(body["entities"], yaml_file(flags.entities));
  }
  Json answer;
  if (flags.admin.server.empty()) {
    REDOUBT_TRY(answer, change_stored(flags.admin, body));
  } else {
    REDOUBT_TRY(const auto target, open_admin_target(flags.admin));
    REDOUBT_TRY(answer, target->call("PUT", "/admin/v1/policies", body));
  }
  if (flags.admin.json) return print(answer);
  std::string out;
  for (const Json& warning : answer.value("warnings", Json::array()))
    out += "warning: " + warning.get<std::string>() + "\n";
  out += fmt::format("version {}{}, {} cells of the matrix change\n", answer.value("version", int64_t{0}),
                     flags.dry_run ? " stays" : " holds", answer.value("changed_cells", int64_t{0}));
  return write_stdout(out);
}

using Run = Status (*)(const PolicyFlags&);

CLI::App* add(CLI::App& group, const char* name, const char* what, const std::shared_ptr<PolicyFlags>& flags,
              Pending& pending, Run run) {
  CLI::App* command = group.add_subcommand(name, what);
  add_admin_flags(*command, flags->admin);
  command->add_option("--entities", flags->entities, "models and datasets with their labels: a JSON or YAML file");
  command->callback([flags, &pending, run] { pending.action = [flags, run] { return run(*flags); }; });
  return command;
}

}  // namespace

void add_policy(CLI::App& app, Pending& pending) {
  CLI::App* group = app.add_subcommand("policy", "Read, check, explain, test and compare access policies");
  group->require_subcommand(1);
  const auto flags = std::make_shared<PolicyFlags>();
  const auto with_file = [&](CLI::App* command) {
    command->add_option("--file", flags->file,
                        "a file of policies; else those of --server or --data, else of a first start");
    return command;
  };

  CLI::App* shows =
      with_file(add(*group, "show", "Print policies, or the access matrix computed from them", flags, pending, show));
  shows->add_flag("--matrix", flags->matrix, "who may do what to what");
  shows->add_flag("--all", flags->all, "with --matrix: also what is denied");
  shows->add_flag("--guards", flags->guards, "what no text can lift");

  CLI::App* checks =
      add(*group, "check", "Parse a file; warn of names and attributes that mean nothing", flags, pending, check);
  checks->add_option("FILE", flags->path, "policies")->required();

  CLI::App* explains =
      with_file(add(*group, "explain", "What the policies say to a request, and why", flags, pending, explain_request));
  explains->add_option("ACTION", flags->action, "generate, set_priority, manage_policies, ...");
  explains->add_option("RESOURCE", flags->resource, "Model::r1");
  explains->add_option("--user", flags->user,
                       "who asks; of a user that --server, --data or --database knows the rest is known too");
  explains->add_option("--tenant", flags->tenant, "[default]");
  explains->add_option("--kind", flags->kind, "user, service, appointer, open");
  explains->add_option("--team", flags->teams, "of the tenant; may be repeated");
  explains->add_option("--role", flags->roles, "may be repeated");
  explains->add_option("--context", flags->context,
                       "key=value: now=2026-11-25T08:00:00Z source_ip=10.0.0.1 purpose=triage");
  explains->add_option("--request", flags->request, "the request as a JSON or YAML file instead");

  CLI::App* tests =
      with_file(add(*group, "test", "Requests with the decisions expected of them", flags, pending, test));
  tests->add_option("TESTS", flags->path, "a JSON or YAML file")->required();

  CLI::App* diffs =
      add(*group, "diff", "Cells of the access matrix that differ between two files", flags, pending, diff);
  diffs->add_option("OLD", flags->path, "a file; alone: the new one, against what --server or --data holds")
      ->required();
  diffs->add_option("NEW", flags->second_path);

  CLI::App* applies =
      add(*group, "apply", "Change the policies of a running server, or of a data folder", flags, pending, apply);
  applies->add_option("FILE", flags->path, "policies")->required();
  applies->add_option("--note", flags->note, "why; kept with the version");
  applies->add_option("--expected-version", flags->expected, "refuse if another version holds by now");
  applies->add_flag("--dry-run", flags->dry_run, "say what would change");
  applies->add_flag("--allow-lockout", flags->allow_lockout,
                    "also if no security administrator could change policies after it");
}

}  // namespace redoubt

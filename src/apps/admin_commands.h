// What the commands of administration have in common: subcommands with the flags of where they go, and how a record is
// shown.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apps/admin_target.h"
#include "apps/command.h"
#include "apps/record_text.h"
#include "apps/terminal.h"

namespace redoubt {

// Declares subcommands of one command. Flags has the member `admin`, of AdminFlags.
template <class Flags>
class AdminCommands {
 public:
  AdminCommands(CLI::App& app, Pending& pending, const char* name, const char* help)
      : command_(*app.add_subcommand(name, help)), pending_(pending) {
    command_.require_subcommand(1);
  }
  std::pair<CLI::App*, std::shared_ptr<Flags>> add(const char* name, const char* help, Status (*run)(const Flags&)) {
    auto* sub = command_.add_subcommand(name, help);
    auto flags = std::make_shared<Flags>();
    add_admin_flags(*sub, flags->admin);
    Pending& pending = pending_;
    sub->callback([=, &pending] { pending.action = [=] { return run(*flags); }; });
    return {sub, flags};
  }

 private:
  CLI::App& command_;
  Pending& pending_;
};

inline Status print_record(const AdminFlags& flags, const Json& record) {
  return write_stdout(flags.json ? dump_json(record) + "\n" : record_text(record));
}

// As a table of these fields.
inline Status print_records(const AdminFlags& flags, const Json& records, const std::vector<std::string>& columns) {
  return write_stdout(flags.json ? json_lines(records) : table_text(records, columns));
}

// One call, and its answer printed.
inline Status ask_and_print(const AdminFlags& flags, const std::string& method, const std::string& path,
                            const Json& body = Json::object()) {
  REDOUBT_TRY(const auto target, open_admin_target(flags));
  REDOUBT_TRY(const Json record, target->call(method, path, body));
  return print_record(flags, record);
}

// A whole list, printed.
inline Status print_list(const AdminFlags& flags, const std::string& path, const AdminQuery& query,
                         const std::vector<std::string>& columns) {
  REDOUBT_TRY(const auto target, open_admin_target(flags));
  REDOUBT_TRY(const Json records, target->list(path, query));
  return print_records(flags, records, columns);
}

}  // namespace redoubt

// redoubt COMMAND …: picks the command, runs it, and turns its result into an exit status.
#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <string_view>

#include "apps/command.h"
#include "apps/stop_request.h"
#include "apps/version.h"
#include "core/json.h"
#include "core/log.h"

namespace redoubt {
namespace {

enum ExitStatus { kDone = 0, kFailed = 1, kUsage = 2 };

int complain(std::string message, int status) {
  for (char& c : message) {
    if (c == '\n' || c == '\r') c = ' ';  // one line, whatever a file name holds
  }
  fmt::print(stderr, "redoubt: {}\n", message);
  return status;
}

// Wrong use: an option, or an argument of the command line, which is named in capitals.
bool is_usage(const Error& error) {
  return error.param.starts_with("--") ||
         (!error.param.empty() && std::ranges::all_of(error.param, [](char c) { return c >= 'A' && c <= 'Z'; }));
}

// Standard output is for data. A command that ends soon says only what is wrong; the server also what happens.
void set_up_log(bool serves) {
  spdlog::set_default_logger(spdlog::stderr_color_mt("redoubt"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
  spdlog::set_level(serves ? spdlog::level::info : spdlog::level::warn);
}

int run_program(int argc, char** argv) {
  CLI::App app{"A private server for DeepSeek-R1 and its distills.", "redoubt"};
  app.set_version_flag("--version", std::string(kVersion));
  app.require_subcommand(1);
  app.failure_message([](const CLI::App*, const CLI::Error& error) { return std::string(error.what()); });

  Pending pending;
  for (const auto add : {add_serve, add_run, add_tokenize, add_detokenize, add_render, add_logits, add_inspect,
                         add_convert, add_quantize, add_synth, add_bench, add_perplexity, add_doctor, add_key, add_user,
                         add_team, add_tenant, add_limit, add_policy}) {
    add(app, pending);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    const std::string_view command = argc > 1 ? argv[1] : "";
    const auto known = app.get_subcommands([](const CLI::App*) { return true; });
    const auto is_it = [command](const CLI::App* one) { return one->get_name() == command; };
    if (!command.empty() && command[0] != '-' && std::ranges::none_of(known, is_it))
      return complain(fmt::format("there is no command '{}'; redoubt --help lists them", command), kUsage);
    return complain(error.what(), kUsage);
  }
  set_up_log(app.got_subcommand("serve"));
  std::signal(SIGXFSZ, SIG_IGN);  // a file over `ulimit -f` is an error of its write, like a full disk
  Status status = ok();
  try {
    status = pending.action();
  } catch (const Json::exception& error) {  // a peer's answer with other types than it should have
    return complain(fmt::format("the answer is not as expected: {}", error.what()), kFailed);
  }
  if (!status && status_of_stop(status.error()) != 0)
    return complain(status.error().message, status_of_stop(status.error()));
  if (!status) return complain(status.error().message, is_usage(status.error()) ? kUsage : kFailed);
  if (std::fflush(stdout) != 0) return complain("standard output: could not be written", kFailed);
  return kDone;
}

}  // namespace
}  // namespace redoubt

int main(int argc, char** argv) { return redoubt::run_program(argc, argv); }

// redoubt COMMAND …: picks the command, runs it, and turns its result into an exit status.
#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>

#include <cstdio>

#include "apps/command.h"
#include "apps/version.h"
#include "core/json.h"
#include "core/log.h"

namespace redoubt {
namespace {

enum ExitStatus { kDone = 0, kFailed = 1, kUsage = 2 };

int complain(std::string message, ExitStatus status) {
  for (char& c : message) {
    if (c == '\n' || c == '\r') c = ' ';  // one line, whatever a file name holds
  }
  fmt::print(stderr, "redoubt: {}\n", message);
  return status;
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
    return complain(error.what(), kUsage);
  }
  set_up_log(app.got_subcommand("serve"));
  Status status = ok();
  try {
    status = pending.action();
  } catch (const Json::exception& error) {  // a peer's answer with other types than it should have
    return complain(fmt::format("the answer is not as expected: {}", error.what()), kFailed);
  }
  if (!status) return complain(status.error().message, status.error().param.starts_with("--") ? kUsage : kFailed);
  if (std::fflush(stdout) != 0) return complain("standard output: could not be written", kFailed);
  return kDone;
}

}  // namespace
}  // namespace redoubt

int main(int argc, char** argv) { return redoubt::run_program(argc, argv); }

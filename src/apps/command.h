// The commands of the program. Each add_… declares its flags on the parser and, when its command was given, leaves what
// is to be done in `pending`; main runs it once parsing is over.
// An Error whose param begins with "--" is a wrong use of the command line: exit status 2 instead of 1.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <string_view>

#include "core/result.h"

namespace redoubt {

struct Pending {
  std::function<Status()> action;
};

// Of an unsigned option, which CLI11 lets wrap round.
inline const CLI::Validator kNotNegative(
    [](std::string& text) {
      return text.starts_with('-') ? "expected a whole number from 0 on, found " + text : std::string();
    },
    "");

void add_serve(CLI::App& app, Pending& pending);
void add_run(CLI::App& app, Pending& pending);
void add_tokenize(CLI::App& app, Pending& pending);
void add_detokenize(CLI::App& app, Pending& pending);
void add_render(CLI::App& app, Pending& pending);
void add_logits(CLI::App& app, Pending& pending);
void add_inspect(CLI::App& app, Pending& pending);
void add_convert(CLI::App& app, Pending& pending);
void add_quantize(CLI::App& app, Pending& pending);
void add_synth(CLI::App& app, Pending& pending);
void add_bench(CLI::App& app, Pending& pending);
void add_perplexity(CLI::App& app, Pending& pending);
void add_doctor(CLI::App& app, Pending& pending);
void add_limit(CLI::App& app, Pending& pending);
void add_policy(CLI::App& app, Pending& pending);
void add_key(CLI::App& app, Pending& pending);
void add_user(CLI::App& app, Pending& pending);
void add_team(CLI::App& app, Pending& pending);
void add_tenant(CLI::App& app, Pending& pending);

}  // namespace redoubt

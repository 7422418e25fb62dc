// redoubt run: one answer, or a chat on the terminal.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <memory>

#include "apps/byte_size.h"
#include "apps/chat_session.h"
#include "apps/command.h"
#include "apps/model_flags.h"
#include "apps/private_memory.h"
#include "apps/spoken_answer.h"
#include "apps/terminal.h"
#include "apps/token_list.h"
#include "core/clock.h"

namespace redoubt {
namespace {

struct RunFlags {
  ModelFlags model;
  ChatSettings settings;
  std::string prompt, tokens, cache_bytes, speculation = "auto";
  bool has_prompt = false, has_tokens = false;
  int64_t context = 0, speculation_depth = SpeculationOptions().max_depth;
  bool raw = false, add_bos = false, json = false;
};

Result<std::vector<int32_t>> make_prompt(const RunFlags& flags, const LoadedModel& model) {
  if (flags.has_tokens) return parse_token_list(flags.tokens, model.model->config().vocab_size, "--tokens");
  std::string text = flags.prompt;
  if (!flags.has_prompt) {
    REDOUBT_TRY(text, read_stdin());
  }
  if (flags.raw) {
    std::vector<int32_t> ids = model.tokenizer.encode(MarkedText::all_markup(text));
    if (flags.add_bos && model.tokenizer.bos()) ids.insert(ids.begin(), *model.tokenizer.bos());
    return ids;
  }
  // A pipe's last line end closes the line and is no part of the question; --raw keeps the text as it is.
  if (!flags.has_prompt && text.ends_with('\n')) text.erase(text.ends_with("\r\n") ? text.size() - 2 : text.size() - 1);
  Json messages = Json::array();
  if (!flags.settings.system.empty()) messages.push_back({{"role", "system"}, {"content", flags.settings.system}});
  messages.push_back({{"role", "user"}, {"content", text}});
  return chat_prompt(model, messages);
}

Status answer_once(const RunFlags& flags, LoadedModel& model) {
  REDOUBT_TRY(std::vector<int32_t> prompt, make_prompt(flags, model));
  const Json prompt_ids(prompt);
  const bool plain = flags.raw || flags.has_tokens;
  AnswerText shown;
  // Thinking is for people: dim on a terminal, left out where the answer goes to a file or a program.
  const auto show = [&](std::string_view text, bool reasoning) {
    if (flags.json || (reasoning && !stdout_is_terminal())) return;
    shown.write(text, reasoning);
  };
  const Result<SpokenAnswer> answer =
      speak(model, make_request(model, flags.settings, std::move(prompt)), {.parse_thinking = !plain}, show);
  shown.end();
  if (!answer) return answer.error();
  if (!flags.json) return write_stdout("\n");
  Json result{{"prompt_ids", prompt_ids},
              {"ids", answer->ids},
              {"text", answer->text},
              {"finish_reason", finish_name(answer->finish)}};
  if (!answer->reasoning.empty()) result["reasoning"] = answer->reasoning;
  return write_stdout(dump_json(result) + "\n");
}

Status run(const RunFlags& flags) {
  keep_memory_private();
  if (flags.has_tokens && flags.has_prompt)
    return invalid("--tokens: takes the place of PROMPT; give one of the two", "--tokens");
  const bool plain = flags.raw || flags.has_tokens;
  if (plain && !flags.settings.system.empty())
    return invalid("--system: goes into the chat template, which --raw and --tokens leave out", "--system");
  if (flags.add_bos && (!flags.raw || flags.has_tokens))
    return invalid(
        "--add-bos: goes with --raw and a text; a chat template and --tokens say themselves what is in front",
        "--add-bos");
  const bool chats = !flags.has_prompt && !flags.has_tokens && isatty(STDIN_FILENO) != 0;
  if (chats && (flags.raw || flags.json))
    return invalid("--raw, --json: expected a PROMPT, or text on standard input", "--raw");

  REDOUBT_TRY(const std::filesystem::path path, resolve_model(flags.model.model));
  ModelHostOptions options;
  options.models.push_back({path.stem().string(), path});
  REDOUBT_TRY(options.model, flags.model.options());
  options.engine.max_context = flags.context;
  options.engine.max_sequences = 1;
  REDOUBT_TRY(options.engine.speculation.mode, parse_speculation(flags.speculation));
  options.engine.speculation.max_depth = flags.speculation_depth;
  if (!flags.cache_bytes.empty()) {
    REDOUBT_TRY(options.engine.cache_bytes, parse_bytes(flags.cache_bytes, "--cache-bytes"));
  }
  const SteadyClock clock;
  REDOUBT_TRY(const std::unique_ptr<ModelHost> host, ModelHost::create(std::move(options), clock));
  if (stderr_takes_escapes()) fmt::print(stderr, "\033[2mloading {}\033[0m\r", path.filename().string());
  REDOUBT_TRY(const std::shared_ptr<LoadedModel> model, host->acquire(""));
  if (stderr_takes_escapes()) fmt::print(stderr, "\033[K");
  REDOUBT_CHECK(chats ? chat(*model, flags.settings) : answer_once(flags, *model));
  model->model->wait_until_kept();
  return ok();
}

}  // namespace

void add_run(CLI::App& app, Pending& pending) {
  auto* command = app.add_subcommand("run", "One answer, or a chat on the terminal");
  auto flags = std::make_shared<RunFlags>();
  add_model_flags(*command, flags->model, false);
  auto* prompt = command->add_option("prompt", flags->prompt,
                                     "The question; where absent a chat, or if standard input is no terminal one\n"
                                     "question: all of that input, whatever its lines");
  auto* tokens = command->add_option("--tokens", flags->tokens, "Token ids in place of the prompt: \"1 2 3\"");
  command->add_flag("--raw", flags->raw, "Plain completion: no chat template");
  command->add_flag("--add-bos", flags->add_bos, "With --raw: put the beginning-of-sequence token in front");
  command->add_option("--system", flags->settings.system, "What the model is told first");
  command->add_option("--temp", flags->settings.temperature, "Temperature; 0: always the likeliest token")
      ->check(CLI::Range(0.0, 2.0));
  command->add_option("--top-p", flags->settings.top_p, "Draw from the likeliest tokens that make up this share")
      ->check(CLI::Range(0.0, 1.0));
  command->add_option("--seed", flags->settings.seed, "The same seed gives the same answer")->check(kNotNegative);
  command->add_option("--max-tokens", flags->settings.max_tokens, "At most so many; 0: to the end of the context")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  command->add_option("--thinking", flags->settings.thinking_tokens, "At most so many tokens of thinking")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  command->add_flag("!--no-history", flags->settings.keeps_history,
                    "A chat whose lines are not kept; else the last 1000 are, in chat_history of the data folder");
  command->add_flag("--ignore-eos", flags->settings.ignore_eos, "Go on past the end-of-sequence token");
  command->add_option("--context", flags->context, "Longest prompt and answer; 0: the model's")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  command->add_option("--cache-bytes", flags->cache_bytes,
                      "Memory for the cache, such as 2G; default: half of what is left");
  command->add_option("--cache-type", flags->model.cache_type, "f32, bf16 or q8")->capture_default_str();
  command->add_option("--speculation", flags->speculation, "Drafted tokens: auto, off, ngram or mtp; changes no answer")
      ->capture_default_str();
  command->add_option("--speculation-depth", flags->speculation_depth, "At most so many drafted tokens a step")
      ->check(CLI::Range(int64_t{0}, int64_t{1024}))
      ->capture_default_str();
  command->add_flag("--json", flags->json, "{\"prompt_ids\",\"ids\",\"text\",\"finish_reason\"}");
  command->callback([=, &pending] {
    flags->has_prompt = prompt->count() > 0;
    flags->has_tokens = tokens->count() > 0;
    pending.action = [flags] { return run(*flags); };
  });
}

}  // namespace redoubt

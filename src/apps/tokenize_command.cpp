// redoubt tokenize, redoubt detokenize: words to ids and back, for looking and for scripts.
#include <fmt/format.h>

#include <memory>

#include "apps/command.h"
#include "apps/terminal.h"
#include "apps/token_list.h"
#include "core/json.h"
#include "core/log.h"
#include "core/utf8.h"
#include "text/tokenizer.h"

namespace redoubt {
namespace {

struct TokenizeFlags {
  std::string model, text;
  bool has_text = false;
  bool no_special = false, add_bos = false, jsonl = false, json = false;
};

std::vector<int32_t> encode(const Tokenizer& tokenizer, const TokenizeFlags& flags, std::string text) {
  std::vector<int32_t> ids =
      tokenizer.encode(flags.no_special ? MarkedText::plain(std::move(text)) : MarkedText::all_markup(std::move(text)));
  if (flags.add_bos && tokenizer.bos()) ids.insert(ids.begin(), *tokenizer.bos());
  return ids;
}

Status tokenize(const TokenizeFlags& flags) {
  REDOUBT_TRY(const Tokenizer tokenizer, Tokenizer::open(flags.model));
  if (flags.jsonl) {
    return for_each_stdin_line([&](std::string_view line) -> Status {
      REDOUBT_TRY(const Json text, parse_json(line));
      if (!text.is_string()) return invalid("expected a JSON string");
      return write_stdout(dump_json(Json(encode(tokenizer, flags, text.get<std::string>()))) + "\n");
    });
  }
  std::string text = flags.text;
  if (!flags.has_text) {
    REDOUBT_TRY(text, read_stdin());
  }
  if (!is_valid_utf8(text)) log::warn("the text is not UTF-8 throughout: U+FFFD stands for what is not");
  const std::vector<int32_t> ids = encode(tokenizer, flags, std::move(text));
  return write_stdout((flags.json ? dump_json(Json{{"ids", ids}}) : format_token_list(ids)) + "\n");
}

struct DetokenizeFlags {
  std::string model;
  std::vector<std::string> ids;
  bool jsonl = false, json = false;
};

Status detokenize(const DetokenizeFlags& flags) {
  REDOUBT_TRY(const Tokenizer tokenizer, Tokenizer::open(flags.model));
  const auto decode = [&](std::string_view list) -> Result<std::string> {
    auto ids = parse_token_list(list, tokenizer.vocab_size(), "ID");
    if (ids) return tokenizer.decode(*ids);
    if (flags.ids.empty()) ids.error().param.clear();  // the input is at fault, not the command line
    return std::move(ids).error();
  };
  if (flags.jsonl) {
    return for_each_stdin_line([&](std::string_view line) -> Status {
      REDOUBT_TRY(const std::string text, decode(line));
      return write_stdout(dump_json(Json(text)) + "\n");
    });
  }
  std::string list;
  for (const std::string& id : flags.ids) list += id + " ";
  if (flags.ids.empty()) {
    REDOUBT_TRY(list, read_stdin());
  }
  REDOUBT_TRY(const std::string text, decode(list));
  return write_stdout(flags.json ? dump_json(Json{{"text", text}}) + "\n" : text);
}

}  // namespace

void add_tokenize(CLI::App& app, Pending& pending) {
  auto* command = app.add_subcommand("tokenize", "Token ids of a text, on one line");
  auto flags = std::make_shared<TokenizeFlags>();
  command->add_option("--model", flags->model, "Model, or a folder that holds a tokenizer alone")->required();
  command->add_flag("--no-special", flags->no_special, "Read special tokens in the text as ordinary text");
  command->add_flag("--add-bos", flags->add_bos, "Put the beginning-of-sequence token in front");
  command->add_flag("--jsonl", flags->jsonl,
                    "Standard input: a JSON string a line; output: a JSON array of ids a line");
  command->add_flag("--json", flags->json, "Print {\"ids\": [...]}");
  auto* text = command->add_option("text", flags->text, "The text; standard input where absent");
  command->callback([=, &pending] {
    flags->has_text = text->count() > 0;
    pending.action = [flags] { return tokenize(*flags); };
  });
}

void add_detokenize(CLI::App& app, Pending& pending) {
  auto* command = app.add_subcommand("detokenize", "The text of token ids, exactly; nothing added");
  auto flags = std::make_shared<DetokenizeFlags>();
  command->add_option("--model", flags->model, "Model, or a folder that holds a tokenizer alone")->required();
  command->add_flag("--jsonl", flags->jsonl, "Standard input: an array of ids a line; output: a JSON string a line");
  command->add_flag("--json", flags->json, "Print {\"text\": ...}");
  command->add_option("ids", flags->ids, "Token ids; standard input where absent");
  command->callback([=, &pending] { pending.action = [flags] { return detokenize(*flags); }; });
}

}  // namespace redoubt

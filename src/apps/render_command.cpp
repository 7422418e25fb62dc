// redoubt render: the exact prompt that a chat template makes of a context.
#include <algorithm>
#include <memory>

#include "apps/command.h"
#include "apps/terminal.h"
#include "core/json.h"
#include "core/mapped_file.h"
#include "formats/checkpoint.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace redoubt {
namespace {

struct RenderFlags {
  std::string model, template_file, file;
  bool jsonl = false, json = false;
};

struct Source {
  ChatTemplate chat_template;
  std::map<std::string, std::string> globals;  // bos_token and eos_token of the model
};

Result<Source> open_source(const RenderFlags& flags) {
  if (flags.model.empty() == flags.template_file.empty()) {
    return invalid("render: expected --model or --template, one of the two", "--model");
  }
  if (!flags.template_file.empty()) {
    REDOUBT_TRY(const std::string source, read_text_file(flags.template_file));
    REDOUBT_TRY(ChatTemplate chat_template, ChatTemplate::parse(source));
    return Source{std::move(chat_template), {}};
  }
  REDOUBT_TRY(const Checkpoint checkpoint, Checkpoint::open(flags.model));
  if (checkpoint.chat_template().empty()) return not_found(flags.model + ": the model has no chat template");
  REDOUBT_TRY(const Tokenizer tokenizer, Tokenizer::open(flags.model));
  REDOUBT_TRY(ChatTemplate chat_template, ChatTemplate::parse(checkpoint.chat_template()));
  return Source{std::move(chat_template), {{"bos_token", tokenizer.bos_text()}, {"eos_token", tokenizer.eos_text()}}};
}

Result<std::string> render_one(const Source& source, std::string_view text) {
  REDOUBT_TRY(const Json context, parse_json(text));
  if (!context.is_object()) return invalid("expected a JSON object, the context given to the template");
  // A context that names a global itself keeps it: what is rendered is what the file says.
  std::map<std::string, std::string> globals;
  for (const auto& [name, value] : source.globals) {
    if (!context.contains(name)) globals.emplace(name, value);
  }
  REDOUBT_TRY(MarkedText prompt, render_chat(source.chat_template, context, globals));
  return std::move(prompt.text);
}

Status render(const RenderFlags& flags) {
  REDOUBT_TRY(const Source source, open_source(flags));
  std::string text;
  if (flags.file.empty() || flags.file == "-") {
    REDOUBT_TRY(text, read_stdin());
  } else {
    REDOUBT_TRY(text, read_text_file(flags.file));
  }
  if (!flags.jsonl) {
    REDOUBT_TRY(const std::string prompt, render_one(source, text));
    return write_stdout(flags.json ? dump_json(Json{{"prompt", prompt}}) + "\n" : prompt);
  }
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const Result<std::string> prompt = render_one(source, std::string_view(text).substr(begin, end - begin));
    const Json line = prompt ? Json(*prompt) : Json{{"error", prompt.error().message}};
    REDOUBT_CHECK(write_stdout(dump_json(line) + "\n"));
    begin = end + 1;
  }
  return ok();
}

}  // namespace

void add_render(CLI::App& app, Pending& pending) {
  auto* command =
      app.add_subcommand("render", "The exact prompt that a chat template makes of a context; nothing added");
  auto flags = std::make_shared<RenderFlags>();
  command->add_option("--model", flags->model, "Model whose template is used");
  command->add_option("--template", flags->template_file, "Template file (Jinja)");
  command->add_flag("--jsonl", flags->jsonl, "One context a line in; one JSON string or {\"error\"} a line out");
  command->add_flag("--json", flags->json, "Print {\"prompt\": ...}");
  command->add_option("file", flags->file,
                      "JSON: messages, tools, add_generation_prompt, …; standard input where absent");
  command->callback([=, &pending] { pending.action = [flags] { return render(*flags); }; });
}

}  // namespace redoubt

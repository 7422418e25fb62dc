// redoubt inspect: what a model says of itself.
#include <fmt/format.h>

#include <memory>

#include "apps/command.h"
#include "apps/data_folder.h"
#include "apps/terminal.h"
#include "formats/checkpoint.h"
#include "formats/inspect.h"
#include "model/packed_store.h"

namespace redoubt {
namespace {

struct InspectFlags {
  std::string path;
  bool json = false, tensors = false, show_template = false, verify = false;
};

Status verify(const InspectFlags& flags) {
  ThreadPool pool(ThreadPool::usable_cores());
  REDOUBT_TRY(const std::vector<VerifiedPackedFile> files,
              verify_packed_files(flags.path, data_folder_path("") / "packed", pool));
  Json list = Json::array();
  std::string text;
  for (const auto& [path, chunks] : files) {
    list.push_back({{"path", path.string()}, {"chunks", chunks}});
    text += fmt::format("{}: {} chunks have their hashes\n", path.string(), chunks);
  }
  return write_stdout(flags.json ? dump_json(Json{{"verified", list}}) + "\n" : text);
}

Status inspect_model(const InspectFlags& flags) {
  REDOUBT_TRY(const ModelSummary summary, inspect(flags.path));
  Json description = to_json(summary);
  std::string text = to_text(summary);
  if (flags.tensors || flags.show_template) {
    REDOUBT_TRY(const Checkpoint checkpoint, Checkpoint::open(flags.path));
    if (flags.tensors) {
      Json& list = description["tensor_list"] = Json::array();
      for (const TensorView& tensor : checkpoint.tensors()) {
        const Json shape(tensor.shape);
        list.push_back({{"name", tensor.name},
                        {"type", info(tensor.dtype).name},
                        {"shape", shape},
                        {"bytes", tensor.stored_bytes()}});
        text += fmt::format("{} {} {}\n", tensor.name, info(tensor.dtype).name, dump_json(shape));
      }
    }
    if (flags.show_template) {
      description["template"] = checkpoint.chat_template();
      text += checkpoint.chat_template() + "\n";
    }
  }
  return write_stdout(flags.json ? dump_json(description) + "\n" : text);
}

}  // namespace

void add_inspect(CLI::App& app, Pending& pending) {
  auto* command = app.add_subcommand("inspect", "Architecture, parameters, types, sizes, template, licence of a model");
  auto flags = std::make_shared<InspectFlags>();
  command->add_option("model", flags->path, "A directory of safetensors, a .gguf or a packed file")->required();
  command->add_flag("--json", flags->json, "One JSON object");
  command->add_flag("--tensors", flags->tensors, "List every tensor");
  command->add_flag("--template", flags->show_template, "Show the whole chat template");
  command->add_flag("--verify", flags->verify, "Check every hash of its packed weights; P may be the packed file");
  command->callback(
      [=, &pending] { pending.action = [flags] { return flags->verify ? verify(*flags) : inspect_model(*flags); }; });
}

}  // namespace redoubt

// redoubt inspect: what a model says of itself.
#include <fmt/format.h>

#include <memory>

#include "apps/command.h"
#include "apps/data_folder.h"
#include "apps/terminal.h"
#include "formats/checkpoint.h"
#include "formats/inspect.h"
#include "formats/packed_file.h"
#include "model/packed_store.h"

namespace redoubt {
namespace {

struct InspectFlags {
  std::string path;
  bool json = false, tensors = false, show_template = false, verify = false;
};

Result<bool> is_packed_file(const std::filesystem::path& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return false;
  return PackedFile::is_one(path);
}

// The packed file itself, or those that belong to a model.
Status verify(const InspectFlags& flags) {
  std::vector<std::filesystem::path> files;
  REDOUBT_TRY(const bool is_packed, is_packed_file(flags.path));
  if (is_packed) {
    files.emplace_back(flags.path);
  } else {
    for (const auto& place : packed_file_places(flags.path, data_folder_path("") / "packed")) {
      std::error_code error;
      if (std::filesystem::exists(place, error)) files.push_back(place);
    }
  }
  if (files.empty()) return not_found(flags.path + ": no packed weights are kept for it");
  ThreadPool pool(ThreadPool::usable_cores());
  Json list = Json::array();
  std::string text;
  for (const auto& file : files) {
    REDOUBT_TRY(const int64_t chunks, verify_packed_file(file, &pool));
    list.push_back({{"path", file.string()}, {"chunks", chunks}});
    text += fmt::format("{}: {} chunks have their hashes\n", file.string(), chunks);
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

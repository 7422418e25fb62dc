// redoubt convert, quantize, synth: models from models, and from nothing but a configuration.
#include <fmt/format.h>

#include <memory>

#include "apps/command.h"
#include "apps/stop_request.h"
#include "apps/terminal.h"
#include "core/json.h"
#include "core/thread_pool.h"
#include "formats/convert.h"
#include "formats/quantize.h"
#include "formats/synth.h"

namespace redoubt {
namespace {

struct ConvertFlags {
  std::string in, out, type, to;
  uint64_t seed = 1;
  int threads = 0;
  bool json = false;
};

// A bar that is made once the total is known.
class ByteProgress {
 public:
  explicit ByteProgress(std::string label) : label_(std::move(label)) {}
  void operator()(int64_t done, int64_t total) {
    if (!progress_) progress_ = std::make_shared<Progress>(label_, total);
    progress_->set(done);
  }

 private:
  std::string label_;
  std::shared_ptr<Progress> progress_;
};

Result<std::optional<DType>> parse_type(const std::string& name) {
  if (name.empty()) return std::optional<DType>();
  if (const auto type = dtype_from_name(name)) return std::optional<DType>(type);
  if (name == "fp8") return std::optional<DType>(DType::f8_e4m3);
  return invalid("--type: no type is named " + name, "--type");
}

std::optional<Container> parse_container(const std::string& name) {
  if (name.empty()) return std::nullopt;
  return name == "packed" ? Container::packed : name == "gguf" ? Container::gguf : Container::safetensors;
}

Status report(const ConvertFlags& flags, const StopRequest& stop, const Result<ConvertReport>& result) {
  if (!result && result.error().code == ErrorCode::cancelled) return stop.error(flags.out);
  if (!result) return result.error();
  if (flags.json) {
    return write_stdout(dump_json(Json{{"out", flags.out},
                                       {"tensors", result->tensors},
                                       {"bytes_in", result->bytes_in},
                                       {"bytes_out", result->bytes_out},
                                       {"notes", result->notes}}) +
                        "\n");
  }
  std::string text = fmt::format("{}: {} tensors, {}\n", flags.out, result->tensors, human_bytes(result->bytes_out));
  for (const std::string& note : result->notes) text += "note: " + note + "\n";
  return write_stdout(text);
}

int thread_count(const ConvertFlags& flags) { return flags.threads > 0 ? flags.threads : ThreadPool::usable_cores(); }

Status run_convert(const ConvertFlags& flags) {
  REDOUBT_TRY(const std::optional<DType> type, parse_type(flags.type));
  const StopRequest stop;  // before any thread is made
  ThreadPool pool(thread_count(flags));
  return report(flags, stop,
                convert(flags.in, flags.out,
                        {.to = parse_container(flags.to),
                         .type = type,
                         .pool = &pool,
                         .progress = ByteProgress("convert"),
                         .stop = stop.flag()}));
}

Status run_quantize(const ConvertFlags& flags) {
  REDOUBT_TRY(const std::optional<DType> type, parse_type(flags.type));
  const StopRequest stop;  // before any thread is made
  ThreadPool pool(thread_count(flags));
  return report(flags, stop,
                quantize(flags.in, flags.out,
                         {.type = *type, .pool = &pool, .progress = ByteProgress("quantize"), .stop = stop.flag()}));
}

Status run_synth(const ConvertFlags& flags) {
  REDOUBT_TRY(const std::optional<DType> type, parse_type(flags.type));
  const StopRequest stop;  // before any thread is made
  ThreadPool pool(thread_count(flags));
  return report(
      flags, stop,
      synthesize(
          flags.in, flags.out,
          {.type = type, .seed = flags.seed, .pool = &pool, .progress = ByteProgress("synth"), .stop = stop.flag()}));
}

void add_shared_flags(CLI::App& command, ConvertFlags& flags) {
  command.add_option("--threads", flags.threads, "Threads; 0: the cores this process may use")
      ->check(CLI::Range(0, 1024));
  command.add_flag("--json", flags.json, "One JSON object");
}

}  // namespace

void add_convert(CLI::App& app, Pending& pending) {
  auto* command =
      app.add_subcommand("convert", "Between safetensors, GGUF and packed files, all ways, and among the types");
  auto flags = std::make_shared<ConvertFlags>();
  command->add_option("in", flags->in, "A directory of safetensors, a .gguf or a packed file")->required();
  command->add_option("out", flags->out, "A directory to make, a .gguf or a .redoubt-packed file")->required();
  command
      ->add_option("--to", flags->to,
                   "safetensors (a directory), gguf, or packed: one file that is mapped at once, with all that the "
                   "model needs; as OUT's name says where absent")
      ->check(CLI::IsMember({"safetensors", "gguf", "packed"}));
  command->add_option("--type", flags->type,
                      "Type of the matrices, such as bf16 (lossy for f32); as stored where absent");
  add_shared_flags(*command, *flags);
  command->callback([=, &pending] { pending.action = [flags] { return run_convert(*flags); }; });
}

void add_quantize(CLI::App& app, Pending& pending) {
  auto* command = app.add_subcommand("quantize", "A model in fewer bits");
  auto flags = std::make_shared<ConvertFlags>();
  command->add_option("in", flags->in, "A directory of safetensors, or a .gguf file")->required();
  command->add_option("out", flags->out, "A directory to make, or a .gguf file")->required();
  command->add_option("--type", flags->type, "bf16, fp8, q8_0, q4_0, q4_k or q6_k")->required();
  add_shared_flags(*command, *flags);
  command->callback([=, &pending] { pending.action = [flags] { return run_quantize(*flags); }; });
}

void add_synth(CLI::App& app, Pending& pending) {
  auto* command = app.add_subcommand("synth", "A random model of any shape, for measurement");
  auto flags = std::make_shared<ConvertFlags>();
  command->add_option("--config", flags->in, "config.json that gives the shape")->required();
  command->add_option("out", flags->out, "A directory to make, or a .gguf file")->required();
  command->add_option("--type", flags->type, "Type of the matrices; bf16 where absent");
  command->add_option("--seed", flags->seed, "The same seed gives the same model")
      ->check(kNotNegative)
      ->capture_default_str();
  add_shared_flags(*command, *flags);
  command->callback([=, &pending] { pending.action = [flags] { return run_synth(*flags); }; });
}

}  // namespace redoubt

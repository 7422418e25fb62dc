#include "apps/model_flags.h"

#include <fmt/format.h>

#include <cstdlib>

#include "apps/data_folder.h"
#include "apps/terminal.h"
#include "engine/memory_room.h"

namespace redoubt {
namespace {

Result<CacheType> parse_cache_type(const std::string& name) {
  if (name == "f32") return CacheType::f32;
  if (name == "bf16") return CacheType::bf16;
  if (name == "q8") return CacheType::q8;
  return invalid("--cache-type: expected f32, bf16 or q8, found " + name, "--cache-type");
}

Result<PackedMode> parse_packed(const std::string& name) {
  if (name == "auto") return PackedMode::automatic;
  if (name == "only-memory") return PackedMode::only_memory;
  if (name == "off") return PackedMode::off;
  return invalid("--packed: expected auto, only-memory or off, found " + name, "--packed");
}

// One bar for each load: a count that falls begins the next.
class PackProgress {
 public:
  void operator()(int64_t done, int64_t total) {
    if (progress_ == nullptr || done < last_) progress_ = std::make_shared<Progress>("packing weights", total);
    progress_->set(done);
    last_ = done;
  }

 private:
  std::shared_ptr<Progress> progress_;
  int64_t last_ = 0;
};

// A model that cannot fit is refused before hours of swapping, with what would help.
Status check_memory(const Checkpoint& checkpoint) {
  const int64_t needed = checkpoint.weights_bytes(), available = available_memory_bytes();
  if (available <= 0 || needed <= available) return ok();
  return io_error(
      fmt::format("{}: weights need {}, {} are available; free memory, or quantise: redoubt quantize {} OUT "
                  "--type q4_k",
                  checkpoint.path().string(), human_bytes(needed), human_bytes(available), checkpoint.path().string()));
}

}  // namespace

Result<Speculation> parse_speculation(const std::string& name) {
  if (name == "auto") return Speculation::automatic;
  if (name == "off") return Speculation::off;
  if (name == "ngram") return Speculation::ngram;
  if (name == "mtp") return Speculation::mtp;
  return invalid("--speculation: expected auto, off, ngram or mtp, found " + name, "--speculation");
}

CLI::IsMember kernel_names() {
  return CLI::IsMember({"reference", "avx2", "avx512", "avx512_bf16", "amx", "neon", "auto"});
}

void add_model_flags(CLI::App& command, ModelFlags& flags, bool model_required) {
  auto* model = command.add_option("--model", flags.model, "A directory of safetensors, a .gguf or a packed file");
  if (model_required) model->required();
  command.add_option("--kernels", flags.kernels, kKernelNames)->check(kernel_names())->capture_default_str();
  command.add_option("--packed", flags.packed, "Weights packed for the CPU: auto (kept in a file), only-memory or off")
      ->check(CLI::IsMember({"auto", "only-memory", "off"}))
      ->capture_default_str();
  command.add_option("--threads", flags.threads, "Threads that compute; 0: the cores this process may use")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
}

Result<ModelOptions> ModelFlags::options() const {
  ModelOptions options;
  options.kernels = kernels;
  options.threads = threads;
  REDOUBT_TRY(options.cache_type, parse_cache_type(cache_type));
  REDOUBT_TRY(options.packed.mode, parse_packed(packed));
  options.packed.folder = data_folder_path(data) / "packed";
  options.progress = PackProgress();
  return options;
}

Result<std::filesystem::path> resolve_model(const std::string& given) {
  if (!given.empty()) {
    if (!std::filesystem::exists(given)) return not_found(given + ": no such file or directory");
    return std::filesystem::path(given);
  }
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const std::filesystem::path folder =
      cache != nullptr && *cache != 0 ? std::filesystem::path(cache) : home_folder() / ".cache";
  const auto path = folder / "redoubt/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (std::filesystem::exists(path)) return path;
  return invalid("--model: name one; there is no small model in " + path.parent_path().string() +
                     " (scripts/fetch_model fetches it)",
                 "--model");
}

Result<OpenModel> open_model(const ModelFlags& flags, const StepLimits& limits) {
  REDOUBT_TRY(const std::filesystem::path path, resolve_model(flags.model));
  REDOUBT_TRY(ModelOptions options, flags.options());
  options.limits = limits;
  REDOUBT_TRY(Checkpoint checkpoint, Checkpoint::open(path));
  REDOUBT_CHECK(check_memory(checkpoint));
  auto owned = std::make_unique<Checkpoint>(std::move(checkpoint));
  REDOUBT_TRY(std::unique_ptr<Model> model, Model::load(*owned, options));
  return OpenModel{std::move(owned), std::move(model)};
}

}  // namespace redoubt

#include "formats/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/json.h"
#include "formats/chunk_hash.h"
#include "formats/gguf.h"
#include "formats/gguf_config.h"
#include "formats/quantized_matrix.h"
#include "formats/tensor_table.h"

namespace redoubt {

namespace fs = std::filesystem;

struct Checkpoint::State {
  fs::path path;
  ModelConfig config;
  GenerationConfig generation;
  QuantizationConfig quantization;
  std::vector<MappedFile> mapped;  // safetensors
  std::unique_ptr<GgufFile> gguf;
  TensorTable table;
  std::string chat_template;
};

namespace {

constexpr size_t kMaxConfigBytes = 256 << 10;  // published ones take a few thousand bytes

Result<Json> read_json(const fs::path& path) {
  REDOUBT_TRY(const std::string text, read_text_file(path, kMaxConfigBytes));
  Result<Json> json = parse_json(text, {.max_bytes = kMaxConfigBytes});
  if (!json) return corrupt(fmt::format("{}: {}", path.string(), json.error().message));
  return json;
}

template <class T>
Result<T> within(const fs::path& where, Result<T> result) {
  if (!result) return std::move(result).error().within(where.string());
  return result;
}

std::string directory_name(const fs::path& path) {
  std::error_code error;
  const fs::path whole = fs::weakly_canonical(path, error);
  return (error ? path : whole).filename().string();
}

}  // namespace

int64_t TensorView::stored_bytes() const {
  return source != nullptr ? source->stored_bytes() : static_cast<int64_t>(data.size());
}

Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Result<Checkpoint> Checkpoint::open(const fs::path& path) {
  auto state = std::make_unique<State>();
  state->path = path;
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    REDOUBT_TRY(GgufFile file, GgufFile::open(path));
    state->gguf = std::make_unique<GgufFile>(std::move(file));
    const GgufFile& gguf = *state->gguf;
    if (gguf.tensors().empty()) return invalid(fmt::format("{}: expected a model, found no tensors", path.string()));
    REDOUBT_TRY(state->config, model_config_from_gguf(gguf));
    REDOUBT_TRY(state->generation, generation_config_from_gguf(gguf));
    REDOUBT_CHECK(within(path, load_gguf(gguf, state->config, state->table)));
    if (state->config.name.empty()) state->config.name = path.stem().string();
    state->chat_template = gguf.string("tokenizer.chat_template").value_or("");
    return Checkpoint(std::move(state));
  }

  const fs::path config_path = path / "config.json", generation_path = path / "generation_config.json";
  REDOUBT_TRY(const Json config, read_json(config_path));
  REDOUBT_TRY(state->config, within(config_path, parse_model_config(config)));
  REDOUBT_TRY(state->quantization, within(config_path, parse_quantization_config(config)));
  state->config.name = directory_name(path);
  if (fs::exists(generation_path, error)) {
    REDOUBT_TRY(const Json generation, read_json(generation_path));
    REDOUBT_TRY(state->generation, within(generation_path, parse_generation_config(generation)));
  }
  if (state->generation.eos_token_ids.empty()) {  // config.json names the end of sequence too
    REDOUBT_TRY(const GenerationConfig fallback, within(config_path, parse_generation_config(config)));
    state->generation.eos_token_ids = fallback.eos_token_ids;
  }
  REDOUBT_CHECK(within(path, load_safetensors(path, state->table, state->mapped)));
  REDOUBT_CHECK(within(path, adopt_quantized(state->quantization, state->table)));
  REDOUBT_TRY(state->chat_template, read_chat_template(path));
  return Checkpoint(std::move(state));
}

const fs::path& Checkpoint::path() const { return state_->path; }
const ModelConfig& Checkpoint::config() const { return state_->config; }
const GenerationConfig& Checkpoint::generation() const { return state_->generation; }
const QuantizationConfig& Checkpoint::quantization() const { return state_->quantization; }
const GgufFile* Checkpoint::gguf() const { return state_->gguf.get(); }
std::string Checkpoint::chat_template() const { return state_->chat_template; }
const TensorView* Checkpoint::find(std::string_view name) const { return state_->table.find(name); }
std::span<const TensorView> Checkpoint::tensors() const { return state_->table.tensors; }
int64_t Checkpoint::weights_bytes() const { return state_->table.weights_bytes; }

SourceKey Checkpoint::source_key() const {
  const std::span<const MappedFile> files =
      state_->gguf != nullptr ? state_->gguf->mapped_files() : std::span<const MappedFile>(state_->mapped);
  SourceKey key;
  std::vector<uint64_t> parts;
  for (const MappedFile& file : files) {
    const std::byte* begin = file.bytes().data();
    const std::byte* end = begin + file.bytes().size();
    const std::byte* first = end;
    for (const TensorView& tensor : tensors()) {
      if (tensor.data.data() >= begin && tensor.data.data() < first) first = tensor.data.data();
    }
    key.bytes += static_cast<int64_t>(file.bytes().size());
    key.modified_ns = std::max(key.modified_ns, file.modified_ns());
    parts.insert(parts.end(), {file.bytes().size(), static_cast<uint64_t>(file.modified_ns()),
                               chunk_hash({begin, static_cast<size_t>(first - begin)})});
  }
  key.header_hash = chunk_hash(std::as_bytes(std::span(parts)));
  return key;
}

}  // namespace redoubt

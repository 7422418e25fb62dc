#include "formats/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/json.h"
#include "core/mapped_file.h"
#include "formats/chunk_hash.h"
#include "formats/gguf.h"
#include "formats/gguf_config.h"
#include "formats/gguf_names.h"
#include "formats/packed_file.h"
#include "formats/quantized_matrix.h"
#include "formats/shown.h"
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
  std::shared_ptr<const PackedFile> packed;
  SideFiles files;
  TensorTable table;
  std::string chat_template;

  Status read_gguf();    // what `gguf` says of the model
  Status read_files();   // what `files` say of it
  Status open_packed();  // all of it
};

namespace {

constexpr size_t kMaxConfigBytes = 256 << 10;  // published ones take a few thousand bytes

Result<Json> read_json(const SideFiles& files, std::string_view name) {
  REDOUBT_TRY(const std::string text, files.read(name, kMaxConfigBytes));
  Result<Json> json = parse_json(text, {.max_bytes = kMaxConfigBytes});
  if (!json) return corrupt(fmt::format("{}: {}", files.where(name), json.error().message));
  return json;
}

template <class T>
Result<T> within(const std::string& where, Result<T> result) {
  if (!result) return std::move(result).error().within(where);
  return result;
}

// Null where a packed file has yet to be read for it.
const std::byte* first_byte(const TensorView& tensor) {
  if (!tensor.data.empty()) return tensor.data.data();
  return tensor.source == nullptr || tensor.source->parts.empty() ? nullptr : tensor.source->parts.front().data();
}

bool holds(std::span<const std::byte> bytes, const std::byte* data) {
  return !bytes.empty() && data >= bytes.data() && data < bytes.data() + bytes.size();
}

// Of a directory, or of a packed file without its ending.
std::string name_of(const fs::path& path) {
  std::error_code error;
  const fs::path whole = fs::weakly_canonical(path, error), name = (error ? path : whole).filename();
  return (name.extension() == kPackedExtension ? name.stem() : name).string();
}

}  // namespace

int64_t TensorView::stored_bytes() const {
  return source != nullptr ? source->stored_bytes() : static_cast<int64_t>(data.size());
}

void TensorView::release_pages() const {
  redoubt::release_pages(data);
  if (source == nullptr) return;
  for (const std::span<const std::byte> part : source->parts) redoubt::release_pages(part);
}

Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Status Checkpoint::State::read_gguf() {
  if (gguf->tensors().empty()) return invalid(fmt::format("{}: expected a model, found no tensors", path.string()));
  REDOUBT_TRY(config, model_config_from_gguf(*gguf));
  REDOUBT_TRY(generation, generation_config_from_gguf(*gguf));
  chat_template = gguf->string("tokenizer.chat_template").value_or("");
  if (config.name.empty()) config.name = path.stem().string();
  return ok();
}

Status Checkpoint::State::read_files() {
  constexpr std::string_view kConfig = "config.json", kGeneration = "generation_config.json";
  REDOUBT_TRY(const Json json, read_json(files, kConfig));
  REDOUBT_TRY(config, within(files.where(kConfig), parse_model_config(json)));
  REDOUBT_TRY(quantization, within(files.where(kConfig), parse_quantization_config(json)));
  config.name = name_of(path);
  if (files.has(kGeneration)) {
    REDOUBT_TRY(const Json defaults, read_json(files, kGeneration));
    REDOUBT_TRY(generation, within(files.where(kGeneration), parse_generation_config(defaults)));
  }
  if (generation.eos_token_ids.empty()) {  // config.json names the end of sequence too
    REDOUBT_TRY(const GenerationConfig fallback, within(files.where(kConfig), parse_generation_config(json)));
    generation.eos_token_ids = fallback.eos_token_ids;
  }
  REDOUBT_TRY(chat_template, read_chat_template(files));
  return ok();
}

// Everything is in the file: what a GGUF model says of itself as that file's head, or the files of a directory.
Status Checkpoint::State::open_packed() {
  REDOUBT_TRY(packed, PackedFile::open(path));
  if (packed->index().kind != PackedKind::whole) {
    return invalid(
        fmt::format("{}: holds the packed weights of the model beside it: expected that model's name", path.string()));
  }
  files = SideFiles::in_packed(packed);
  if (const PackedFileTensor* head = packed->find(PackedForm::file, kPackedGgufHead)) {
    REDOUBT_CHECK(packed->verify(*head));
    REDOUBT_TRY(GgufFile file, GgufFile::parse_head(packed->bytes_of(*head), files.where(kPackedGgufHead)));
    gguf = std::make_unique<GgufFile>(std::move(file));
    // The only tensor that says something of the model.
    if (const GgufTensor* divisors = gguf->find("rope_freqs.weight")) {
      const PackedFileTensor* stored = packed->find(PackedForm::stored, divisors->name);
      if (stored == nullptr) return corrupt(fmt::format("{}: expected {}, found none", path.string(), divisors->name));
      REDOUBT_CHECK(packed->verify(*stored));
      REDOUBT_CHECK(gguf->attach(divisors->name, packed->bytes_of(*stored)));
    }
    REDOUBT_CHECK(read_gguf());
  } else {
    REDOUBT_CHECK(read_files());
  }
  return within(path.string(), load_packed(packed, table));
}

Result<Checkpoint> Checkpoint::open(const fs::path& path) {
  auto state = std::make_unique<State>();
  state->path = path;
  std::error_code error;
  if (fs::is_directory(path, error)) {
    state->files = SideFiles::in_directory(path);
    REDOUBT_CHECK(state->read_files());
    REDOUBT_CHECK(within(path.string(), load_safetensors(path, state->table, state->mapped)));
    REDOUBT_CHECK(within(path.string(), adopt_quantized(state->quantization, state->table)));
    return Checkpoint(std::move(state));
  }
  REDOUBT_TRY(const bool is_packed, PackedFile::is_one(path));
  if (is_packed) {
    REDOUBT_CHECK(state->open_packed());
    return Checkpoint(std::move(state));
  }
  REDOUBT_TRY(GgufFile file, GgufFile::open(path));
  state->gguf = std::make_unique<GgufFile>(std::move(file));
  REDOUBT_CHECK(state->read_gguf());
  REDOUBT_CHECK(within(path.string(), load_gguf(*state->gguf, state->config, state->table)));
  return Checkpoint(std::move(state));
}

const fs::path& Checkpoint::path() const { return state_->path; }
const ModelConfig& Checkpoint::config() const { return state_->config; }
const GenerationConfig& Checkpoint::generation() const { return state_->generation; }
const QuantizationConfig& Checkpoint::quantization() const { return state_->quantization; }
const GgufFile* Checkpoint::gguf() const { return state_->gguf.get(); }
const SideFiles& Checkpoint::files() const { return state_->files; }
std::shared_ptr<const PackedFile> Checkpoint::packed_file() const { return state_->packed; }
std::string Checkpoint::chat_template() const { return state_->chat_template; }
const TensorView* Checkpoint::find(std::string_view name) const { return state_->table.find(name); }
std::span<const TensorView> Checkpoint::tensors() const { return state_->table.tensors; }
std::string Checkpoint::place_of(std::string_view name) const {
  const TensorView* tensor = find(name);
  const GgufFile* file = state_->gguf.get();
  std::string path = state_->path.string(), own(name);
  if (tensor == nullptr && file != nullptr) own = stored_gguf_name(name);
  if (tensor != nullptr && tensor->packed != nullptr) own = tensor->packed->name;
  const std::byte* data = tensor == nullptr ? nullptr : first_byte(*tensor);
  if (data == nullptr) return fmt::format("{}: tensor {}", path, shown(own));
  for (const MappedFile& mapped : file != nullptr ? file->mapped_files() : std::span<const MappedFile>(state_->mapped))
    if (holds(mapped.bytes(), data)) path = mapped.path().string();
  if (file != nullptr) {
    for (const GgufTensor& stored : file->tensors()) {
      if (!holds(stored.data, data)) continue;
      const bool is_part = stored.data.size() > tensor->data.size();
      return fmt::format("{}: tensor {}{}", path, shown(stored.name), is_part ? fmt::format(" ({})", shown(name)) : "");
    }
  }
  return fmt::format("{}: tensor {}", path, shown(own));
}
int64_t Checkpoint::weights_bytes() const { return state_->table.weights_bytes; }

Status Checkpoint::verify(const TensorView& tensor, ThreadPool* pool) const {
  if (tensor.packed == nullptr) return ok();
  const auto* columns = state_->packed->find(PackedForm::columns, tensor.packed->name);
  if (columns != nullptr) REDOUBT_CHECK(state_->packed->verify(*columns));
  return state_->packed->verify(*tensor.packed, pool);
}

SourceKey Checkpoint::source_key() const {
  if (state_->packed != nullptr) return state_->packed->index().source;
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

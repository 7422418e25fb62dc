#include "model/packed_store.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <optional>

#include "core/log.h"
#include "core/mapped_file.h"
#include "formats/chunk_hash.h"
#include "formats/packing.h"

namespace redoubt {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kPackBytes = int64_t{1} << 20;  // packed by one thread at a time

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

int64_t bytes_in_memory(DType dtype, int64_t rows, int64_t cols) {
  return round_up(packed_groups(rows) * packed_group_bytes(dtype, cols), 64);
}

// Rows of blocks are made of them at load, and are gone once packed: a damaged chunk could not be packed again.
bool has_foreign_matrices(const Checkpoint& checkpoint) {
  return std::ranges::any_of(checkpoint.tensors(), [](const TensorView& t) { return t.source != nullptr; });
}

}  // namespace

std::vector<fs::path> packed_file_places(const fs::path& model, const fs::path& folder) {
  std::error_code error;
  const fs::path whole = fs::weakly_canonical(model, error);
  std::vector<fs::path> places{kept_packed_path(model)};
  if (!folder.empty()) {
    const std::string text = whole.string();
    const uint64_t hash = chunk_hash(std::as_bytes(std::span(text)));
    places.push_back(folder / fmt::format("{}-{:016x}{}", whole.filename().string(), hash, kPackedExtension));
  }
  return places;
}

namespace {

// The model that a kept file lies beside or in, if it is there.
std::optional<fs::path> model_beside(const fs::path& kept) {
  const fs::path folder = kept.has_parent_path() ? kept.parent_path() : ".";
  for (const fs::path& model : {folder / kept.stem(), folder}) {
    std::error_code error;
    const bool is_there = model == folder ? fs::exists(folder / "config.json", error) : fs::exists(model, error);
    if (is_there && kept_packed_path(model).filename() == kept.filename()) return model;
  }
  return std::nullopt;
}

Result<VerifiedPackedFile> verify_one(const fs::path& path, const std::optional<SourceKey>& key, ThreadPool& pool) {
  REDOUBT_TRY(const std::shared_ptr<const PackedFile> file, PackedFile::open(path));
  if (key && file->index().kind == PackedKind::kept && file->index().source != *key)
    return invalid(path.string() + ": was made from another version of the model");
  REDOUBT_TRY(const int64_t chunks, verify_packed_file(path, &pool));
  return VerifiedPackedFile{path, chunks};
}

}  // namespace

Result<std::vector<VerifiedPackedFile>> verify_packed_files(const fs::path& path, const fs::path& folder,
                                                            ThreadPool& pool) {
  std::error_code error;
  bool is_packed = false;
  if (!fs::is_directory(path, error)) {
    REDOUBT_TRY(is_packed, PackedFile::is_one(path));
  }
  const bool is_kept = is_packed && !is_whole_packed_file(path);
  const std::optional<fs::path> model = is_kept ? model_beside(path) : is_packed ? std::nullopt : std::optional(path);
  std::optional<SourceKey> key;
  if (model) {
    REDOUBT_TRY(const Checkpoint checkpoint, Checkpoint::open(*model));
    key = checkpoint.source_key();
  }
  std::vector<VerifiedPackedFile> verified;
  for (const fs::path& place : is_packed ? std::vector{path} : packed_file_places(path, folder)) {
    if (!fs::exists(place, error)) continue;
    REDOUBT_TRY(VerifiedPackedFile one, verify_one(place, key, pool));
    verified.push_back(std::move(one));
  }
  if (verified.empty()) return not_found(path.string() + ": no packed weights are kept for it");
  return verified;
}

PackedStore::~PackedStore() {
  if (kept_ != nullptr) kept_->stop();  // from here on nobody hands parts to the writer
  writer_.reset();                      // it reads the memory and the map
  release();
}

void PackedStore::release() {
  if (data_ != nullptr) ::munmap(data_, static_cast<size_t>(round_up(capacity_, kHugePage)));
  data_ = nullptr;
}

Status PackedStore::reserve(int64_t bytes) {
  if (bytes == 0) return ok();
  const auto mapped = static_cast<size_t>(round_up(bytes, kHugePage));
  void* address = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) {
    return io_error(
        fmt::format("cannot reserve {} bytes of address space for packed weights; is it limited (ulimit -v)?", mapped));
  }
  capacity_ = bytes;
  data_ = static_cast<std::byte*>(address);
  ::madvise(data_, mapped, MADV_HUGEPAGE);
  return ok();
}

Status PackedStore::open(const Checkpoint& checkpoint, const PackedKernels& kernels, const PackedOptions& options,
                         std::function<void(int64_t done, int64_t total)> progress) {
  options_ = options;
  progress_ = std::move(progress);
  total_ = checkpoint.weights_bytes();
  const std::vector<fs::path> places = packed_file_places(checkpoint.path(), options.folder);
  for (const fs::path& place : places) NewFile::remove_left_over(place);
  bool is_new = false;                               // to be kept, and nothing is yet
  if (const auto file = checkpoint.packed_file()) {  // nothing else is kept of a model that is packed already
    is_whole_ = true;
    kept_ = std::make_unique<KeptPacked>(file);
  } else if (options.mode == PackedMode::automatic && has_foreign_matrices(checkpoint)) {
    log::warn(
        "the packed weights are not kept: {} has another program's layout ({}) and is packed at every load; "
        "redoubt convert {} NAME{} packs it once",
        checkpoint.path().string(), to_string(checkpoint.quantization()), checkpoint.path().string(), kPackedExtension);
  } else if (options.mode == PackedMode::automatic && total_ >= options.least_bytes) {
    places_ = places;
    std::erase_if(places_, [](const fs::path& place) {
      const bool is_whole = is_whole_packed_file(place);
      if (is_whole) log::warn("{}: is a model of its own: nothing is kept here", place.string());
      return is_whole;
    });
    source_ = checkpoint.source_key();
    open_kept();
    is_new = kept_ == nullptr;
  }
  const int64_t bytes = bytes_to_pack(checkpoint, kernels);
  if (is_new && bytes == 0) {
    places_.clear();
    log::warn("the packed weights are not kept: no type of {} has a packed form here", checkpoint.path().string());
  } else if (is_new) {
    start_writing();
  }
  return reserve(bytes);
}

// Of every matrix that the kernels take and the kept file has not. Embeddings are packed where they are the head too;
// those that MTP modules bring along, with a head, are copies that nobody loads.
int64_t PackedStore::bytes_to_pack(const Checkpoint& checkpoint, const PackedKernels& kernels) const {
  const std::string_view head =
      checkpoint.find("lm_head.weight") != nullptr ? "lm_head.weight" : "model.embed_tokens.weight";
  int64_t bytes = 0;
  for (const TensorView& tensor : checkpoint.tensors()) {
    if (tensor.shape.size() < 2 || tensor.elements() == 0) continue;
    const bool is_table = tensor.name.ends_with("embed_tokens.weight") || tensor.name.ends_with(".head.weight");
    if (is_table && tensor.name != head) continue;
    const int64_t cols = tensor.shape.back(), rows = tensor.elements() / cols;
    if (packed_input(kernels, tensor.dtype) == PackedInput::none || !can_pack(tensor.dtype, cols)) continue;
    if (kept_ != nullptr && kept_->has(std::string(tensor.name), tensor.dtype, rows, cols)) continue;
    bytes += bytes_in_memory(tensor.dtype, rows, cols);
  }
  return bytes;
}

void PackedStore::open_kept() {
  for (const fs::path& place : places_) {
    Result<std::unique_ptr<KeptPacked>> kept = KeptPacked::open(place, source_);
    if (kept.has_value()) {
      kept_ = std::move(kept).value();
      return;
    }
    const Error& error = kept.error();
    if (error.code == ErrorCode::corrupt_data) log::warn("{}; the model is packed again", error.message);
    if (error.code == ErrorCode::invalid_argument) log::info("{} and is made again", error.message);
  }
}

void PackedStore::start_writing() {
  std::string reasons;
  for (const fs::path& place : places_) {
    std::error_code error;
    if (place.parent_path() == options_.folder) fs::create_directories(options_.folder, error);
    Result<std::unique_ptr<PackedWriter>> writer = PackedWriter::create(place, source_, total_ + total_ / 64);
    if (writer.has_value()) {
      writer_ = std::move(writer).value();
      return;
    }
    reasons += (reasons.empty() ? "" : "; ") + writer.error().message;
    if (writer.error().code == ErrorCode::overloaded) break;
  }
  if (!places_.empty()) log::warn("the packed weights are not kept: {}", reasons);
}

void PackedStore::add(const PackedKernels& kernels, const std::string& name, Weight& weight) {
  const WeightMatrix& m = weight.matrix;
  const auto dtype = static_cast<DType>(m.dtype);
  const PackedInput input = packed_input(kernels, dtype);
  if (input == PackedInput::none || !can_pack(dtype, m.cols)) return;
  PackedPart part{.name = name, .dtype = dtype, .rows = m.rows, .cols = m.cols};
  const int64_t group_bytes = packed_group_bytes(dtype, m.cols);
  const bool keeps = !name.empty();
  const KeptPacked::Bound bound = kept_ != nullptr && keeps ? kept_->bind(name, m) : KeptPacked::Bound{};
  if (bound.data != nullptr) {
    part.data = bound.data;
    weight.first_use = bound.first_use;
  } else {
    const int64_t bytes = bytes_in_memory(dtype, m.rows, m.cols);
    if (used_ + bytes > capacity_) return;  // stays as stored
    part.data = data_ + used_;
    pack(part, m, data_ + used_);
    used_ += bytes;
    if (keeps) keepable_ += bytes;
    if (writer_ != nullptr && keeps) writer_->add(part);
  }
  if (keeps) parts_.push_back(part);
  weight.input = input;
  weight.packed = {.data = reinterpret_cast<const unsigned char*>(part.data),
                   .rows = m.rows,
                   .cols = m.cols,
                   .group_bytes = group_bytes,
                   .type = packed_type(dtype),
                   .scales = m.scales,
                   .scale_cols = m.scale_cols};
}

// Each thread gives back the pages of the source that it has read.
void PackedStore::pack(const PackedPart& part, const WeightMatrix& from, std::byte* to) {
  const auto* source = reinterpret_cast<const std::byte*>(from.data);
  const int64_t group_bytes = packed_group_bytes(part.dtype, part.cols), groups = packed_groups(part.rows);
  const int64_t step = std::max<int64_t>(1, kPackBytes / group_bytes);
  prefetch_pages({source, static_cast<size_t>(part.rows * from.row_bytes)});
  pool_.parallel_for((groups + step - 1) / step, [&](int64_t chunk, int) {
    const int64_t begin = chunk * step, end = std::min(groups, begin + step);
    const int64_t last_row = std::min(part.rows, end * kPackedRows);
    const std::span read(source + begin * kPackedRows * from.row_bytes,
                         static_cast<size_t>((last_row - begin * kPackedRows) * from.row_bytes));
    populate_pages(read);
    for (int64_t g = begin; g < end; ++g) {
      const int64_t row = g * kPackedRows;
      pack_group(part.dtype, source + row * from.row_bytes, from.row_bytes, std::min(kPackedRows, part.rows - row),
                 part.cols, to + g * group_bytes);
    }
    release_pages(read);
  });
  release_pages({source, static_cast<size_t>(part.rows * from.row_bytes)});  // and those on the chunks' borders
  done_ += part.rows * from.row_bytes;
  if (progress_) progress_(done_, total_);
}

void PackedStore::finish() {
  if (writer_ != nullptr) writer_->finish();
  if (kept_ == nullptr) return;
  if (is_whole_) return kept_->start([](int64_t) {});
  const bool is_incomplete = keepable_ > 0;  // it was made for kernels that pack fewer types
  kept_->start([this, is_incomplete](int64_t damaged) {
    if (damaged == 0 && !is_incomplete) return;
    start_writing();
    if (writer_ == nullptr) return;
    for (const PackedPart& part : parts_) writer_->add(part);
    writer_->finish();
  });
}

void PackedStore::wait_until_kept() {
  if (kept_ != nullptr) kept_->stop();
  if (writer_ != nullptr) writer_->wait();
}

void PackedStore::wait_for_background() {
  if (kept_ != nullptr) kept_->wait();
  if (writer_ != nullptr) writer_->wait();
}

}  // namespace redoubt

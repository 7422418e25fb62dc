#include "formats/packed_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>
#include <unordered_set>

#include "formats/chunk_hash.h"
#include "formats/packing.h"
#include "formats/shown.h"

namespace redoubt {
namespace {

constexpr std::string_view kMagic = "RDBTPACK";
constexpr uint32_t kVersion = 2;
constexpr size_t kKindAt = 64;  // in the header
constexpr int kMaxRank = 8;
constexpr uint64_t kMaxExtent = uint64_t{1} << 40, kMaxElements = uint64_t{1} << 48;  // bytes stay far below 2^63

// Little-endian numbers out of bytes; past the end everything is zero and `failed` stays set.
struct Reader {
  std::span<const std::byte> bytes;
  bool failed = false;

  template <class T>
  T number() {
    T value{};
    const std::span<const std::byte> from = take(sizeof(T));
    if (from.size() == sizeof(T)) std::memcpy(&value, from.data(), sizeof(T));
    return value;
  }
  std::string_view text(size_t length) {
    const std::span<const std::byte> from = take(length);
    return {reinterpret_cast<const char*>(from.data()), from.size()};
  }

 private:
  std::span<const std::byte> take(size_t count) {
    if (failed || count > bytes.size()) {
      failed = true;
      return {};
    }
    const std::span<const std::byte> taken = bytes.first(count);
    bytes = bytes.subspan(count);
    return taken;
  }
};

template <class T>
void append(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// The extents of a tensor, and that they are what its form can hold.
Status read_shape(Reader& in, PackedFileTensor& t, const std::string& type) {
  const auto rank = in.number<uint8_t>();
  if (rank > kMaxRank)
    return corrupt(fmt::format("{}: expected at most {} dimensions, found {}", shown(t.name), kMaxRank, rank));
  uint64_t elements = 1;
  for (int i = 0; i < rank; ++i) {
    const auto extent = in.number<uint64_t>();
    if (extent > kMaxExtent || __builtin_mul_overflow(elements, std::max<uint64_t>(extent, 1), &elements) ||
        elements > kMaxElements)
      return corrupt(fmt::format("{}: expected fewer elements, found an extent of {}", shown(t.name), extent));
    t.shape.push_back(static_cast<int64_t>(extent));
  }
  if (in.failed) return corrupt("the index ends inside a tensor");
  const std::optional<DType> dtype = dtype_from_name(type);
  bool fits = dtype.has_value();
  if (fits) {
    t.dtype = *dtype;
    switch (t.form) {
      case PackedForm::stored:
        fits = t.cols() % info(t.dtype).block_elems == 0;
        break;
      case PackedForm::packed:
        fits = rank >= 2 && t.rows() > 0 && can_pack(t.dtype, t.cols());
        break;
      case PackedForm::file:
        fits = rank == 1 && t.dtype == DType::u8;
        break;
      case PackedForm::columns:
        fits = rank == 1 && t.dtype == DType::i32;
        break;
    }
  }
  if (fits) return ok();
  return corrupt(fmt::format("{}: expected a type and a shape that this form can hold, found {} [{}]", shown(t.name),
                             shown(type), fmt::join(t.shape, ", ")));
}

Result<PackedFileTensor> read_tensor(Reader& in, int64_t from, int64_t end) {
  PackedFileTensor t;
  t.name = in.text(in.number<uint16_t>());
  const std::string type(in.text(in.number<uint8_t>()));
  const auto form = in.number<uint8_t>();
  if (in.failed) return corrupt("the index ends inside a tensor");
  if (form > static_cast<uint8_t>(PackedForm::columns))
    return corrupt(fmt::format("{}: expected form 0 to 3, found {}", shown(t.name), form));
  t.form = static_cast<PackedForm>(form);
  REDOUBT_CHECK(read_shape(in, t, type));
  const auto offset = in.number<uint64_t>();
  t.offset = static_cast<int64_t>(offset);
  if (in.failed) return corrupt("the index ends inside a tensor");
  if (offset % static_cast<uint64_t>(t.alignment()) != 0 || offset < static_cast<uint64_t>(from) ||
      offset > static_cast<uint64_t>(end) || t.bytes() > end - t.offset) {
    return corrupt(fmt::format("{}: expected {} bytes between {} and {}, found offset {}", shown(t.name), t.bytes(),
                               from, end, offset));
  }
  if (in.bytes.size() / sizeof(uint64_t) < static_cast<size_t>(t.chunks()))
    return corrupt(fmt::format("{}: the index ends inside its hashes", shown(t.name)));
  for (int64_t i = 0; i < t.chunks(); ++i) t.chunk_hashes.push_back(in.number<uint64_t>());
  return t;
}

// A matrix stands in one form, once. Only a model of its own has more than packed matrices.
Status check_names(const PackedFileIndex& index) {
  std::unordered_set<std::string> tensors, files, columns;
  for (const PackedFileTensor& t : index.tensors) {
    if (index.kind == PackedKind::kept && t.form != PackedForm::packed)
      return corrupt(fmt::format("{}: expected packed matrices only", shown(t.name)));
    auto& names = t.form == PackedForm::file ? files : t.form == PackedForm::columns ? columns : tensors;
    if (!names.insert(t.name).second) return corrupt(fmt::format("{}: stands twice", shown(t.name)));
  }
  return ok();
}

}  // namespace

int64_t PackedFileTensor::rows() const {
  int64_t count = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) count *= shape[i];
  return count;
}

int64_t PackedFileTensor::bytes() const {
  if (form == PackedForm::packed) return packed_groups(rows()) * packed_group_bytes(dtype, cols());
  return rows() * row_bytes(dtype, cols());
}

std::span<const std::byte> PackedFileTensor::chunk(std::span<const std::byte> file, int64_t i) const {
  const int64_t begin = i * kPackedChunkBytes, size = std::min(kPackedChunkBytes, bytes() - begin);
  return file.subspan(static_cast<size_t>(offset + begin), static_cast<size_t>(size));
}

bool PackedFileTensor::has_its_hash(std::span<const std::byte> file, int64_t i) const {
  return chunk_hash(chunk(file, i)) == chunk_hashes[static_cast<size_t>(i)];
}

bool begins_as_packed_file(std::span<const std::byte> file) {
  return file.size() >= kMagic.size() && std::memcmp(file.data(), kMagic.data(), kMagic.size()) == 0;
}

Result<PackedFileIndex> parse_packed_file(std::span<const std::byte> file) {
  Reader header{file};
  if (header.text(kMagic.size()) != kMagic) return corrupt("expected a packed file, found other bytes");
  if (const auto version = header.number<uint32_t>(); version != kVersion)
    return corrupt(fmt::format("expected a packed file of version {}, found version {}", kVersion, version));
  const auto chunk_bytes = header.number<uint32_t>();
  const auto file_bytes = header.number<uint64_t>(), index_offset = header.number<uint64_t>();
  const auto index_hash = header.number<uint64_t>();
  PackedFileIndex index;
  index.source.bytes = header.number<int64_t>();
  index.source.modified_ns = header.number<int64_t>();
  index.source.header_hash = header.number<uint64_t>();
  const auto kind = header.number<uint64_t>(), header_hash = header.number<uint64_t>();
  if (header.failed) return corrupt(fmt::format("the file ends inside its header, after {} bytes", file.size()));
  if (header_hash != chunk_hash(file.first(kPackedHeaderBytes - 8)) || chunk_bytes != kPackedChunkBytes)
    return corrupt("the header does not have its hash");
  if (kind > static_cast<uint64_t>(PackedKind::whole))
    return corrupt(fmt::format("expected a packed file of kind 0 or 1, found {}", kind));
  index.kind = static_cast<PackedKind>(kind);
  if (file_bytes != file.size()) return corrupt(fmt::format("expected {} bytes, found {}", file_bytes, file.size()));
  if (index_offset < kPackedHeaderBytes || index_offset > file.size())
    return corrupt(fmt::format("expected the index inside the file, found offset {}", index_offset));
  Reader in{file.subspan(index_offset)};
  if (index_hash != chunk_hash(in.bytes)) return corrupt("the index does not have its hash");
  const auto count = in.number<uint64_t>();
  int64_t from = kPackedHeaderBytes;
  for (uint64_t i = 0; i < count; ++i) {
    REDOUBT_TRY(PackedFileTensor tensor, read_tensor(in, from, static_cast<int64_t>(index_offset)));
    from = tensor.offset + tensor.bytes();
    index.tensors.push_back(std::move(tensor));
  }
  if (in.failed || !in.bytes.empty()) return corrupt("the index does not end where the file does");
  REDOUBT_CHECK(check_names(index));
  return index;
}

std::string packed_file_index(const PackedFileIndex& index) {
  std::string bytes;
  append(bytes, static_cast<uint64_t>(index.tensors.size()));
  for (const PackedFileTensor& t : index.tensors) {
    const std::string_view type = info(t.dtype).name;
    append(bytes, static_cast<uint16_t>(t.name.size()));
    bytes += t.name;
    append(bytes, static_cast<uint8_t>(type.size()));
    bytes += type;
    append(bytes, static_cast<uint8_t>(t.form));
    append(bytes, static_cast<uint8_t>(t.shape.size()));
    for (const int64_t extent : t.shape) append(bytes, extent);
    append(bytes, t.offset);
    for (const uint64_t hash : t.chunk_hashes) append(bytes, hash);
  }
  return bytes;
}

std::string packed_file_header(const PackedFileIndex& index, int64_t index_offset, std::string_view index_bytes) {
  std::string bytes(kMagic);
  append(bytes, kVersion);
  append(bytes, static_cast<uint32_t>(kPackedChunkBytes));
  append(bytes, index_offset + static_cast<int64_t>(index_bytes.size()));
  append(bytes, index_offset);
  append(bytes, chunk_hash(std::as_bytes(std::span(index_bytes))));
  append(bytes, index.source.bytes);
  append(bytes, index.source.modified_ns);
  append(bytes, index.source.header_hash);
  append(bytes, static_cast<uint64_t>(index.kind));
  append(bytes, chunk_hash(std::as_bytes(std::span(bytes))));
  REDOUBT_ASSERT(static_cast<int64_t>(bytes.size()) == kPackedHeaderBytes);
  return bytes;
}

Result<std::shared_ptr<const PackedFile>> PackedFile::open(const std::filesystem::path& path) {
  auto file = std::make_shared<PackedFile>();
  REDOUBT_TRY(file->file_, MappedFile::open(path));
  Result<PackedFileIndex> index = parse_packed_file(file->bytes());
  if (!index) return std::move(index).error().within(path.string());
  file->index_ = std::move(index).value();
  for (size_t i = 0; i < file->index_.tensors.size(); ++i) {
    const PackedFileTensor& tensor = file->index_.tensors[i];
    file->by_name_[static_cast<size_t>(tensor.form)][tensor.name] = i;
  }
  return std::shared_ptr<const PackedFile>(std::move(file));
}

Result<bool> PackedFile::is_one(const std::filesystem::path& path) {
  REDOUBT_TRY(const MappedFile file, MappedFile::open(path));
  return begins_as_packed_file(file.bytes());
}

const PackedFileTensor* PackedFile::find(PackedForm form, std::string_view name) const {
  const auto& names = by_name_[static_cast<size_t>(form)];
  const auto found = names.find(name);
  return found == names.end() ? nullptr : &index_.tensors[found->second];
}

Error PackedFile::damage(const PackedFileTensor& tensor, int64_t chunk) const {
  return corrupt(fmt::format("{}: {}: chunk {} of {} does not have its hash", file_.path().string(), shown(tensor.name),
                             chunk, tensor.chunks()));
}

Status PackedFile::verify(const PackedFileTensor& tensor, ThreadPool* pool) const {
  const int64_t chunks = tensor.chunks();
  std::atomic<int64_t> first{chunks};  // that does not have its hash
  const auto check = [&](int64_t i, int) {
    if (populate_pages(tensor.chunk(bytes(), i)) && tensor.has_its_hash(bytes(), i)) return;
    int64_t known = first.load();
    while (i < known && !first.compare_exchange_weak(known, i)) {
    }
  };
  if (chunks > 1) prefetch_pages(bytes_of(tensor));
  if (pool != nullptr && chunks > 1) {
    pool->parallel_for(chunks, check);
  } else {
    for (int64_t i = 0; i < chunks; ++i) check(i, 0);
  }
  if (first.load() < chunks) return damage(tensor, first.load());
  return ok();
}

std::filesystem::path kept_packed_path(const std::filesystem::path& model) {
  std::error_code error;
  if (std::filesystem::is_directory(model, error)) return model / fmt::format("weights{}", kPackedExtension);
  return model.string() + std::string(kPackedExtension);
}

bool is_whole_packed_file(const std::filesystem::path& path) {
  const Result<MappedFile> file = MappedFile::open(path);
  if (!file || !begins_as_packed_file(file->bytes()) || file->bytes().size() < kPackedHeaderBytes) return false;
  uint64_t kind = 0;
  std::memcpy(&kind, file->bytes().data() + kKindAt, sizeof kind);
  return kind == static_cast<uint64_t>(PackedKind::whole);
}

Result<int64_t> verify_packed_file(const std::filesystem::path& path, ThreadPool* pool) {
  REDOUBT_TRY(const std::shared_ptr<const PackedFile> file, PackedFile::open(path));
  int64_t chunks = 0;
  for (const PackedFileTensor& tensor : file->index().tensors) {
    REDOUBT_CHECK(file->verify(tensor, pool));
    release_pages(file->bytes_of(tensor));
    chunks += tensor.chunks();
  }
  return chunks;
}

}  // namespace redoubt

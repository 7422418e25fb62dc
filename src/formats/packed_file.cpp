#include "formats/packed_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "formats/chunk_hash.h"
#include "formats/packing.h"
#include "formats/shown.h"

namespace redoubt {
namespace {

constexpr std::string_view kMagic = "RDBTPACK";
constexpr uint32_t kVersion = 1;
constexpr uint64_t kMaxExtent = uint64_t{1} << 31;  // of rows and columns: products stay below 2^63

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

Result<PackedFileMatrix> read_matrix(Reader& in, int64_t from, int64_t end) {
  PackedFileMatrix m;
  m.name = in.text(in.number<uint16_t>());
  const std::string type(in.text(in.number<uint8_t>()));
  const auto rows = in.number<uint64_t>(), cols = in.number<uint64_t>(), offset = in.number<uint64_t>();
  if (in.failed) return corrupt("the index ends inside a matrix");
  const std::string shown_name = shown(m.name);
  const std::optional<DType> dtype = dtype_from_name(type);
  if (!dtype.has_value() || rows < 1 || cols < 1 || rows > kMaxExtent || cols > kMaxExtent ||
      !can_pack(*dtype, static_cast<int64_t>(cols)) || rows > static_cast<uint64_t>(end) ||
      cols > static_cast<uint64_t>(end) || rows * cols > uint64_t{1} << 40) {
    return corrupt(fmt::format("{}: expected a matrix that can be packed, found {} [{}, {}]", shown_name, shown(type),
                               rows, cols));
  }
  m.dtype = *dtype;
  m.rows = static_cast<int64_t>(rows);
  m.cols = static_cast<int64_t>(cols);
  m.offset = static_cast<int64_t>(offset);
  if (offset % kPackedFileAlignment != 0 || offset < static_cast<uint64_t>(from) ||
      offset > static_cast<uint64_t>(end) || m.bytes() > end - m.offset) {
    return corrupt(fmt::format("{}: expected {} bytes between {} and {}, found offset {}", shown_name, m.bytes(), from,
                               end, offset));
  }
  if (in.bytes.size() / sizeof(uint64_t) < static_cast<size_t>(m.chunks()))
    return corrupt(fmt::format("{}: the index ends inside its hashes", shown_name));
  for (int64_t i = 0; i < m.chunks(); ++i) m.chunk_hashes.push_back(in.number<uint64_t>());
  return m;
}

}  // namespace

int64_t PackedFileMatrix::bytes() const { return packed_groups(rows) * packed_group_bytes(dtype, cols); }

std::span<const std::byte> PackedFileMatrix::chunk(std::span<const std::byte> file, int64_t i) const {
  const int64_t begin = i * kPackedChunkBytes, size = std::min(kPackedChunkBytes, bytes() - begin);
  return file.subspan(static_cast<size_t>(offset + begin), static_cast<size_t>(size));
}

bool PackedFileMatrix::has_its_hash(std::span<const std::byte> file, int64_t i) const {
  return chunk_hash(chunk(file, i)) == chunk_hashes[static_cast<size_t>(i)];
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
  const auto header_hash = header.number<uint64_t>();
  if (header.failed) return corrupt(fmt::format("the file ends inside its header, after {} bytes", file.size()));
  if (header_hash != chunk_hash(file.first(kPackedHeaderBytes - 8)) || chunk_bytes != kPackedChunkBytes)
    return corrupt("the header does not have its hash");
  if (file_bytes != file.size()) return corrupt(fmt::format("expected {} bytes, found {}", file_bytes, file.size()));
  if (index_offset < kPackedHeaderBytes || index_offset > file.size())
    return corrupt(fmt::format("expected the index inside the file, found offset {}", index_offset));
  Reader in{file.subspan(index_offset)};
  if (index_hash != chunk_hash(in.bytes)) return corrupt("the index does not have its hash");
  const auto count = in.number<uint64_t>();
  std::unordered_set<std::string> names;
  int64_t from = kPackedHeaderBytes;
  for (uint64_t i = 0; i < count; ++i) {
    REDOUBT_TRY(PackedFileMatrix matrix, read_matrix(in, from, static_cast<int64_t>(index_offset)));
    from = matrix.offset + matrix.bytes();
    if (!names.insert(matrix.name).second) return corrupt(fmt::format("{}: stands twice", shown(matrix.name)));
    index.matrices.push_back(std::move(matrix));
  }
  if (in.failed || !in.bytes.empty()) return corrupt("the index does not end where the file does");
  return index;
}

std::string packed_file_index(const PackedFileIndex& index) {
  std::string bytes;
  append(bytes, static_cast<uint64_t>(index.matrices.size()));
  for (const PackedFileMatrix& m : index.matrices) {
    const std::string_view type = info(m.dtype).name;
    append(bytes, static_cast<uint16_t>(m.name.size()));
    bytes += m.name;
    append(bytes, static_cast<uint8_t>(type.size()));
    bytes += type;
    for (const int64_t number : {m.rows, m.cols, m.offset}) append(bytes, number);
    for (const uint64_t hash : m.chunk_hashes) append(bytes, hash);
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
  append(bytes, chunk_hash(std::as_bytes(std::span(bytes))));
  REDOUBT_ASSERT(static_cast<int64_t>(bytes.size()) == kPackedHeaderBytes);
  return bytes;
}

}  // namespace redoubt

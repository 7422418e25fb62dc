#include "formats/gguf_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/utf8.h"
#include "formats/shown.h"

namespace redoubt {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is read in place");

constexpr int kMaxNesting = 4;             // of arrays in arrays
constexpr uint64_t kMaxNameBytes = 65535;  // the specification's limit for keys
constexpr int64_t kMaxAlignment = 1 << 20;

int64_t size_of(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32:
      return 4;
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64:
      return 8;
    case GgufType::string:
    case GgufType::array:
      return 0;
  }
  return 0;
}

class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) : bytes_(bytes) {}

  size_t position() const { return at_; }
  uint64_t left() const { return bytes_.size() - at_; }

  Result<std::span<const std::byte>> take(uint64_t count) {
    if (count > left()) {
      return corrupt(
          fmt::format("expected {} bytes at offset {}, found {} to the end of the file", count, at_, left()));
    }
    const auto taken = bytes_.subspan(at_, count);
    at_ += count;
    return taken;
  }

  template <class T>
  Result<T> number() {
    REDOUBT_TRY(const auto raw, take(sizeof(T)));
    T value;
    std::memcpy(&value, raw.data(), sizeof value);
    return value;
  }

  Result<std::string_view> name() {
    REDOUBT_TRY(const auto length, number<uint64_t>());
    if (length > kMaxNameBytes) {
      return corrupt(fmt::format("name at offset {}: expected at most {} bytes, found {}", at_, kMaxNameBytes, length));
    }
    REDOUBT_TRY(const auto raw, take(length));
    const std::string_view text(reinterpret_cast<const char*>(raw.data()), raw.size());
    if (!is_valid_utf8(text)) return corrupt(fmt::format("name at offset {}: expected UTF-8", at_ - length));
    return text;
  }

  Result<GgufType> type() {
    REDOUBT_TRY(const auto code, number<uint32_t>());
    if (code > static_cast<uint32_t>(GgufType::f64)) {
      return corrupt(fmt::format("value type: expected 0 to 12, found {}", code));
    }
    return static_cast<GgufType>(code);
  }

  Status skip_string() {
    REDOUBT_TRY(const auto length, number<uint64_t>());
    REDOUBT_CHECK(take(length));
    return ok();
  }

  // Walks the elements once, so that accessors may read them without looking at sizes again.
  Status skip_elements(GgufType element, uint64_t count, int depth) {
    if (const int64_t size = size_of(element); size > 0) {
      if (count > left() / static_cast<uint64_t>(size)) {
        return corrupt(
            fmt::format("array: expected {} elements, found {} bytes to the end of the file", count, left()));
      }
      REDOUBT_CHECK(take(count * static_cast<uint64_t>(size)));
      return ok();
    }
    if (element == GgufType::array && depth >= kMaxNesting) {
      return corrupt(fmt::format("array: expected at most {} levels", kMaxNesting));
    }
    // A string takes at least 8 bytes, an array 12: an absurd count ends where the file does.
    if (count > left() / 8) {
      return corrupt(fmt::format("array: expected {} elements, found {} bytes to the end of the file", count, left()));
    }
    for (uint64_t i = 0; i < count; ++i) {
      if (element == GgufType::string) {
        REDOUBT_CHECK(skip_string());
      } else {
        REDOUBT_TRY(const GgufType inner, type());
        REDOUBT_TRY(const auto inner_count, number<uint64_t>());
        REDOUBT_CHECK(skip_elements(inner, inner_count, depth + 1));
      }
    }
    return ok();
  }

  Result<GgufValue> value() {
    GgufValue result;
    REDOUBT_TRY(result.type, type());
    if (result.type == GgufType::string) {
      REDOUBT_TRY(const auto length, number<uint64_t>());
      REDOUBT_TRY(result.bytes, take(length));
    } else if (result.type == GgufType::array) {
      REDOUBT_TRY(result.element, type());
      REDOUBT_TRY(result.count, number<uint64_t>());
      const size_t begin = at_;
      REDOUBT_CHECK(skip_elements(result.element, result.count, 1));
      result.bytes = bytes_.subspan(begin, at_ - begin);
    } else {
      REDOUBT_TRY(result.bytes, take(static_cast<uint64_t>(size_of(result.type))));
    }
    return result;
  }

 private:
  std::span<const std::byte> bytes_;
  size_t at_ = 0;
};

struct TensorInfo {
  GgufTensor tensor;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

Result<TensorInfo> read_info(Cursor& cursor, std::string_view name) {
  TensorInfo result;
  result.tensor.name = name;
  REDOUBT_TRY(const auto rank, cursor.number<uint32_t>());
  if (rank < 1 || rank > 4) return corrupt(fmt::format("expected 1 to 4 dimensions, found {}", rank));
  uint64_t elements = 1;
  for (uint32_t i = 0; i < rank; ++i) {
    REDOUBT_TRY(const auto extent, cursor.number<uint64_t>());
    if (extent < 1 || extent > (uint64_t{1} << 48) || __builtin_mul_overflow(elements, extent, &elements) ||
        elements > (uint64_t{1} << 56)) {
      return corrupt(
          fmt::format("dimension {}: expected 1 to 2^48 with a product of at most 2^56, found {}", i, extent));
    }
    result.tensor.dims.push_back(static_cast<int64_t>(extent));
  }
  REDOUBT_TRY(const auto code, cursor.number<uint32_t>());
  const auto dtype = dtype_from_ggml(code);
  if (!dtype) return unsupported(fmt::format("expected a known element type, found ggml type {}", code));
  result.tensor.dtype = *dtype;
  const DTypeInfo& type = info(*dtype);
  if (result.tensor.dims[0] % type.block_elems != 0) {
    return corrupt(fmt::format("expected rows of a multiple of {} values for {}, found {}", type.block_elems, type.name,
                               result.tensor.dims[0]));
  }
  result.bytes = elements / static_cast<uint64_t>(type.block_elems) * static_cast<uint64_t>(type.block_bytes);
  REDOUBT_TRY(result.offset, cursor.number<uint64_t>());
  return result;
}

uint64_t align(uint64_t value, int64_t alignment) {
  const auto a = static_cast<uint64_t>(alignment);
  return (value + a - 1) / a * a;
}

// Tensors must lie behind one another, each at the next multiple of the alignment: no overlap, no hidden hole.
// `section` is null where the file has none: the data stays empty then.
Status place(std::vector<TensorInfo>& infos, const std::span<const std::byte>* section, int64_t alignment) {
  const uint64_t size = section != nullptr ? section->size() : uint64_t{1} << 62;
  std::vector<TensorInfo*> order;
  for (TensorInfo& tensor : infos) order.push_back(&tensor);
  std::ranges::sort(order, {}, &TensorInfo::offset);
  uint64_t expected = 0;
  for (TensorInfo* tensor : order) {
    const std::string name = shown(tensor->tensor.name);
    if (tensor->offset != expected) {
      return corrupt(
          fmt::format("tensor {}: expected offset {} in the data section, behind the tensor before, found {}", name,
                      expected, tensor->offset));
    }
    if (tensor->offset > size || tensor->bytes > size - tensor->offset) {
      return corrupt(fmt::format("tensor {}: expected {} bytes at offset {} of the data section, found a section of {}",
                                 name, tensor->bytes, tensor->offset, size));
    }
    if (section != nullptr) tensor->tensor.data = section->subspan(tensor->offset, tensor->bytes);
    expected = align(tensor->offset + tensor->bytes, alignment);
  }
  return ok();
}

Status read_head(Cursor& cursor) {
  REDOUBT_TRY(const auto magic, cursor.take(4));
  if (std::memcmp(magic.data(), "GGUF", 4) != 0) return corrupt("expected the magic bytes GGUF");
  REDOUBT_TRY(const auto version, cursor.number<uint32_t>());
  if (version == 2 || version == 3) return ok();
  if (version == 0x02000000u || version == 0x03000000u) {
    return unsupported("expected a little-endian GGUF file, found a big-endian one");
  }
  return unsupported(fmt::format("expected GGUF version 2 or 3, found {}", version));
}

Result<int64_t> read_alignment(const GgufParts& parts) {
  for (const auto& [key, value] : parts.metadata) {
    if (key != "general.alignment") continue;
    if (value.type != GgufType::u32) {
      return corrupt(fmt::format("general.alignment: expected u32, found {}", name_of(value.type)));
    }
    uint32_t alignment = 0;
    std::memcpy(&alignment, value.bytes.data(), 4);
    if (!std::has_single_bit(alignment) || alignment > kMaxAlignment) {
      return corrupt(
          fmt::format("general.alignment: expected a power of two up to {}, found {}", kMaxAlignment, alignment));
    }
    return static_cast<int64_t>(alignment);
  }
  return int64_t{32};
}

Result<GgufParts> read(std::span<const std::byte> bytes, bool has_data) {
  Cursor cursor(bytes);
  REDOUBT_CHECK(read_head(cursor));
  REDOUBT_TRY(const auto tensor_count, cursor.number<uint64_t>());
  REDOUBT_TRY(const auto value_count, cursor.number<uint64_t>());
  // The smallest value takes 13 bytes, the smallest tensor description 32.
  if (value_count > cursor.left() / 13) {
    return corrupt(fmt::format("metadata: expected {} values, found {} bytes", value_count, cursor.left()));
  }
  GgufParts parts;
  for (uint64_t i = 0; i < value_count; ++i) {
    REDOUBT_TRY(const std::string_view key, cursor.name());
    Result<GgufValue> value = cursor.value();
    if (!value) return std::move(value).error().within("key " + shown(key));
    parts.metadata.emplace_back(key, *value);
  }
  REDOUBT_TRY(parts.alignment, read_alignment(parts));
  if (tensor_count > cursor.left() / 32) {
    return corrupt(fmt::format("expected {} tensors, found {} bytes", tensor_count, cursor.left()));
  }
  std::vector<TensorInfo> infos;
  for (uint64_t i = 0; i < tensor_count; ++i) {
    REDOUBT_TRY(const std::string_view name, cursor.name());
    Result<TensorInfo> tensor = read_info(cursor, name);
    if (!tensor) return std::move(tensor).error().within("tensor " + shown(name));
    infos.push_back(std::move(*tensor));
  }
  const uint64_t data_at = align(cursor.position(), parts.alignment);
  const std::span<const std::byte> section =
      data_at < bytes.size() ? bytes.subspan(data_at) : std::span<const std::byte>();
  REDOUBT_CHECK(place(infos, has_data ? &section : nullptr, parts.alignment));
  for (TensorInfo& tensor : infos) parts.tensors.push_back(std::move(tensor.tensor));
  return parts;
}

}  // namespace

Result<GgufParts> read_gguf(std::span<const std::byte> bytes) { return read(bytes, true); }
Result<GgufParts> read_gguf_head(std::span<const std::byte> bytes) { return read(bytes, false); }

}  // namespace redoubt

#include "formats/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "formats/gguf_reader.h"
#include "formats/shown.h"

namespace redoubt {
namespace {

template <class T>
T load(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

std::optional<int64_t> as_integer(GgufType type, const std::byte* p) {
  switch (type) {
    case GgufType::u8:
    case GgufType::boolean:
      return load<uint8_t>(p);
    case GgufType::i8:
      return load<int8_t>(p);
    case GgufType::u16:
      return load<uint16_t>(p);
    case GgufType::i16:
      return load<int16_t>(p);
    case GgufType::u32:
      return load<uint32_t>(p);
    case GgufType::i32:
      return load<int32_t>(p);
    case GgufType::i64:
      return load<int64_t>(p);
    case GgufType::u64: {
      const auto value = load<uint64_t>(p);
      if (value > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> as_number(GgufType type, const std::byte* p) {
  if (type == GgufType::f32) return load<float>(p);
  if (type == GgufType::f64) return load<double>(p);
  if (const auto integer = as_integer(type, p)) return static_cast<double>(*integer);
  return std::nullopt;
}

Error wrong_type(std::string_view file, std::string_view key, const GgufValue* found, const char* expected) {
  if (found == nullptr) return corrupt(fmt::format("{}: key {}: expected {}, found none", file, shown(key), expected));
  return corrupt(fmt::format("{}: key {}: expected {}, found {}", file, shown(key), expected, name_of(found->type)));
}

// "dir/name-00001-of-00003.gguf" -> the path of part `number`.
std::optional<std::filesystem::path> sibling(const std::filesystem::path& first, int64_t number, int64_t count) {
  const std::string name = first.filename().string();
  const std::string ending = fmt::format("-00001-of-{:05}.gguf", count);
  if (!name.ends_with(ending)) return std::nullopt;
  return first.parent_path() /
         fmt::format("{}-{:05}-of-{:05}.gguf", name.substr(0, name.size() - ending.size()), number, count);
}

}  // namespace

std::string_view name_of(GgufType type) {
  static constexpr std::string_view kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                "bool", "string", "array", "u64", "i64", "f64"};
  return kNames[static_cast<size_t>(type)];
}

int64_t GgufTensor::bytes() const {
  int64_t rows = 1;
  for (size_t i = 1; i < dims.size(); ++i) rows *= dims[i];
  return rows * row_bytes(dtype, dims[0]);
}

Result<GgufFile> GgufFile::parse(std::span<const std::byte> bytes, std::string_view file) {
  return from_parts(read_gguf(bytes), file);
}

Result<GgufFile> GgufFile::parse_head(std::span<const std::byte> bytes, std::string_view file) {
  return from_parts(read_gguf_head(bytes), file);
}

Status GgufFile::attach(std::string_view tensor, std::span<const std::byte> data) {
  const auto it = tensor_index_.find(tensor);
  if (it == tensor_index_.end()) return corrupt(fmt::format("{}: tensor {}: found none", file_, shown(tensor)));
  GgufTensor& to = tensors_[it->second];
  if (static_cast<int64_t>(data.size()) != to.bytes()) {
    return corrupt(
        fmt::format("{}: tensor {}: expected {} bytes, found {}", file_, shown(tensor), to.bytes(), data.size()));
  }
  to.data = data;
  return ok();
}

Result<GgufFile> GgufFile::from_parts(Result<GgufParts> parts, std::string_view file) {
  if (!parts) return std::move(parts).error().within(file);
  GgufFile result;
  result.file_ = file;
  result.metadata_ = std::move(parts->metadata);
  result.tensors_ = std::move(parts->tensors);
  result.alignment_ = parts->alignment;
  for (size_t i = 0; i < result.metadata_.size(); ++i) {
    const std::string_view key = result.metadata_[i].first;
    if (!result.metadata_index_.emplace(key, i).second) {
      return corrupt(fmt::format("{}: key {}: found twice", file, shown(key)));
    }
  }
  for (size_t i = 0; i < result.tensors_.size(); ++i) {
    const std::string_view name = result.tensors_[i].name;
    if (!result.tensor_index_.emplace(name, i).second) {
      return corrupt(fmt::format("{}: tensor {}: named twice", file, shown(name)));
    }
  }
  return result;
}

Result<GgufFile> GgufFile::open(const std::filesystem::path& path) {
  REDOUBT_TRY(MappedFile mapped, MappedFile::open(path));
  REDOUBT_TRY(GgufFile file, parse(mapped.bytes(), path.string()));
  file.mapped_.push_back(std::move(mapped));
  const int64_t count = file.integer("split.count").value_or(1);
  if (count <= 1) return file;
  const int64_t number = file.integer("split.no").value_or(0);
  if (number != 0) {
    return invalid(fmt::format("{}: expected the first of {} files, found part {}", path.string(), count, number + 1));
  }
  if (count > 99'999)
    return corrupt(fmt::format("{}: split.count: expected at most 99999, found {}", path.string(), count));
  for (int64_t part = 1; part < count; ++part) {
    const auto next = sibling(path, part + 1, count);
    if (!next) {
      return invalid(fmt::format("{}: expected a name that ends in -00001-of-{:05}.gguf, as part of a set of {}",
                                 path.string(), count, count));
    }
    REDOUBT_TRY(MappedFile bytes, MappedFile::open(*next));
    REDOUBT_TRY(GgufFile more, parse(bytes.bytes(), next->string()));
    if (more.integer("split.no") != part || more.integer("split.count") != count) {
      return corrupt(fmt::format("{}: expected part {} of {}, found part {} of {}", next->string(), part + 1, count,
                                 more.integer("split.no").value_or(0) + 1, more.integer("split.count").value_or(1)));
    }
    more.mapped_.push_back(std::move(bytes));
    REDOUBT_CHECK(file.append(std::move(more)));
  }
  const auto total = static_cast<int64_t>(file.tensors_.size());
  if (const auto expected = file.integer("split.tensors.count"); expected && *expected != total) {
    return corrupt(fmt::format("{}: split.tensors.count: expected {} tensors in all files, found {}", path.string(),
                               *expected, total));
  }
  return file;
}

Status GgufFile::append(GgufFile part) {
  for (GgufTensor& tensor : part.tensors_) {
    if (!tensor_index_.emplace(tensor.name, tensors_.size()).second) {
      return corrupt(fmt::format("{}: tensor {}: also in an earlier file of the set", part.file_, shown(tensor.name)));
    }
    tensors_.push_back(std::move(tensor));
  }
  for (MappedFile& mapped : part.mapped_) mapped_.push_back(std::move(mapped));
  return ok();
}

const GgufValue* GgufFile::value(std::string_view key) const {
  const auto it = metadata_index_.find(key);
  return it == metadata_index_.end() ? nullptr : &metadata_[it->second].second;
}

std::optional<std::string_view> GgufFile::string(std::string_view key) const {
  const GgufValue* found = value(key);
  if (found == nullptr || found->type != GgufType::string) return std::nullopt;
  return std::string_view(reinterpret_cast<const char*>(found->bytes.data()), found->bytes.size());
}

std::optional<int64_t> GgufFile::integer(std::string_view key) const {
  const GgufValue* found = value(key);
  return found == nullptr ? std::nullopt : as_integer(found->type, found->bytes.data());
}

std::optional<double> GgufFile::number(std::string_view key) const {
  const GgufValue* found = value(key);
  return found == nullptr ? std::nullopt : as_number(found->type, found->bytes.data());
}

std::optional<bool> GgufFile::boolean(std::string_view key) const {
  const GgufValue* found = value(key);
  if (found == nullptr || found->type != GgufType::boolean) return std::nullopt;
  return load<uint8_t>(found->bytes.data()) != 0;
}

std::optional<std::vector<std::string_view>> GgufFile::strings(std::string_view key) const {
  const GgufValue* found = value(key);
  if (found == nullptr || found->type != GgufType::array || found->element != GgufType::string) return std::nullopt;
  std::vector<std::string_view> result;
  result.reserve(found->count);  // each takes at least 8 bytes of the file
  const std::byte* at = found->bytes.data();
  for (uint64_t i = 0; i < found->count; ++i) {
    const auto length = load<uint64_t>(at);
    result.emplace_back(reinterpret_cast<const char*>(at) + 8, length);
    at += 8 + length;
  }
  return result;
}

std::optional<std::vector<int64_t>> GgufFile::integers(std::string_view key) const {
  const GgufValue* found = value(key);
  if (found == nullptr || found->type != GgufType::array || found->count == 0) return std::nullopt;
  std::vector<int64_t> result;
  const size_t size = found->bytes.size() / found->count;
  for (uint64_t i = 0; i < found->count; ++i) {
    const auto integer = as_integer(found->element, found->bytes.data() + i * size);
    if (!integer) return std::nullopt;
    result.push_back(*integer);
  }
  return result;
}

std::optional<std::vector<float>> GgufFile::floats(std::string_view key) const {
  const GgufValue* found = value(key);
  if (found == nullptr || found->type != GgufType::array) return std::nullopt;
  if (found->element != GgufType::f32 && found->element != GgufType::f64) return std::nullopt;
  const size_t size = found->element == GgufType::f32 ? 4 : 8;
  std::vector<float> result(found->count);
  for (uint64_t i = 0; i < found->count; ++i) {
    result[i] = static_cast<float>(*as_number(found->element, found->bytes.data() + i * size));
  }
  return result;
}

Result<std::string_view> GgufFile::expect_string(std::string_view key) const {
  if (const auto found = string(key)) return *found;
  return wrong_type(file_, key, value(key), "a string");
}
Result<int64_t> GgufFile::expect_integer(std::string_view key) const {
  if (const auto found = integer(key)) return *found;
  return wrong_type(file_, key, value(key), "an integer below 2^63");
}
Result<double> GgufFile::expect_number(std::string_view key) const {
  if (const auto found = number(key)) return *found;
  return wrong_type(file_, key, value(key), "a number");
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto it = tensor_index_.find(name);
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

}  // namespace redoubt

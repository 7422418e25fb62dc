#include "formats/safetensors.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <unordered_set>

#include "formats/shown.h"

namespace redoubt {
namespace {

namespace dom = simdjson::dom;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the published reader's limit
constexpr size_t kMaxRank = 8;

struct Name {
  std::string_view text;
  DType dtype;
};
constexpr std::array kNames{
    Name{"F32", DType::f32},         Name{"F16", DType::f16},         Name{"BF16", DType::bf16},
    Name{"F64", DType::f64},         Name{"F8_E4M3", DType::f8_e4m3}, Name{"F8_E5M2", DType::f8_e5m2},
    Name{"F8_E8M0", DType::f8_e8m0}, Name{"I8", DType::i8},           Name{"U8", DType::u8},
    Name{"I16", DType::i16},         Name{"U16", DType::u16},         Name{"I32", DType::i32},
    Name{"U32", DType::u32},         Name{"I64", DType::i64},         Name{"U64", DType::u64},
    Name{"BOOL", DType::boolean},
};

struct Entry {
  std::optional<DType> dtype;
  std::optional<std::vector<int64_t>> shape;
  std::optional<std::pair<uint64_t, uint64_t>> range;
};

// One tensor's description; the caller adds file and tensor to the message.
Result<Entry> parse_entry(dom::element value) {
  dom::object fields;
  if (value.get(fields) != simdjson::SUCCESS) return corrupt("expected an object");
  Entry entry;
  for (const auto [key, field] : fields) {
    if (key == "dtype") {
      std::string_view text;
      if (entry.dtype || field.get(text) != simdjson::SUCCESS) return corrupt("dtype: expected one string");
      const auto* known = std::ranges::find(kNames, text, &Name::text);
      if (known == kNames.end()) return corrupt(fmt::format("dtype: expected a known type, found {}", shown(text)));
      entry.dtype = known->dtype;
    } else if (key == "shape") {
      dom::array list;
      if (entry.shape || field.get(list) != simdjson::SUCCESS) return corrupt("shape: expected one array");
      entry.shape.emplace();
      for (const dom::element extent : list) {
        uint64_t size = 0;
        if (extent.get(size) != simdjson::SUCCESS || size > INT64_MAX) {
          return corrupt("shape: expected non-negative integers");
        }
        if (entry.shape->size() == kMaxRank)
          return corrupt(fmt::format("shape: expected at most {} dimensions", kMaxRank));
        entry.shape->push_back(static_cast<int64_t>(size));
      }
    } else if (key == "data_offsets") {
      dom::array list;
      if (entry.range || field.get(list) != simdjson::SUCCESS || list.size() != 2) {
        return corrupt("data_offsets: expected one pair");
      }
      uint64_t begin = 0, end = 0;
      if (list.at(0).get(begin) != simdjson::SUCCESS || list.at(1).get(end) != simdjson::SUCCESS) {
        return corrupt("data_offsets: expected non-negative integers");
      }
      entry.range.emplace(begin, end);
    }
  }
  if (!entry.dtype || !entry.shape || !entry.range) return corrupt("expected dtype, shape and data_offsets");
  return entry;
}

Result<std::span<const std::byte>> slice(const Entry& entry, std::span<const std::byte> buffer) {
  uint64_t bytes = static_cast<uint64_t>(info(*entry.dtype).block_bytes);
  for (const int64_t extent : *entry.shape) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(extent), &bytes)) {
      return corrupt("shape: the product of its sizes overflows");
    }
  }
  const auto [begin, end] = *entry.range;
  if (begin > end || end > buffer.size()) {
    return corrupt(
        fmt::format("data_offsets: expected a range inside {} bytes, found {} to {}", buffer.size(), begin, end));
  }
  if (end - begin != bytes) {
    return corrupt(fmt::format("data_offsets: expected {} bytes for the shape, found {}", bytes, end - begin));
  }
  return buffer.subspan(begin, bytes);
}

// Ranges must follow one another without hole or overlap and end where the file ends.
Status check_tiling(std::vector<TensorView>& tensors, std::span<const std::byte> buffer) {
  std::ranges::stable_sort(tensors, [](const TensorView& a, const TensorView& b) {
    return std::pair(a.data.data(), a.data.size()) < std::pair(b.data.data(), b.data.size());
  });
  const std::byte* expected = buffer.data();
  for (const TensorView& tensor : tensors) {
    if (tensor.data.data() != expected) {
      return corrupt(fmt::format("tensor {}: expected its bytes to begin at {}, where the one before ends, found {}",
                                 shown(tensor.name), expected - buffer.data(), tensor.data.data() - buffer.data()));
    }
    expected += tensor.data.size();
  }
  if (expected != buffer.data() + buffer.size()) {
    return corrupt(fmt::format("expected {} bytes of tensors, found {}", expected - buffer.data(), buffer.size()));
  }
  return ok();
}

Status read_metadata(dom::element value, std::map<std::string, std::string>& metadata) {
  dom::object object;
  if (value.get(object) != simdjson::SUCCESS) return corrupt("__metadata__: expected an object");
  for (const auto [key, text] : object) {
    std::string_view string;
    if (text.get(string) != simdjson::SUCCESS) return corrupt("__metadata__: expected strings");
    metadata.emplace(key, string);
  }
  return ok();
}

Result<SafetensorsFile> parse(std::span<const std::byte> bytes) {
  uint64_t header_bytes = 0;
  if (bytes.size() < 8) return corrupt(fmt::format("expected at least 8 bytes, found {}", bytes.size()));
  std::memcpy(&header_bytes, bytes.data(), 8);
  if (header_bytes > kMaxHeaderBytes || header_bytes > bytes.size() - 8) {
    return corrupt(fmt::format("header length: expected at most {}, found {}",
                               std::min<uint64_t>(kMaxHeaderBytes, bytes.size() - 8), header_bytes));
  }
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + 8, header_bytes);
  if (!header.starts_with('{')) return corrupt("header: expected JSON that begins with '{'");
  const std::span<const std::byte> buffer = bytes.subspan(8 + header_bytes);

  dom::parser parser;
  dom::object root;
  if (const auto error = parser.parse(header.data(), header.size()).get(root); error != simdjson::SUCCESS) {
    return corrupt(fmt::format("header: expected a JSON object: {}", simdjson::error_message(error)));
  }
  SafetensorsFile file;
  std::unordered_set<std::string_view> seen;
  for (const auto [key, value] : root) {
    const std::string& name = file.names.emplace_back(key);
    if (!seen.insert(name).second) return corrupt(fmt::format("tensor {}: named twice", shown(name)));
    if (name == "__metadata__") {
      REDOUBT_CHECK(read_metadata(value, file.metadata));
      continue;
    }
    Result<Entry> entry = parse_entry(value);
    if (!entry) return std::move(entry).error().within("tensor " + shown(name));
    Result<std::span<const std::byte>> data = slice(*entry, buffer);
    if (!data) return std::move(data).error().within("tensor " + shown(name));
    file.tensors.push_back({name, *entry->dtype, std::move(*entry->shape), *data});
  }
  REDOUBT_CHECK(check_tiling(file.tensors, buffer));
  return file;
}

bool is_plain_file_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

}  // namespace

Result<SafetensorsFile> parse_safetensors(std::span<const std::byte> bytes, std::string_view file) {
  Result<SafetensorsFile> parsed = parse(bytes);
  if (!parsed) return std::move(parsed).error().within(file);
  return parsed;
}

Result<std::map<std::string, std::string>> parse_safetensors_index(std::string_view json) {
  dom::parser parser;
  dom::object map;
  if (parser.parse(json.data(), json.size())["weight_map"].get(map) != simdjson::SUCCESS) {
    return corrupt("expected a JSON object with the object weight_map");
  }
  std::map<std::string, std::string> result;
  for (const auto [name, value] : map) {
    std::string_view file;
    if (value.get(file) != simdjson::SUCCESS || !is_plain_file_name(file)) {
      return corrupt(
          fmt::format("tensor {}: expected a file name in the same directory, found {}", shown(name), shown(file)));
    }
    if (!result.emplace(name, file).second) return corrupt(fmt::format("tensor {}: named twice", shown(name)));
  }
  return result;
}

std::string_view safetensors_dtype_name(DType dtype) {
  const auto* known = std::ranges::find(kNames, dtype, &Name::dtype);
  return known == kNames.end() ? std::string_view{} : known->text;
}

}  // namespace redoubt

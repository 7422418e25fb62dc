#include <fmt/format.h>

#include <algorithm>

#include "formats/gguf.h"
#include "formats/model_writer.h"
#include "formats/output_file.h"

namespace redoubt {
namespace {

constexpr uint32_t kAlignment = 32;
constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint32_t kVersion = 3;

// The bytes of the head: small next to the weights, so built in memory.
class Head {
 public:
  template <class T>
  void number(T value) {
    const auto* bytes = reinterpret_cast<const char*>(&value);
    text_.append(bytes, sizeof value);
  }
  void string(std::string_view value) {
    number(static_cast<uint64_t>(value.size()));
    text_ += value;
  }
  void type(GgufType value) { number(static_cast<uint32_t>(value)); }
  void array(GgufType element, size_t count) {
    type(GgufType::array);
    type(element);
    number(static_cast<uint64_t>(count));
  }

  void operator()(uint32_t value) { type(GgufType::u32), number(value); }
  void operator()(uint16_t value) { type(GgufType::u16), number(value); }
  void operator()(int64_t value) { type(GgufType::i64), number(value); }
  void operator()(float value) { type(GgufType::f32), number(value); }
  void operator()(bool value) { type(GgufType::boolean), number(static_cast<uint8_t>(value)); }
  void operator()(const std::string& value) { type(GgufType::string), string(value); }
  void operator()(const std::vector<std::string>& values) {
    array(GgufType::string, values.size());
    for (const std::string& value : values) string(value);
  }
  void operator()(const std::vector<int32_t>& values) {
    array(GgufType::i32, values.size());
    for (const int32_t value : values) number(value);
  }
  void operator()(const std::vector<float>& values) {
    array(GgufType::f32, values.size());
    for (const float value : values) number(value);
  }
  // A value as another file has it.
  void copy(std::string_view key, const GgufValue& value) {
    string(key);
    if (value.type == GgufType::array) {
      array(value.element, value.count);
    } else {
      type(value.type);
      if (value.type == GgufType::string) number(static_cast<uint64_t>(value.bytes.size()));
    }
    text_.append(reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size());
  }
  void tensor(std::string_view name, const std::vector<int64_t>& dims, DType dtype, int64_t offset) {
    string(name);
    number(static_cast<uint32_t>(dims.size()));
    for (const int64_t extent : dims) number(static_cast<uint64_t>(extent));
    number(static_cast<uint32_t>(info(dtype).ggml_type));
    number(static_cast<uint64_t>(offset));
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

int64_t aligned_to(int64_t value, int64_t alignment) { return (value + alignment - 1) / alignment * alignment; }

}  // namespace

std::string gguf_head(const GgufFile& file) {
  Head head;
  const auto is_kept = [](std::string_view key) { return !key.starts_with("split."); };
  const auto kept = std::ranges::count_if(file.metadata(), [&](const auto& entry) { return is_kept(entry.first); });
  head.number(kMagic);
  head.number(kVersion);
  head.number(static_cast<uint64_t>(file.tensors().size()));
  head.number(static_cast<uint64_t>(kept));
  for (const auto& [key, value] : file.metadata()) {
    if (is_kept(key)) head.copy(key, value);
  }
  int64_t offset = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    head.tensor(tensor.name, tensor.dims, tensor.dtype, offset);
    offset = aligned_to(offset + tensor.bytes(), file.alignment());
  }
  return head.text();
}

Status write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata,
                  std::span<const OutputTensor> tensors, const WriteOptions& options) {
  Head head;
  head.number(kMagic);
  head.number(kVersion);
  head.number(static_cast<uint64_t>(tensors.size()));
  head.number(static_cast<uint64_t>(metadata.size() + 1));
  head.string("general.alignment");
  head(kAlignment);
  for (const auto& [key, value] : metadata) {
    head.string(key);
    std::visit([&](const auto& held) { head(held); }, value);
  }
  WriteProgress progress{options};
  int64_t offset = 0;
  for (const OutputTensor& tensor : tensors) {
    if (info(tensor.dtype).ggml_type < 0 || tensor.shape.empty() || tensor.shape.size() > 4 || tensor.bytes() == 0) {
      return invalid(fmt::format("tensor '{}': GGUF has no place for {} [{}]", tensor.name, info(tensor.dtype).name,
                                 fmt::join(tensor.shape, ", ")));
    }
    head.tensor(tensor.name, {tensor.shape.rbegin(), tensor.shape.rend()}, tensor.dtype, offset);
    offset = aligned_to(offset + tensor.bytes(), kAlignment);
    progress.total_bytes += tensor.bytes();
  }
  REDOUBT_TRY(OutputFile file, OutputFile::create_new(path));
  REDOUBT_CHECK(file.write(head.text()));
  for (const OutputTensor& tensor : tensors) {
    REDOUBT_CHECK(file.pad_to(kAlignment));
    REDOUBT_CHECK(write_tensor(file, tensor, progress));
  }
  REDOUBT_CHECK(file.pad_to(kAlignment));
  return file.finish();
}

}  // namespace redoubt

#include <fmt/format.h>

#include <algorithm>

#include "formats/gguf.h"
#include "formats/model_writer.h"
#include "formats/output_file.h"

namespace redoubt {
namespace {

constexpr uint32_t kAlignment = 32;

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
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

int64_t aligned(int64_t value) { return (value + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

Status write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata,
                  std::span<const OutputTensor> tensors, const WriteOptions& options) {
  Head head;
  head.number(uint32_t{0x46554747});  // "GGUF"
  head.number(uint32_t{3});
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
    head.string(tensor.name);
    head.number(static_cast<uint32_t>(tensor.shape.size()));
    for (auto extent = tensor.shape.rbegin(); extent != tensor.shape.rend(); ++extent) {
      head.number(static_cast<uint64_t>(*extent));
    }
    head.number(static_cast<uint32_t>(info(tensor.dtype).ggml_type));
    head.number(static_cast<uint64_t>(offset));
    offset = aligned(offset + tensor.bytes());
    progress.total_bytes += tensor.bytes();
  }
  REDOUBT_TRY(OutputFile file, OutputFile::create(path));
  REDOUBT_CHECK(file.write(head.text()));
  for (const OutputTensor& tensor : tensors) {
    REDOUBT_CHECK(file.pad_to(kAlignment));
    REDOUBT_CHECK(write_tensor(file, tensor, progress));
  }
  REDOUBT_CHECK(file.pad_to(kAlignment));
  return file.finish();
}

}  // namespace redoubt

// Reads NumPy .npz files (zip archives of .npy members, stored or deflated) for tests. Trusts its input: test data
// only. Link ZLIB::ZLIB. A file that cannot be read gives an empty map and a message on standard error.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace redoubt::test {

struct NpyArray {
  std::string dtype;  // NumPy's: "<f4", "|u1", "<i8"
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;

  int64_t elements() const {
    int64_t n = 1;
    for (const int64_t extent : shape) n *= extent;
    return n;
  }
  // The elements as T, whose size must be the file's; a copy, because the bytes have no alignment.
  template <class T>
  std::vector<T> as() const {
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
    return values;
  }
  std::vector<int32_t> as_ids() const {  // any integer type
    if (dtype.back() == '8') {
      const std::vector<int64_t> wide = as<int64_t>();
      return {wide.begin(), wide.end()};
    }
    return as<int32_t>();
  }
};

using Npz = std::map<std::string, NpyArray>;

// The folder of golden data, or "" if this machine has none.
inline std::filesystem::path test_data() {
  const char* named = std::getenv("REDOUBT_TEST_DATA");
  std::filesystem::path folder =
      named != nullptr ? std::filesystem::path(named) : std::filesystem::path(REDOUBT_SOURCE_DIR) / "../shared/data";
  return std::filesystem::exists(folder) ? folder : std::filesystem::path();
}

inline NpyArray parse_npy(const std::vector<uint8_t>& file) {
  const size_t header_at = file[6] == 1 ? 10 : 12;
  const size_t header_bytes = file[8] | static_cast<size_t>(file[9]) << 8;
  const std::string header(reinterpret_cast<const char*>(file.data()) + header_at, header_bytes);
  NpyArray array;
  const size_t descr = header.find('\'', header.find("'descr'") + 7) + 1;
  array.dtype = header.substr(descr, header.find('\'', descr) - descr);
  const size_t open = header.find('(', header.find("'shape'")), close = header.find(')', open);
  for (size_t at = open + 1; at < close;) {
    char* end = nullptr;
    const long long extent = std::strtoll(header.c_str() + at, &end, 10);
    if (end == header.c_str() + at) break;
    array.shape.push_back(extent);
    at = static_cast<size_t>(end - header.c_str()) + 1;
  }
  array.bytes.assign(file.begin() + static_cast<std::ptrdiff_t>(header_at + header_bytes), file.end());
  return array;
}

inline NpyArray read_npy(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return parse_npy({std::istreambuf_iterator<char>(in), {}});
}

inline Npz read_npz(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::vector<uint8_t> file{std::istreambuf_iterator<char>(in), {}};
  const auto u16 = [&](size_t at) { return static_cast<size_t>(file[at] | file[at + 1] << 8); };
  const auto u32 = [&](size_t at) { return u16(at) | u16(at + 2) << 16; };
  Npz result;
  if (file.size() < 22) {
    std::fprintf(stderr, "%s: not a readable npz file\n", path.c_str());
    return result;
  }
  size_t end = file.size() - 22;  // the end record, then the central directory
  while (end > 0 && u32(end) != 0x06054b50) --end;
  size_t entry = u32(end + 16);
  for (size_t i = 0; i < u16(end + 10); ++i) {
    const size_t method = u16(entry + 10), packed = u32(entry + 20), size = u32(entry + 24),
                 name_bytes = u16(entry + 28);
    const size_t local = u32(entry + 42);
    std::string name(reinterpret_cast<const char*>(file.data()) + entry + 46, name_bytes);
    const size_t data = local + 30 + u16(local + 26) + u16(local + 28);
    std::vector<uint8_t> member(size);
    if (method == 0) {
      std::memcpy(member.data(), file.data() + data, size);
    } else {
      z_stream stream{};
      inflateInit2(&stream, -MAX_WBITS);
      stream.next_in = const_cast<Bytef*>(file.data() + data);
      stream.avail_in = static_cast<uInt>(packed);
      stream.next_out = member.data();
      stream.avail_out = static_cast<uInt>(size);
      inflate(&stream, Z_FINISH);
      inflateEnd(&stream);
    }
    if (name.ends_with(".npy")) name.resize(name.size() - 4);
    result[name] = parse_npy(member);
    entry += 46 + name_bytes + u16(entry + 30) + u16(entry + 32);
  }
  return result;
}

}  // namespace redoubt::test

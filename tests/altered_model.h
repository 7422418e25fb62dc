// Copies of a directory of safetensors that say something else of a tensor than was written.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "core/json.h"

namespace redoubt::test {

inline std::string file_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The file that holds `tensor`, whose header says `shape` of it now. "" if there is none.
inline std::filesystem::path say_shape(const std::filesystem::path& folder, const std::string& tensor,
                                       const std::vector<int64_t>& shape) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors") continue;
    const std::string bytes = file_text(entry.path());
    uint64_t size = 0;
    std::memcpy(&size, bytes.data(), sizeof size);
    Json header = Json::parse(bytes.substr(sizeof size, size));
    if (!header.contains(tensor)) continue;
    header[tensor]["shape"] = shape;
    const std::string text = header.dump(), data = bytes.substr(sizeof size + size);
    size = text.size();
    std::ofstream file(entry.path(), std::ios::binary);
    file.write(reinterpret_cast<const char*>(&size), sizeof size);
    file << text << data;
    return entry.path();
  }
  return {};
}

}  // namespace redoubt::test

// A machine as a folder, for what is read below /proc and /sys.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "temporary_folder.h"

namespace redoubt::test {

class MachineFolder {
 public:
  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  const std::filesystem::path& root() const { return root_.path(); }

 private:
  TemporaryFolder root_;
};

}  // namespace redoubt::test

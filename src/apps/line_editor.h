// A line from a person at a terminal: editing, history kept in a file, pasted text of several lines as one line.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace redoubt {

class LineEditor {
 public:
  explicit LineEditor(const std::filesystem::path& history_file);  // "": it ends with the editor
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  // nullopt at the end (Ctrl-D). Ctrl-C gives "". A line that ends in \ goes on in the next.
  std::optional<std::string> read(const std::string& prompt);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace redoubt

// What the commands say while and after they work: data on standard output, everything else on standard error.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.h"

namespace redoubt {

bool stdout_is_terminal();
bool stderr_is_terminal();
// A terminal that knows escape sequences (TERM is there and not "dumb") and whose user wants them (NO_COLOR is empty).
bool stdout_takes_escapes();
bool stderr_takes_escapes();
// What makes text on standard output dim, and plain again; "" where it takes no escapes.
const char* dim_mark();
const char* plain_mark();
// What a model wrote, for a terminal: control characters but tab and line feed become their pictures, so that no text
// that it was made to write moves the cursor, fills the clipboard or answers for the user.
std::string harmless_text(std::string_view text);

// An answer as it comes, on standard output: thinking dim, an empty line after it; on a terminal as harmless_text.
class AnswerText {
 public:
  void write(std::string_view text, bool reasoning);
  void end();  // in the midst of thinking: plain again

 private:
  bool dim_ = false;
};

Status write_stdout(std::string_view bytes);  // exactly these bytes
Result<std::string> read_stdin(size_t max_bytes = size_t{1} << 30);

// Calls `each` with every line of standard input, without its end. Stops at the first error, with the line's number.
template <class Each>
Status for_each_stdin_line(Each&& each);

// A bar on a terminal that takes escapes; elsewhere one plain line in ten seconds. Silent for work that ends within a
// second.
class Progress {
 public:
  Progress(std::string label, int64_t total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void set(int64_t done);

 private:
  using Time = std::chrono::steady_clock::time_point;
  std::string label_;
  int64_t total_;
  Time started_, shown_;
  bool drawn_ = false;
};

bool read_stdin_line(std::string& line);  // false at the end

template <class Each>
Status for_each_stdin_line(Each&& each) {
  std::string line;
  for (int64_t number = 1; read_stdin_line(line); ++number) {
    if (Status status = each(std::string_view(line)); !status) {
      return std::move(status).error().within("standard input, line " + std::to_string(number));
    }
  }
  return ok();
}

std::string human_bytes(int64_t bytes);  // "94.1 MB"

}  // namespace redoubt

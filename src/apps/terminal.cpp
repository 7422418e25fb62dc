#include "apps/terminal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

namespace redoubt {

bool stdout_is_terminal() { return isatty(STDOUT_FILENO) != 0; }
bool stderr_is_terminal() { return isatty(STDERR_FILENO) != 0; }

namespace {

bool are_escapes_wanted() {
  const char *term = std::getenv("TERM"), *no_colour = std::getenv("NO_COLOR");
  return term != nullptr && *term != 0 && std::string_view(term) != "dumb" && (no_colour == nullptr || *no_colour == 0);
}

}  // namespace

bool stdout_takes_escapes() { return stdout_is_terminal() && are_escapes_wanted(); }
bool stderr_takes_escapes() { return stderr_is_terminal() && are_escapes_wanted(); }
const char* dim_mark() { return stdout_takes_escapes() ? "\033[2m" : ""; }
const char* plain_mark() { return stdout_takes_escapes() ? "\033[0m" : ""; }

std::string harmless_text(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == 0x7f) {
      out += "\u2421";
    } else if (byte < 0x20 && byte != '\t' && byte != '\n') {
      out += "\xe2\x90";  // U+2400 and on
      out += static_cast<char>(0x80 + byte);
    } else if (byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0) {
      out += "\ufffd";  // one of the second set (U+0080 to U+009F)
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

void AnswerText::write(std::string_view text, bool reasoning) {
  if (reasoning != dim_) fmt::print("{}{}", reasoning ? dim_mark() : plain_mark(), reasoning ? "" : "\n\n");
  dim_ = reasoning;
  const std::string shown = stdout_is_terminal() ? harmless_text(text) : std::string(text);
  std::fwrite(shown.data(), 1, shown.size(), stdout);
  std::fflush(stdout);
}

void AnswerText::end() {
  if (dim_) fmt::print("{}", plain_mark());
}

Status write_stdout(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size()) {
    return io_error("standard output: could not be written");
  }
  return ok();
}

Result<std::string> read_stdin(size_t max_bytes) {
  std::string text;
  std::array<char, 1 << 16> buffer;
  while (const size_t n = std::fread(buffer.data(), 1, buffer.size(), stdin)) {
    if (text.size() + n > max_bytes) return invalid(fmt::format("standard input: more than {} bytes", max_bytes));
    text.append(buffer.data(), n);
  }
  if (std::ferror(stdin) != 0) return io_error("standard input: could not be read");
  return text;
}

bool read_stdin_line(std::string& line) {
  line.clear();
  char* buffer = nullptr;
  size_t capacity = 0;
  const ssize_t length = getline(&buffer, &capacity, stdin);
  if (length > 0) line.assign(buffer, static_cast<size_t>(buffer[length - 1] == '\n' ? length - 1 : length));
  std::free(buffer);
  return length > 0;
}

Progress::Progress(std::string label, int64_t total)
    : label_(std::move(label)),
      total_(std::max<int64_t>(total, 1)),
      started_(std::chrono::steady_clock::now()),
      shown_(started_) {}

Progress::~Progress() {
  if (drawn_ && stderr_takes_escapes()) fmt::print(stderr, "\r\033[K");
}

void Progress::set(int64_t done) {
  const Time now = std::chrono::steady_clock::now();
  const bool terminal = stderr_takes_escapes();
  const auto quiet = terminal ? std::chrono::milliseconds(drawn_ ? 100 : 1000) : std::chrono::milliseconds(10'000);
  if (now - shown_ < quiet) return;
  shown_ = now;
  drawn_ = true;
  const double share = std::clamp(static_cast<double>(done) / static_cast<double>(total_), 0.0, 1.0);
  const double elapsed = std::chrono::duration<double>(now - started_).count();
  const double left = share > 0 ? elapsed / share - elapsed : 0;
  if (terminal) {
    constexpr int kWidth = 30;
    const int full = static_cast<int>(share * kWidth);
    fmt::print(stderr, "\r{} [{:#<{}}{:.<{}}] {:3.0f} %, {:.0f} s left\033[K", label_, "", full, "", kWidth - full,
               share * 100, left);
    std::fflush(stderr);
  } else {
    fmt::print(stderr, "{}: {:.0f} %, {:.0f} s left\n", label_, share * 100, left);
  }
}

std::string human_bytes(int64_t bytes) {
  double value = static_cast<double>(bytes);
  for (const char* unit : {"bytes", "KB", "MB", "GB"}) {
    if (value < 1000) return unit[0] == 'b' ? fmt::format("{} bytes", bytes) : fmt::format("{:.1f} {}", value, unit);
    value /= 1000;
  }
  return fmt::format("{:.1f} TB", value);
}

}  // namespace redoubt

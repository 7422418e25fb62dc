// One request out of bytes: the grammar of HTTP/1.1 by the library behind http_reader.cpp, the one file that sees it
// (it costs half a minute to compile). What the grammar allows and we do not is http_judge's.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/http_parse.h"

namespace redoubt {

class HttpReader {
 public:
  explicit HttpReader(size_t max_header_bytes);
  ~HttpReader();

  enum class Outcome : uint8_t { ok, need_more, header_too_large, broken };
  struct Step {
    Outcome outcome = Outcome::ok;
    size_t used = 0;      // bytes that are not needed again
    std::string message;  // of broken
  };
  // Reads on: up to the end of the header, then the body, never past the request's end.
  Step put(std::string_view bytes);

  bool header_done() const;
  bool done() const;

  // Of a header that is done.
  std::string method() const;
  std::string_view target() const;
  int version() const;      // 11 is HTTP/1.1
  bool keep_alive() const;  // as the version and Connection say
  HeaderList headers() const;
  std::optional<uint64_t> content_length() const;

  std::string& body();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace redoubt

#include "server/sse.h"

#include <fmt/format.h>

#include <cmath>
#include <iterator>

#include "core/utf8.h"

namespace redoubt {

void append_json_string(std::string& out, std::string_view text) {
  out.push_back('"');
  size_t clean = 0;  // start of the run that needs no escape
  for (size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\') {
      ++i;
      continue;
    }
    if (byte >= 0x80) {
      const CodePoint point = decode_utf8(text, i);
      if (!point.valid) {
        out.append(text.substr(clean, i - clean)).append("\xef\xbf\xbd");
        clean = i + static_cast<size_t>(point.bytes);
      }
      i += static_cast<size_t>(point.bytes);
      continue;
    }
    out.append(text.substr(clean, i - clean));
    switch (byte) {
      case '"':
        out.append("\\\"");
        break;
      case '\\':
        out.append("\\\\");
        break;
      case '\n':
        out.append("\\n");
        break;
      case '\r':
        out.append("\\r");
        break;
      case '\t':
        out.append("\\t");
        break;
      default:
        fmt::format_to(std::back_inserter(out), "\\u{:04x}", byte);
    }
    clean = ++i;
  }
  out.append(text.substr(clean)).push_back('"');
}

void append_json_number(std::string& out, double value) {
  if (!std::isfinite(value)) {
    out.append("null");
    return;
  }
  fmt::format_to(std::back_inserter(out), "{}", value);
}

}  // namespace redoubt

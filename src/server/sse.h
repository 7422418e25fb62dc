// Bytes of a streamed answer: JSON strings and server-sent events, appended to a buffer (no document is built per
// token).
#pragma once

#include <string>
#include <string_view>

namespace redoubt {

// Quoted and escaped; bytes that are not UTF-8 become U+FFFD.
void append_json_string(std::string& out, std::string_view text);
void append_json_number(std::string& out, double value);  // shortest form that reads back equal; not finite: null

inline void append_sse_data(std::string& out, std::string_view json) {
  out.append("data: ").append(json).append("\n\n");
}
inline void append_sse_event(std::string& out, std::string_view name, std::string_view json) {
  out.append("event: ").append(name).append("\ndata: ").append(json).append("\n\n");
}

}  // namespace redoubt

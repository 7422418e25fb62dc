// Records of JSON for people: one as lines of name and value, several as a table. With --json: as they are.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/result.h"

namespace redoubt {

std::string record_text(const Json& record);
// Columns by the records' fields; one whose name ends in "_at" is a time.
std::string table_text(const Json& records, const std::vector<std::string>& columns);
std::string json_lines(const Json& records);

// "90d", "12h", "30m" or "45s". Errors have `option` as param.
Result<int64_t> parse_seconds(std::string_view text, const std::string& option);

}  // namespace redoubt

// Whether the numbers of a JSON text are those that a reader of it keeps: integers of 64 bits are, and what is read as
// a double if its shortest spelling is the same number (3.141592653589793, 1e22, 0.30000000000000004: what Python and
// JavaScript write), but not 18446744073709551616 or 0.12345678901234567890.
#pragma once

#include <string_view>

namespace redoubt {

// Of valid JSON; what stands in its strings is no number.
bool numbers_are_as_written(std::string_view json);

}  // namespace redoubt

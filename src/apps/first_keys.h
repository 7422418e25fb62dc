// The keys of a first start, told to whoever started the server: shown once on a terminal, else written to first.key in
// the data folder (0600). With REDOUBT_BOOTSTRAP_KEY the user's key is known already: nothing is shown, and the
// appointing key lies in the file.
#pragma once

#include <filesystem>
#include <string>

#include "core/result.h"
#include "governance/directory.h"

namespace redoubt {

enum class Audience : uint8_t { terminal, file };

// What is to be printed on standard output, "" for nothing: on a terminal the keys of this start, or where those of an
// earlier one lie that nobody has taken away. `base_url` is the server's: "http://127.0.0.1:8000".
Result<std::string> tell_first_keys(const Directory::FirstKeys& keys, Audience audience,
                                    const std::filesystem::path& data, const std::string& base_url);

}  // namespace redoubt

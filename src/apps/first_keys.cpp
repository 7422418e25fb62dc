#include "apps/first_keys.h"

#include <fmt/format.h>

#include "core/private_file.h"

namespace redoubt {

Result<std::string> tell_first_keys(const Directory::FirstKeys& keys, Audience audience,
                                    const std::filesystem::path& data, const std::string& base_url) {
  const std::filesystem::path path = data / "first.key";
  const std::string where = fmt::format("keys     {} (read it, then remove it)\n", path.string());
  if (keys.user.empty() && keys.appointing.empty()) {
    // Of a start before this one that came to nothing, or that nobody was looking at.
    std::error_code error;
    return audience == Audience::terminal && std::filesystem::exists(path, error) ? where : std::string();
  }
  std::string text;
  const bool bootstrapped = keys.user.empty();
  if (!bootstrapped) {
    text += fmt::format(
        "user key        {}\n"
        "                curl {}/v1/chat/completions -H 'Authorization: Bearer {}' \\\n"
        "                  -H 'Content-Type: application/json' -d '{{\"max_tokens\": 100, \"messages\": [{{\"role\": "
        "\"user\", \"content\": \"Hello\"}}]}}'\n",
        keys.user, base_url, keys.user);
  }
  if (!keys.appointing.empty()) {
    text += fmt::format(
        "appointing key  {}\n"
        "                names the three administrators, once: redoubt user appoint --help\n",
        keys.appointing);
  }
  if (audience == Audience::terminal && !bootstrapped)
    return "These keys are shown this once; only their hashes are kept.\n" + text;
  REDOUBT_CHECK(write_private_file(path, text, IfThere::replace));
  return bootstrapped ? std::string() : where;
}

}  // namespace redoubt

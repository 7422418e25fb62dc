#include "server/admin_answer.h"

#include <fmt/format.h>

#include <algorithm>

#include "server/json_fields.h"
#include "server/routes_errors.h"

namespace redoubt {

Status check_fields(const Json& body, const std::vector<std::string>& names) {
  for (const auto& [name, value] : body.items()) {
    if (std::ranges::find(names, name) == names.end())
      return invalid(fmt::format("{}: there is no such field here", name.substr(0, 64)), name.substr(0, 64));
  }
  return ok();
}

AdminAnswer with_body(std::function<Result<Json>(const HttpRequest&, const Json& body)> answer) {
  return [answer = std::move(answer)](const HttpRequest& request) -> Result<Json> {
    REDOUBT_TRY(const Json body, parse_json_body(request.body));
    return answer(request, body);
  };
}

Handler answering(AdminAnswer answer) {
  return
      [answer = std::move(answer)](std::shared_ptr<const HttpRequest> request, std::shared_ptr<ResponseWriter> writer) {
        const auto json = answer(*request);
        if (!json) return send_styled_error(*writer, json.error(), ErrorStyle::openai);
        send_json(*writer, *json);
      };
}

}  // namespace redoubt

// Tools of OpenAI's type `custom`: they take a text where functions take JSON. The model is shown a function of one
// argument, `input`, and what it writes there is the tool's text.
#pragma once

#include <string>
#include <string_view>

#include "server/json_fields.h"

namespace redoubt {

struct CustomTool {
  std::string name;          // "" if there is none, which parse_chat_tools refuses
  Json function;             // {"type":"function","function":{…}}, for parse_chat_tools
  std::string format_field;  // where the expression stands that binds its text; "" if none does
};

// Of name, description and format: text, or a grammar whose syntax is regex. Errors: unsupported, a grammar of Lark's.
Result<CustomTool> read_custom_tool(const JsonFields& tool);
// {"input": …}: the arguments that stand for a text.
Json custom_arguments(std::string input);

// Reads the text out of a call's arguments as they come. Of arguments in another form, which a model that is not bound
// may write, all is the text.
class CustomInput {
 public:
  std::string push(std::string_view arguments);  // what the text has more; whole characters if `arguments` has
  std::string finish();                          // what is left of it

 private:
  void read(char c, std::string& out);
  void read_escape(char c, std::string& out);
  void add_unit(char32_t unit, std::string& out);
  void end_pair(std::string& out);

  enum class Place : uint8_t { opening, text, escape, hex, over, other };
  Place place_ = Place::opening;
  size_t opened_ = 0;   // characters of the opening that were read
  std::string kept_;    // what was read, until the text begins
  char32_t unit_ = 0;   // of \uXXXX
  int hex_digits_ = 0;  // read of it
  char32_t first_ = 0;  // the first half of a surrogate pair; 0: none
};
std::string custom_input(std::string_view arguments);

}  // namespace redoubt

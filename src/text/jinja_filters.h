// The tables of Jinja's filters: what stands behind "|".
#pragma once

#include <string_view>
#include <unordered_map>

#include "text/jinja_eval.h"

namespace redoubt::jinja {

using Filter = Value (*)(Evaluator&, const Value& input, Arguments&);
using FilterTable = std::unordered_map<std::string_view, Filter>;

const FilterTable& value_filters();
const FilterTable& sequence_filters();

}  // namespace redoubt::jinja

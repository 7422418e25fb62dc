// The log: one line an event, to standard error. Never prompt or completion text.
#pragma once

#include <spdlog/spdlog.h>

namespace redoubt::log {

using spdlog::debug;
using spdlog::error;
using spdlog::info;
using spdlog::warn;

}  // namespace redoubt::log

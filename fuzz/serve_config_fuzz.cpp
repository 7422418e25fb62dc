// The server's YAML configuration: no text may crash or hang the parser.
#include <cstddef>
#include <cstdint>

#include "apps/serve_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto config = redoubt::parse_serve_config({reinterpret_cast<const char*>(data), size}, "/etc/redoubt");
  if (config) static_cast<void>(config->validate());
  return 0;
}

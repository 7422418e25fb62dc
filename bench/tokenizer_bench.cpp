// How fast a tokenizer opens, encodes and decodes on one core.
//   tokenizer_bench TOKENIZER TEXT_FILE   a folder or .gguf, and any text; prints the median of five runs
// Processor time, not the clock on the wall: the program has one thread, and other work on the machine must not count.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>

#include "core/mapped_file.h"
#include "text/tokenizer.h"

namespace {

double median_seconds(const std::function<void()>& work) {
  std::vector<double> seconds;
  for (int run = 0; run < 5; ++run) {
    const std::clock_t start = std::clock();
    work();
    seconds.push_back(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "usage: tokenizer_bench TOKENIZER TEXT_FILE\n"), 2;
  const auto tokenizer = redoubt::Tokenizer::open(argv[1]);
  if (!tokenizer) return std::fprintf(stderr, "%s\n", tokenizer.error().message.c_str()), 1;
  const auto text = redoubt::read_text_file(argv[2]);
  if (!text) return std::fprintf(stderr, "%s\n", text.error().message.c_str()), 1;

  const auto marked = redoubt::MarkedText::plain(*text);
  std::vector<int32_t> ids;
  const double open = median_seconds([&] { static_cast<void>(redoubt::Tokenizer::open(argv[1]).has_value()); });
  const double encode = median_seconds([&] { ids = tokenizer->encode(marked); });
  const double decode = median_seconds([&] { static_cast<void>(tokenizer->decode(ids)); });
  const double megabytes = static_cast<double>(text->size()) / 1e6;
  std::printf("open %.0f ms; %.1f MB, %zu tokens: encode %.1f MB/s, decode %.1f MB/s\n", open * 1e3, megabytes,
              ids.size(), megabytes / encode, megabytes / decode);
  return 0;
}

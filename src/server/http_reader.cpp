// The one file that sees Boost.Beast.
#include "server/http_reader.h"

#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>

#include "core/lower_case.h"

namespace redoubt {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

// Grows as bytes come. The library's own string_body reserves what Content-Length claims.
struct GrowingBody {
  using value_type = std::string;
  class reader {
   public:
    template <bool is_request, class Fields>
    reader(http::header<is_request, Fields>&, value_type& body) : body_(body) {}
    void init(const boost::optional<std::uint64_t>&, beast::error_code& ec) { ec = {}; }
    template <class Buffers>
    size_t put(const Buffers& buffers, beast::error_code& ec) {
      ec = {};
      size_t size = 0;
      for (auto it = asio::buffer_sequence_begin(buffers); it != asio::buffer_sequence_end(buffers); ++it) {
        const asio::const_buffer piece(*it);
        body_.append(static_cast<const char*>(piece.data()), piece.size());
        size += piece.size();
      }
      return size;
    }
    void finish(beast::error_code& ec) { ec = {}; }

   private:
    value_type& body_;
  };
};

std::string_view view(boost::beast::string_view text) { return {text.data(), text.size()}; }

}  // namespace

struct HttpReader::Impl {
  http::request_parser<GrowingBody> parser;
  std::string last;  // of the header's bytes that were used

  // A header line that goes on in the next (obs-fold, RFC 9112 5.2): the parser would join the two, and another reader
  // before us may not have.
  bool folds(std::string_view used) {
    last.append(used.substr(0, 2));
    const auto found = [](std::string_view text) {
      return text.find("\r\n ") != std::string_view::npos || text.find("\r\n\t") != std::string_view::npos;
    };
    const bool folded = found(last) || found(used);
    last = used.size() >= 2 ? std::string(used.substr(used.size() - 2)) : last;
    return folded;
  }
};

HttpReader::HttpReader(size_t max_header_bytes) : impl_(std::make_unique<Impl>()) {
  impl_->parser.header_limit(static_cast<std::uint32_t>(max_header_bytes));
  impl_->parser.body_limit(boost::none);
}
HttpReader::~HttpReader() = default;

HttpReader::Step HttpReader::put(std::string_view bytes) {
  beast::error_code ec;
  Step step;
  const bool in_header = !impl_->parser.is_header_done();
  step.used = impl_->parser.put(asio::const_buffer(bytes.data(), bytes.size()), ec);
  if (in_header && impl_->folds(bytes.substr(0, step.used))) {
    step.outcome = Outcome::broken;
    step.message = "a header line that is folded";
    return step;
  }
  if (!ec) return step;
  if (ec == http::error::need_more) {
    step.outcome = Outcome::need_more;
  } else if (ec == http::error::header_limit) {
    step.outcome = Outcome::header_too_large;
  } else {
    step.outcome = Outcome::broken;
    step.message = ec.message();
  }
  return step;
}

bool HttpReader::header_done() const { return impl_->parser.is_header_done(); }
bool HttpReader::done() const { return impl_->parser.is_done(); }
std::string HttpReader::method() const { return std::string(view(impl_->parser.get().method_string())); }
std::string_view HttpReader::target() const { return view(impl_->parser.get().target()); }
int HttpReader::version() const { return static_cast<int>(impl_->parser.get().version()); }
bool HttpReader::keep_alive() const { return impl_->parser.get().keep_alive(); }

HeaderList HttpReader::headers() const {
  HeaderList result;
  for (const auto& field : impl_->parser.get()) {
    result.emplace_back(lower_case(view(field.name_string())), std::string(view(field.value())));
  }
  return result;
}

std::optional<uint64_t> HttpReader::content_length() const {
  const auto length = impl_->parser.content_length();
  return length ? std::optional<uint64_t>(*length) : std::nullopt;
}

std::string& HttpReader::body() { return impl_->parser.get().body(); }

}  // namespace redoubt

#include "server/peer_client.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>

#include <filesystem>

#include "governance/jwks_keeper.h"
#include "server/http_test_client.h"
#include "token_signer.h"

namespace redoubt {
namespace {

TEST(PeerUrl, IsTakenApart) {
  const auto plain = parse_peer_url("https://idp.example/keys?x=1");
  ASSERT_TRUE(plain);
  EXPECT_TRUE(plain->tls);
  EXPECT_EQ(plain->host, "idp.example");
  EXPECT_EQ(plain->port, "443");
  EXPECT_EQ(plain->path, "/keys?x=1");
  const auto six = parse_peer_url("http://[::1]:8080");
  ASSERT_TRUE(six);
  EXPECT_FALSE(six->tls);
  EXPECT_EQ(six->host, "::1");
  EXPECT_EQ(six->port, "8080");
  EXPECT_EQ(six->path, "/");
  for (const char* url :
       {"", "ftp://x/", "https://", "https://user:secret@host/", "https://host:port/", "https://host:/",
        "https://ho st/", "https://host/\r\nX: y", "https://[::1", "https://[::1]x/", "https://host/#f", "https:///x"})
    EXPECT_FALSE(parse_peer_url(url)) << url;
}

TEST(PeerResponse, IsReadByLengthByChunksOrToTheEnd) {
  const auto body = [](std::string_view bytes) {
    const auto response = parse_peer_response(bytes, 100);
    return response ? response->body : "error";
  };
  EXPECT_EQ(body("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc"), "ab");
  EXPECT_EQ(body("HTTP/1.1 200 OK\r\n\r\nabc"), "abc");
  EXPECT_EQ(body("HTTP/1.1 200 OK\r\nTransfer-Encoding:  Chunked \r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n"), "abc");
  EXPECT_EQ(parse_peer_response("HTTP/1.0 404 Not Found\r\n\r\n", 100)->status, 404);
  for (const char* bytes :
       {"", "HTTP/1.1 200 OK\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"})
    EXPECT_FALSE(parse_peer_response(bytes, 100)) << bytes;
  EXPECT_FALSE(parse_peer_response("HTTP/1.1 200 OK\r\n\r\n" + std::string(101, 'x'), 100));
}

Route echo() {
  return {.method = "POST", .path = "/echo", .rule = read_server_rule(), .handler = [](auto request, auto writer) {
            writer->send(201, "text/plain", std::string(request->header("x-word")) + request->body);
          }};
}

TEST(PeerClient, AsksAServerAndTakesItsAnswer) {
  const RunningServer server({echo()});
  const auto answer = ask_peer({.method = "POST",
                                .url = "http://127.0.0.1:" + std::to_string(server.port()) + "/echo",
                                .headers = {{"X-Word", "one"}},
                                .body = "two"});
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->status, 201);
  EXPECT_EQ(answer->body, "onetwo");
  EXPECT_FALSE(ask_peer({.url = "http://127.0.0.1:1/", .headers = {{"X", "a\r\nY: b"}}}));
}

TEST(PeerClient, PlainHttpGoesToLoopbackAlone) {
  const auto beyond = ask_peer({.url = "http://192.0.2.1/", .timeout_ms = 200});
  ASSERT_FALSE(beyond);
  EXPECT_EQ(beyond.error().code, ErrorCode::invalid_argument);
}

TEST(PeerClient, WhoDoesNotAnswerCostsNoMoreThanTheTimeLimit) {
  const int silent = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(silent, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(silent, 5), 0);
  ASSERT_EQ(::getsockname(silent, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string port = std::to_string(ntohs(address.sin_port));
  for (const char* scheme : {"http", "https"}) {
    const auto answer = ask_peer({.url = std::string(scheme) + "://127.0.0.1:" + port + "/", .timeout_ms = 200});
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, ErrorCode::unavailable);
  }
  ::close(silent);
  EXPECT_EQ(ask_peer({.url = "http://127.0.0.1:" + port + "/", .timeout_ms = 200}).error().code,
            ErrorCode::unavailable);
}

// Answers each connection over TLS with one body, by a certificate of its own for `name`.
class TlsPeer {
 public:
  explicit TlsPeer(const std::string& name, std::string body = "ok") : body_(std::move(body)) {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_NAME* subject = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("peer"), -1, -1, 0);
    X509_set_issuer_name(certificate, subject);
    X509_set_pubkey(certificate, key);
    X509_EXTENSION* names = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, name.c_str());
    X509_add_ext(certificate, names, -1);
    X509_EXTENSION_free(names);
    X509_sign(certificate, key, EVP_sha256());
    std::string file = (std::filesystem::temp_directory_path() / "redoubt_ca_XXXXXX").string();
    const int fd = mkstemp(file.data());
    std::FILE* out = fdopen(fd, "w");
    PEM_write_X509(out, certificate);
    std::fclose(out);
    ca_file = file;
    context_ = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(context_, certificate);
    SSL_CTX_use_PrivateKey(context_, key);
    X509_free(certificate);
    EVP_PKEY_free(key);
    listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ::bind(listener_, reinterpret_cast<sockaddr*>(&address), size);
    ::listen(listener_, 5);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    url = "https://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/keys";
    thread_ = std::thread([this] { serve(); });
  }
  ~TlsPeer() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
    SSL_CTX_free(context_);
    std::filesystem::remove(ca_file);
  }
  std::string url, ca_file;

 private:
  void serve() {
    for (int fd = ::accept(listener_, nullptr, nullptr); fd >= 0; fd = ::accept(listener_, nullptr, nullptr)) {
      SSL* ssl = SSL_new(context_);
      SSL_set_fd(ssl, fd);
      char buffer[4096];
      if (SSL_accept(ssl) == 1 && SSL_read(ssl, buffer, sizeof buffer) > 0) {
        const std::string answer =
            "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body_.size()) + "\r\n\r\n" + body_;
        SSL_write(ssl, answer.data(), static_cast<int>(answer.size()));
        SSL_shutdown(ssl);
      }
      SSL_free(ssl);
      ::close(fd);
    }
  }
  std::string body_;
  SSL_CTX* context_ = nullptr;
  int listener_ = -1;
  std::thread thread_;
};

TEST(PeerClient, TrustsAPeerByItsAuthorityAndName) {
  signal(SIGPIPE, SIG_IGN);
  const TlsPeer peer("IP:127.0.0.1"), other("DNS:other.example");
  const auto trusted = ask_peer({.url = peer.url, .ca_file = peer.ca_file});
  ASSERT_TRUE(trusted) << trusted.error().message;
  EXPECT_EQ(trusted->body, "ok");
  const auto unknown = ask_peer({.url = peer.url});
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().message.find("not trusted"), std::string::npos) << unknown.error().message;
  EXPECT_FALSE(ask_peer({.url = peer.url, .ca_file = other.ca_file}));
  const auto misnamed = ask_peer({.url = other.url, .ca_file = other.ca_file});
  ASSERT_FALSE(misnamed);
  EXPECT_NE(misnamed.error().message.find("not trusted"), std::string::npos) << misnamed.error().message;
}

TEST(PeerClient, FetchesTheKeysOfAnIdentityProvider) {
  signal(SIGPIPE, SIG_IGN);
  const test::TokenSigner signer(SignatureAlgorithm::es256);
  const TlsPeer provider("IP:127.0.0.1", signer.jwks());
  const auto verifier = OidcVerifier::create({{.name = "corp",
                                               .issuer = "https://idp",
                                               .audiences = {"a"},
                                               .jwks_url = provider.url,
                                               .jwks_ca = provider.ca_file}})
                            .value();
  const auto fetch = [&](const OidcProvider& from) -> Result<std::string> {
    REDOUBT_TRY(PeerResponse response, ask_peer({.url = from.jwks_url, .ca_file = from.jwks_ca}));
    return std::move(response.body);
  };
  const SteadyClock clock;
  const JwksKeeper keeper(*verifier, {.fetch = fetch, .look_ms = 0}, clock);
  const auto claims =
      verifier->verify(signer.token({{"iss", "https://idp"}, {"aud", "a"}, {"sub", "x"}, {"exp", 2000}}), 1000);
  ASSERT_TRUE(claims) << claims.error().message;
  EXPECT_EQ(claims->subject, "x");
}

}  // namespace
}  // namespace redoubt

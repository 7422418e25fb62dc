// TLS, client certificates, proxies and the admin listener, over real sockets. Certificates are made by the openssl
// command (an own CA in a temporary folder).
#include <openssl/ssl.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "log_lines.h"
#include "server/http_test_client.h"

namespace redoubt {
namespace {

namespace fs = std::filesystem;

Route route(std::string path, RouteRule rule) {
  return {.method = "GET", .path = std::move(path), .rule = std::move(rule), .handler = [](auto request, auto writer) {
            const std::string name = request->tls_peer ? request->tls_peer->subject + "|" : "";
            std::string names;
            for (const std::string& text : request->tls_peer ? request->tls_peer->names : std::vector<std::string>())
              names += text + "|";
            writer->send(200, "text/plain", "from " + request->remote_address + " " + name + names);
          }};
}

std::string get(const std::string& path, const std::string& more = "") {
  return "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + more + "\r\n";
}

// A CA, a server certificate, clients, and revocation.
class Authority {
 public:
  Authority()
      : folder_(fs::temp_directory_path() /
                ("redoubt-tls-" + std::to_string(getpid()) + "-" + std::to_string(next_++))) {
    fs::create_directories(folder_);
    std::ofstream(folder_ / "ca.cnf") << "[ca]\ndefault_ca=d\n[d]\ndatabase=" << (folder_ / "index").string()
                                      << "\ncrlnumber=" << (folder_ / "number").string()
                                      << "\ndefault_md=sha256\ndefault_crl_days=30\nunique_subject=no\n";
    std::ofstream(folder_ / "index");
    std::ofstream(folder_ / "number") << "01\n";
    made_ =
        run("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 30 -subj "
            "/CN=CA -addext keyUsage=critical,keyCertSign,cRLSign");
    issue("server", "serverAuth", "DNS:localhost,IP:127.0.0.1");
    write_crl();
  }
  ~Authority() { fs::remove_all(folder_); }

  bool made() const { return made_; }
  fs::path file(const std::string& name) const { return folder_ / name; }
  void issue(const std::string& name, const std::string& usage, const std::string& names) {
    std::ofstream(folder_ / (name + ".ext")) << "extendedKeyUsage=" << usage << "\nsubjectAltName=" << names << "\n";
    made_ = made_ &&
            run("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout " + name + ".key -out " + name +
                ".csr -subj /O=Bank/CN=" + name) &&
            run("x509 -req -in " + name + ".csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile " + name +
                ".ext -out " + name + ".pem");
    fs::permissions(file(name + ".key"), fs::perms::owner_read | fs::perms::owner_write);
  }
  void write_crl() {
    made_ = made_ && run("ca -config ca.cnf -gencrl -keyfile ca.key -cert ca.pem -out crl.new") &&
            swap_in("crl.new", "crl.pem");
  }
  void revoke(const std::string& name) {
    made_ = made_ && run("ca -config ca.cnf -revoke " + name + ".pem -keyfile ca.key -cert ca.pem");
    write_crl();
  }
  bool write_expired_crl() {
    return run("ca -config ca.cnf -gencrl -crl_lastupdate 20200101000000Z -crl_nextupdate 20200201000000Z -keyfile "
               "ca.key "
               "-cert ca.pem -out crl.new") &&
           swap_in("crl.new", "crl.pem");
  }
  bool write_crl_that_ends(int64_t at_s) {
    char end[32];
    tm parts{};
    const time_t at = at_s;
    std::strftime(end, sizeof end, "%Y%m%d%H%M%SZ", gmtime_r(&at, &parts));
    return run("ca -config ca.cnf -gencrl -crl_lastupdate 20200101000000Z -crl_nextupdate " + std::string(end) +
               " -keyfile ca.key -cert ca.pem -out crl.new") &&
           swap_in("crl.new", "crl.pem");
  }
  bool swap_in(const std::string& from, const std::string& to) {
    std::error_code error;
    fs::rename(file(from), file(to), error);
    return !error;
  }
  TlsOptions options(ClientCertificates clients) const {
    TlsOptions options{.certificate = file("server.pem"), .key = file("server.key"), .clients = clients};
    if (clients != ClientCertificates::none) {
      options.client_ca = file("ca.pem");
      options.client_crl = file("crl.pem");
    }
    return options;
  }

 private:
  bool run(const std::string& arguments) const {
    return std::system(("cd " + folder_.string() + " && openssl " + arguments + " >/dev/null 2>&1").c_str()) == 0;
  }
  static inline std::atomic<int> next_{0};
  fs::path folder_;
  bool made_ = false;
};

// One request over TLS; "" if the handshake or the connection failed.
class TlsClient {
 public:
  TlsClient(const Authority& authority, const std::string& certificate = "", int most = 0)
      : context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free) {
    SSL_CTX_load_verify_locations(context_.get(), authority.file("ca.pem").c_str(), nullptr);
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
    if (most != 0) SSL_CTX_set_max_proto_version(context_.get(), most);
    if (!certificate.empty()) {
      SSL_CTX_use_certificate_chain_file(context_.get(), authority.file(certificate + ".pem").c_str());
      SSL_CTX_use_PrivateKey_file(context_.get(), authority.file(certificate + ".key").c_str(), SSL_FILETYPE_PEM);
    }
  }
  // The connection stays open until the next, or until the client goes.
  bool connect(uint16_t port, const std::string& before = "") {
    ssl_.reset(SSL_new(context_.get()));
    socket_ = std::make_unique<RawClient>(port);
    socket_->send(before);
    SSL_set_fd(ssl_.get(), socket_->fd());
    timeval patience{5, 0};
    setsockopt(socket_->fd(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return SSL_connect(ssl_.get()) == 1;
  }
  std::string ask(uint16_t port, const std::string& request, const std::string& before = "") {
    if (!connect(port, before)) return "";
    return ask_again(request);
  }
  std::string ask_again(const std::string& request) {
    SSL_write(ssl_.get(), request.data(), static_cast<int>(request.size()));
    return read();
  }
  std::string read() {
    std::string answer;
    char buffer[4096];
    for (int count; (count = SSL_read(ssl_.get(), buffer, sizeof buffer)) > 0;)
      answer.append(buffer, static_cast<size_t>(count));
    return answer;
  }
  std::string server_serial() const {
    const std::unique_ptr<X509, decltype(&X509_free)> certificate(SSL_get1_peer_certificate(ssl_.get()), X509_free);
    const std::unique_ptr<BIGNUM, decltype(&BN_free)> number(
        ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate.get()), nullptr), BN_free);
    const std::unique_ptr<char, void (*)(char*)> text(BN_bn2hex(number.get()), [](char* p) { OPENSSL_free(p); });
    return text.get();
  }
  std::string version() const { return SSL_get_version(ssl_.get()); }

 private:
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  std::unique_ptr<RawClient> socket_;
  struct Free {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };
  std::unique_ptr<SSL, Free> ssl_;
};

std::vector<Route> site() {
  std::vector<Route> routes;
  routes.push_back(route("/hello", read_server_rule()));
  return routes;
}

TEST(HttpTls, ServesTls13AloneAndReadsItsCertificateAgain) {
  Authority authority;
  if (!authority.made()) GTEST_SKIP() << "the openssl command is not here";
  HttpOptions options;
  options.tls = authority.options(ClientCertificates::none);
  RunningServer server(site(), options);
  TlsClient client(authority);
  EXPECT_TRUE(client.ask(server.port(), get("/hello")).ends_with("from 127.0.0.1 "));
  EXPECT_EQ(client.version(), "TLSv1.3");
  EXPECT_EQ(TlsClient(authority, "", TLS1_2_VERSION).ask(server.port(), get("/hello")), "");
  EXPECT_EQ(status_of(server.ask(get("/hello"))), 0) << "plain HTTP on the TLS port";

  const std::string before = client.server_serial();
  authority.issue("server", "serverAuth", "DNS:localhost,IP:127.0.0.1");
  EXPECT_TRUE(eventually([&] { return client.connect(server.port()) && client.server_serial() != before; }, 5000));
  const std::string after = client.server_serial();
  // A file that is only half there takes nothing down.
  std::ofstream(authority.file("server.pem")) << "-----BEGIN CERT";
  std::this_thread::sleep_for(std::chrono::milliseconds(1600));
  ASSERT_TRUE(client.connect(server.port()));
  EXPECT_EQ(client.server_serial(), after);
}

TEST(HttpTls, AskForClientCertificatesAndNoticesRevocation) {
  Authority authority;
  authority.issue("alice", "clientAuth", "DNS:alice.bank.example,URI:spiffe://bank/alice,email:alice@bank.example");
  authority.issue("bob", "clientAuth", "DNS:bob.bank.example");
  Authority other;
  other.issue("alice", "clientAuth", "DNS:alice.bank.example");
  if (!authority.made() || !other.made()) GTEST_SKIP() << "the openssl command is not here";
  HttpOptions options;
  options.tls = authority.options(ClientCertificates::require);
  RunningServer server(site(), options);
  EXPECT_EQ(TlsClient(authority).ask(server.port(), get("/hello")), "");
  EXPECT_EQ(TlsClient(authority, "server").ask(server.port(), get("/hello")), "") << "a server's is no client's";
  TlsClient alice(authority, "alice");
  const std::string answer = alice.ask(server.port(), get("/hello"));
  EXPECT_TRUE(
      answer.ends_with("CN=alice,O=Bank|DNS:alice.bank.example|URI:spiffe://bank/alice|EMAIL:alice@bank.example|"))
      << answer;

  TlsClient bob(authority, "bob");
  ASSERT_TRUE(bob.connect(server.port()));
  EXPECT_EQ(status_of(TlsClient(authority, "bob").ask(server.port(), get("/hello"))), 200);
  authority.revoke("bob");
  EXPECT_EQ(bob.read(), "") << "a connection that was open is cut";
  EXPECT_TRUE(eventually([&] { return TlsClient(authority, "bob").ask(server.port(), get("/hello")).empty(); }, 5000));
  EXPECT_EQ(status_of(alice.ask(server.port(), get("/hello"))), 200);
}

// Whoever wonders why nobody comes in any more is told.
TEST(HttpTls, AListOfRevocationThatIsOverIsSaidOnce) {
  Authority authority;
  if (!authority.made()) GTEST_SKIP() << "the openssl command is not here";
  const test::LogLines lines;
  const auto context = TlsContext::open(authority.options(ClientCertificates::require));
  ASSERT_TRUE(context) << context.error().message;
  EXPECT_EQ(lines.count("expired"), 0);
  ASSERT_TRUE(authority.write_expired_crl());
  EXPECT_TRUE(*(*context)->reload_if_changed());
  EXPECT_EQ(lines.count("expired: every certificate"), 1);
  EXPECT_FALSE(*(*context)->reload_if_changed());
  EXPECT_EQ(lines.count("expired: every certificate"), 1);
  EXPECT_TRUE(TlsContext::open(authority.options(ClientCertificates::require)));
  EXPECT_EQ(lines.count("expired: every certificate"), 2);
}

// Its file stays as it is, so that only the clock tells.
TEST(HttpTls, OpenConnectionsEndWithTheListThatSpokeForThem) {
  Authority authority;
  authority.issue("alice", "clientAuth", "DNS:alice.bank.example");
  if (!authority.made()) GTEST_SKIP() << "the openssl command is not here";
  ASSERT_TRUE(authority.write_crl_that_ends(std::time(nullptr) + 4));
  HttpOptions options;
  options.tls = authority.options(ClientCertificates::require);
  std::vector<Route> routes = site();
  std::mutex mutex;
  std::vector<std::shared_ptr<ResponseWriter>> kept;
  routes.push_back({.method = "GET", .path = "/slow", .rule = read_server_rule(), .handler = [&](auto, auto writer) {
                      const std::lock_guard lock(mutex);
                      kept.push_back(writer);
                    }});
  RunningServer server(std::move(routes), options);
  TlsClient idle(authority, "alice"), stream(authority, "alice");
  ASSERT_TRUE(idle.connect(server.port()));
  ASSERT_TRUE(stream.connect(server.port()));
  std::thread asking([&] { EXPECT_EQ(stream.ask_again("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"), ""); });
  EXPECT_EQ(server.server->open_connections(), 2);
  EXPECT_TRUE(eventually([&] { return server.server->open_connections() == 0; }, 8000));
  asking.join();
}

TEST(HttpTls, ManyStreamsAndALargeAnswerArriveWhole) {
  Authority authority;
  if (!authority.made()) GTEST_SKIP() << "the openssl command is not here";
  HttpOptions options;
  options.tls = authority.options(ClientCertificates::none);
  const std::string large(3 << 20, 'x');
  std::vector<Route> routes;
  routes.push_back({.method = "GET", .path = "/large", .rule = read_server_rule(), .handler = [&](auto, auto writer) {
                      writer->send(200, "text/plain", large);
                    }});
  routes.push_back(
      {.method = "POST", .path = "/echo", .rule = read_server_rule(), .handler = [](auto request, auto writer) {
         writer->send(200, "text/plain", std::to_string(request->body.size()));
       }});
  RunningServer server(std::move(routes), options);
  TlsClient client(authority);
  const std::string answer = client.ask(server.port(), get("/large"));
  EXPECT_EQ(answer.size() - answer.find("\r\n\r\n") - 4, large.size());
  EXPECT_TRUE(client
                  .ask(server.port(),
                       "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3145728\r\n\r\n" + large)
                  .ends_with("\r\n\r\n3145728"));
  // Two requests in one record: nothing announces the second.
  const std::string two = client.ask(server.port(), "GET /none HTTP/1.1\r\nHost: x\r\n\r\n" + get("/none"));
  EXPECT_EQ(status_of(two), 404);
  EXPECT_NE(two.find("HTTP/1.1 404", 20), std::string::npos);
}

TEST(HttpListeners, AdministrationHasASocketOfItsOwn) {
  std::vector<Route> routes = site();
  routes.push_back(route("/admin/v1/keys", admin_rule("manage_keys")));
  routes.push_back(route("/metrics", read_metrics_rule()));
  routes.push_back(route("/livez", status_rule()));
  HttpOptions options;
  class Everybody final : public Gate {
   public:
    class Yes final : public redoubt::Authority {
     public:
      Verdict decide(const Principal&, const AccessQuestion&) const override { return Verdict::permitted; }
      Status still_valid(const Principal&) const override { return ok(); }
      uint64_t version() const override { return 0; }
    };
    std::variant<std::shared_ptr<Permit>, ApiError> enter(const HttpRequest& head, const Route* r) override {
      return enter_route(permits_.issue(std::make_shared<Principal>()), head, r);
    }
    PermitRegister permits_{std::make_shared<Yes>(), {}};
  };
  options.gate = std::make_shared<Everybody>();
  options.admin = AdminListener{};
  RunningServer server(std::move(routes), options);
  const uint16_t admin = server.server->admin_port();
  ASSERT_NE(admin, 0);
  const auto ask = [](uint16_t port, const std::string& path) {
    RawClient client(port);
    client.send(get(path));
    return status_of(client.read_all());
  };
  EXPECT_EQ(ask(server.port(), "/admin/v1/keys"), 404) << "even for who may administer";
  EXPECT_EQ(ask(admin, "/admin/v1/keys"), 200);
  EXPECT_EQ(ask(admin, "/hello"), 404);
  for (const uint16_t port : {server.port(), admin}) {
    EXPECT_EQ(ask(port, "/metrics"), 200);
    EXPECT_EQ(ask(port, "/livez"), 200);
  }
  const auto second = HttpServer::listen(
      {.port = 0, .gate = options.gate, .admin = AdminListener{.port = admin, .or_any_port = true}}, {});
  ASSERT_TRUE(second);
  EXPECT_NE((*second)->admin_port(), admin);
}

TEST(HttpListeners, BeyondLoopbackNeedsTlsOrSomebodyWhoEndsIt) {
  HttpOptions options{.host = "0.0.0.0", .port = 0, .gate = make_key_file_gate({"k"})};
  const auto refused = HttpServer::listen(options, {});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("--behind-tls-proxy"), std::string::npos) << refused.error().message;
  options.behind_tls_proxy = true;
  EXPECT_TRUE(HttpServer::listen(options, {}));
  options.gate = make_open_gate();
  EXPECT_FALSE(HttpServer::listen(options, {})) << "auth: off is for loopback";
  Authority authority;
  if (!authority.made()) GTEST_SKIP() << "the openssl command is not here";
  options = {.host = "0.0.0.0", .port = 0, .gate = make_key_file_gate({"k"})};
  options.tls = authority.options(ClientCertificates::none);
  EXPECT_TRUE(HttpServer::listen(options, {}));
  options = {.port = 0, .gate = make_key_file_gate({"k"})};
  options.admin = AdminListener{.host = "0.0.0.0"};
  EXPECT_FALSE(HttpServer::listen(options, {})) << "the admin listener too";
}

TEST(HttpListeners, TheSourceAddressIsThePeersUnlessATrustedProxySaysBetter) {
  const std::string proxy = "PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\n";
  {
    RunningServer server(site());
    EXPECT_TRUE(server.ask(get("/hello", "X-Forwarded-For: 203.0.113.9\r\n")).ends_with("from 127.0.0.1 "));
    EXPECT_EQ(status_of(server.ask(proxy + get("/hello"))), 400);
  }
  HttpOptions options;
  options.trusted_proxies = {"127.0.0.0/8"};
  {
    RunningServer server(site(), options);
    EXPECT_TRUE(server.ask(get("/hello", "X-Forwarded-For: 1.1.1.1, 203.0.113.9\r\n")).ends_with("from 203.0.113.9 "));
  }
  options.proxy_protocol = true;
  {
    RunningServer server(site(), options);
    EXPECT_TRUE(server.ask(proxy + get("/hello")).ends_with("from 203.0.113.9 "));
    EXPECT_TRUE(server.ask(proxy + get("/hello", "X-Forwarded-For: 1.1.1.1\r\n")).ends_with("from 203.0.113.9 "))
        << "the client that the proxy speaks for is no proxy";
    EXPECT_TRUE(server.ask("PROXY TCP4 127.0.0.9 192.0.2.1 1 2\r\n" + get("/hello", "X-Forwarded-For: 1.1.1.1\r\n"))
                    .ends_with("from 127.0.0.9 "))
        << "a client's header, whatever the address it comes from";
    EXPECT_EQ(server.ask(get("/hello")), "") << "a trusted proxy must say whom it speaks for";
    RawClient slow(server.port());
    for (const char c : proxy) {
      slow.send(std::string(1, c));
      if (c == ' ') std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    slow.send(get("/hello"));
    EXPECT_TRUE(slow.read_all().ends_with("from 203.0.113.9 "));
    Authority authority;
    if (!authority.made()) GTEST_SKIP() << "the openssl command is not here";
    HttpOptions tls = options;
    tls.tls = authority.options(ClientCertificates::none);
    RunningServer over_tls(site(), tls);
    EXPECT_TRUE(TlsClient(authority).ask(over_tls.port(), get("/hello"), proxy).ends_with("from 203.0.113.9 "));
  }
}

}  // namespace
}  // namespace redoubt

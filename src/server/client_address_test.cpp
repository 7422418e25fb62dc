#include "server/client_address.h"

#include <gtest/gtest.h>

#include "log_lines.h"
#include "server/proxy_protocol.h"

namespace redoubt {
namespace {

TEST(IpAddress, ReadsWhatItWritesAndNothingElse) {
  for (const char* text : {"192.0.2.7", "::1", "2001:db8::7"}) EXPECT_EQ(IpAddress::parse(text)->text(), text);
  EXPECT_EQ(IpAddress::parse("::ffff:192.0.2.7")->text(), "192.0.2.7");
  for (const char* text : {"", "192.0.2", "192.0.2.256", " 192.0.2.7", "192.0.2.7:80", "[::1]", "localhost", "0x7f.1"})
    EXPECT_FALSE(IpAddress::parse(text)) << text;
  EXPECT_FALSE(IpAddress::parse(std::string_view("127.0.0.1\0x", 11)));
  EXPECT_TRUE(IpAddress::parse("127.9.9.9")->loopback());
  EXPECT_TRUE(IpAddress::parse("::ffff:127.0.0.1")->loopback());
  EXPECT_FALSE(IpAddress::parse("0.0.0.0")->loopback());
}

TEST(LoopbackHost, IsAnAddressOfThisMachineOrLocalhost) {
  for (const char* yes : {"localhost", "127.0.0.1", "127.9.9.9", "::1"}) {
    const auto found = is_loopback_host(yes);
    ASSERT_TRUE(found) << yes;
    EXPECT_TRUE(*found) << yes;
  }
  for (const char* no : {"0.0.0.0", "::", "192.0.2.7"}) {
    const auto found = is_loopback_host(no);
    ASSERT_TRUE(found) << no;
    EXPECT_FALSE(*found) << no;
  }
  for (const char* neither : {"", "bank.example", "[::1]"}) EXPECT_FALSE(is_loopback_host(neither)) << neither;
}

TEST(TrustedProxies, AreAddressesAndRanges) {
  const auto trusted = TrustedProxies::parse({"10.0.0.0/8", "192.0.2.7", "fd00::/8"});
  ASSERT_TRUE(trusted);
  for (const char* yes : {"10.255.0.1", "192.0.2.7", "fd12::1", "::ffff:10.1.1.1"})
    EXPECT_TRUE(trusted->contains(yes)) << yes;
  for (const char* no : {"11.0.0.1", "192.0.2.8", "fe00::1", "", "x"}) EXPECT_FALSE(trusted->contains(no)) << no;
  for (const char* wrong : {"10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "host", "10.0.0.0/8x", "::/129"})
    EXPECT_FALSE(TrustedProxies::parse({wrong})) << wrong;
}

TEST(ClientAddress, IsThePeersUnlessATrustedProxySaysBetter) {
  const auto trusted = TrustedProxies::parse({"10.0.0.0/8"});
  ASSERT_TRUE(trusted);
  const auto of = [&](std::string_view peer, const std::vector<std::string_view>& headers) {
    return client_address(peer, headers, *trusted).address;
  };
  EXPECT_EQ(of("192.0.2.1", {"127.0.0.1"}), "192.0.2.1") << "a stranger's word is not taken";
  EXPECT_EQ(of("10.0.0.1", {}), "10.0.0.1");
  EXPECT_EQ(of("10.0.0.1", {"203.0.113.9"}), "203.0.113.9");
  EXPECT_EQ(of("10.0.0.1", {"127.0.0.1, 203.0.113.9"}), "203.0.113.9") << "what stands before it the client wrote";
  EXPECT_EQ(of("10.0.0.1", {"1.1.1.1", "203.0.113.9 , 10.2.2.2"}), "203.0.113.9");
  EXPECT_EQ(of("10.0.0.1", {"1.1.1.1, unknown, 10.2.2.2"}), "10.2.2.2");
  EXPECT_EQ(of("10.0.0.1", {""}), "10.0.0.1");
}

TEST(ForwardedEntry, IsReadAsProxiesWriteIt) {
  for (const char* text :
       {"192.0.2.7", "192.0.2.7:5123", "\"192.0.2.7\"", "\"192.0.2.7:5123\"", "[::ffff:192.0.2.7]:80"})
    EXPECT_EQ(parse_forwarded_entry(text).value_or(IpAddress()).text(), "192.0.2.7") << text;
  for (const char* text : {"2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:443", "\"[2001:db8::1]\"",
                           "\"[2001:db8::1]:443\"", "\"2001:db8::1\""})
    EXPECT_EQ(parse_forwarded_entry(text).value_or(IpAddress()).text(), "2001:db8::1") << text;
  for (const char* text : {"",
                           "unknown",
                           "_hidden",
                           "\"",
                           "\"\"",
                           "192.0.2.7:",
                           "192.0.2.7:x",
                           "192.0.2.7:123456",
                           "192.0.2.7:-1",
                           ":80",
                           "[192.0.2.7]:80",
                           "[2001:db8::1",
                           "2001:db8::1]",
                           "[2001:db8::1]443",
                           "[2001:db8::1]:",
                           "[]",
                           "[]:80",
                           "\"192.0.2.7",
                           "192.0.2.7\"",
                           "bank.example:80",
                           "192.0.2.7 :80",
                           "for=192.0.2.7",
                           "[[::1]]"})
    EXPECT_FALSE(parse_forwarded_entry(text)) << text;
}

TEST(ClientAddress, PortsBracketsAndQuotesAreRead) {
  const auto trusted = TrustedProxies::parse({"10.0.0.0/8"});
  ASSERT_TRUE(trusted);
  EXPECT_EQ(client_address("10.0.0.1", {"203.0.113.9:5123, 10.2.2.2:80"}, *trusted).address, "203.0.113.9");
  EXPECT_EQ(client_address("10.0.0.1", {"127.0.0.1", "\"[2001:db8::1]:443\""}, *trusted).address, "2001:db8::1");
  const ClientAddress unread = client_address("10.0.0.1", {"203.0.113.9, unknown , 10.2.2.2"}, *trusted);
  EXPECT_EQ(unread.address, "10.2.2.2");
  EXPECT_EQ(unread.unread, "unknown");
  EXPECT_FALSE(client_address("192.0.2.1", {"unknown"}, *trusted).unread) << "a stranger's word is not looked at";
  EXPECT_FALSE(client_address("10.0.0.1", {"unknown, 203.0.113.9"}, *trusted).unread);
}

TEST(UnreadForwarded, IsToldOnceAnHourForEachProxy) {
  ManualClock clock;
  UnreadForwarded unread(clock);
  const test::LogLines log;
  const ClientAddress client{.address = "10.2.2.2", .unread = "unknown"};
  unread.tell("10.0.0.1", {.address = "203.0.113.9", .unread = {}});
  EXPECT_EQ(log.text(), "");
  for (int i = 0; i < 3; ++i) unread.tell("10.0.0.1", client);
  EXPECT_EQ(
      log.count("X-Forwarded-For of proxy 10.0.0.1: expected addresses, found \"unknown\"; such requests count as "
                "from 10.2.2.2"),
      1)
      << log.text();
  unread.tell("10.0.0.2", client);
  EXPECT_EQ(log.count("of proxy 10.0.0.2"), 1);
  clock.advance_ns(int64_t{3599} * 1'000'000'000);
  unread.tell("10.0.0.1", client);
  EXPECT_EQ(log.count("of proxy 10.0.0.1"), 1);
  clock.advance_ns(1'000'000'000);
  unread.tell("10.0.0.1", client);
  EXPECT_EQ(log.count("of proxy 10.0.0.1"), 2);
}

TEST(UnreadForwarded, ShowsAShortPrintablePieceAndRemembersABoundedNumber) {
  const ManualClock clock;
  UnreadForwarded unread(clock);
  const test::LogLines log;
  unread.tell("10.0.0.1",
              {.address = "10.0.0.1", .unread = "a\x1b[2J\"\nb\xff 0123456789012345678901234567890 secret"});
  EXPECT_EQ(log.count("\"a?[2J??b? 0123456789012345678901\"…"), 1) << log.text();
  EXPECT_EQ(log.count("secret"), 0);
  for (int i = 0; i < 5000; ++i) unread.tell("10.1." + std::to_string(i), {.address = "10.0.0.1", .unread = "x"});
  EXPECT_EQ(log.count("X-Forwarded-For"), 1024);
}

TEST(ProxyProtocol, VersionOne) {
  const auto parsed = [](std::string_view bytes) { return parse_proxy_header(bytes); };
  const std::string line = "PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\n";
  auto header = parsed(line + "GET / HTTP/1.1");
  ASSERT_TRUE(header);
  EXPECT_EQ(header->bytes, line.size());
  EXPECT_EQ(header->address, "203.0.113.9");
  for (size_t size = 0; size < line.size(); ++size) {
    header = parsed(line.substr(0, size));
    ASSERT_TRUE(header) << size;
    EXPECT_EQ(header->bytes, 0u) << size;
  }
  EXPECT_EQ(parsed("PROXY TCP6 2001:db8::9 ::1 1 2\r\n")->address, "2001:db8::9");
  header = parsed("PROXY UNKNOWN\r\n");
  EXPECT_TRUE(header && header->bytes == 15 && header->address.empty());
  for (const char* wrong :
       {"GET / HTTP/1.1\r\n", "PROXY TCP4 203.0.113.9 192.0.2.1 56324\r\n", "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP4 203.0.113.9 192.0.2.1 56324 4x3\r\n", "PROXY  TCP4 203.0.113.9 192.0.2.1 1 2\r\n",
        "PROXY TCP5 203.0.113.9 192.0.2.1 1 2\r\n", "proxy TCP4 203.0.113.9 192.0.2.1 1 2\r\n"})
    EXPECT_FALSE(parsed(wrong)) << wrong;
  EXPECT_FALSE(parsed("PROXY " + std::string(200, 'x')));
}

TEST(ProxyProtocol, VersionTwo) {
  const std::string signature("\r\n\r\n\0\r\nQUIT\n", 12);
  const std::string v4 =
      signature + std::string("\x21\x11\x00\x0c\xcb\x00\x71\x09\xc0\x00\x02\x01\xdc\x04\x01\xbb", 16);
  auto header = parse_proxy_header(v4 + "rest");
  ASSERT_TRUE(header);
  EXPECT_EQ(header->bytes, 28u);
  EXPECT_EQ(header->address, "203.0.113.9");
  for (size_t size = 0; size < v4.size(); ++size) EXPECT_EQ(parse_proxy_header(v4.substr(0, size))->bytes, 0u);
  header = parse_proxy_header(signature + std::string("\x20\x00\x00\x00", 4));  // LOCAL
  EXPECT_TRUE(header && header->bytes == 16 && header->address.empty());
  std::string v6 =
      signature + std::string("\x21\x21\x00\x27", 4) + std::string(15, '\0') + "\x09" + std::string(23, '\0');
  EXPECT_EQ(parse_proxy_header(v6)->address, "::9");
  EXPECT_EQ(parse_proxy_header(v6)->bytes, 16u + 39u) << "options are skipped";
  for (const std::string& wrong :
       {std::string("\x11\x11\x00\x0c", 4), std::string("\x22\x11\x00\x0c", 4), std::string("\x21\x12\x00\x0c", 4),
        std::string("\x21\x11\x00\x04", 4), std::string("\x21\x11\xff\xff", 4), std::string("\x21\x31\x00\x0c", 4)})
    EXPECT_FALSE(parse_proxy_header(signature + wrong + std::string(12, '\1')));
}

}  // namespace
}  // namespace redoubt

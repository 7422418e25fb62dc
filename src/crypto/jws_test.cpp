#include "crypto/jws.h"

#include <gtest/gtest.h>
#include <openssl/err.h>

#include "token_signer.h"

namespace redoubt {
namespace {

using test::base64url_of;
using test::TokenSigner;

constexpr SignatureAlgorithm kAll[] = {SignatureAlgorithm::rs256, SignatureAlgorithm::ps256, SignatureAlgorithm::es256,
                                       SignatureAlgorithm::eddsa};

bool verifies(const std::string& token, const JwkSet& keys, std::span<const SignatureAlgorithm> allowed = kAll) {
  const auto jws = parse_jws(token);
  return jws && verify_jws(*jws, keys, allowed);
}
JwkSet set_of(const Json& jwk) { return JwkSet::parse(dump_json(Json{{"keys", Json::array({jwk})}})).value(); }

constexpr std::string_view kJoe =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

TEST(Jws, VerifiesTheRfcsExamples) {
  // RFC 7515 A.2
  const JwkSet rsa = set_of(
      {{"kty", "RSA"},
       {"n",
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-"
        "pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-"
        "UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_"
        "h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"},
       {"e", "AQAB"}});
  EXPECT_TRUE(
      verifies("eyJhbGciOiJSUzI1NiJ9." + std::string(kJoe) +
                   ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_"
                   "O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSj"
                   "tQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6Ie"
                   "YI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
               rsa));
  // RFC 7515 A.3
  const JwkSet ec = set_of({{"kty", "EC"},
                            {"crv", "P-256"},
                            {"x", "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"},
                            {"y", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}});
  EXPECT_TRUE(verifies("eyJhbGciOiJFUzI1NiJ9." + std::string(kJoe) +
                           ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
                       ec));
  // RFC 8037 A.4
  const JwkSet ed = set_of({{"kty", "OKP"}, {"crv", "Ed25519"}, {"x", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}});
  EXPECT_TRUE(
      verifies("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
               "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
               ed));
}

TEST(Jws, EachAlgorithmVerifiesAndEveryChangedPartFails) {
  for (const auto algorithm : kAll) {
    const TokenSigner signer(algorithm);
    const auto keys = JwkSet::parse(signer.jwks());
    ASSERT_TRUE(keys) << keys.error().message;
    const std::string token = signer.token(Json{{"sub", "alice"}});
    EXPECT_TRUE(verifies(token, *keys)) << algorithm_name(algorithm);
    EXPECT_EQ(parse_jws(token)->payload, R"({"sub":"alice"})");
    for (size_t i = 0; i < token.size(); i += 3) {
      std::string changed = token;
      changed[i] = changed[i] == 'A' ? 'B' : 'A';
      if (changed == token) continue;
      EXPECT_FALSE(verifies(changed, *keys)) << algorithm_name(algorithm) << " byte " << i;
      ASSERT_EQ(ERR_peek_error(), 0u) << "left for the next TLS connection on this thread";
    }
    const TokenSigner other(algorithm);
    EXPECT_FALSE(verifies(other.token(Json{{"sub", "alice"}}), *keys));
  }
}

TEST(Jws, OnlyAllowedAlgorithmsVerify) {
  const TokenSigner signer(SignatureAlgorithm::rs256);
  const JwkSet keys = JwkSet::parse(signer.jwks()).value();
  const std::string token = signer.token(Json::object());
  const SignatureAlgorithm others[] = {SignatureAlgorithm::ps256, SignatureAlgorithm::es256};
  EXPECT_FALSE(verifies(token, keys, others));
  EXPECT_TRUE(verifies(token, keys, std::span(kAll).first(1)));
}

// The two classics: no signature at all, and the public key taken as a shared secret.
TEST(Jws, NeitherNoneNorASharedSecretIsEverTaken) {
  const TokenSigner signer(SignatureAlgorithm::rs256);
  for (const char* name : {"none", "None", "HS256", "HS512", "RS384", "ES384", "", "rs256"}) {
    EXPECT_FALSE(parse_jws(signer.sign(Json{{"alg", name}, {"kid", "k1"}}, "{}"))) << name;
  }
  EXPECT_FALSE(parse_jws(base64url_of(R"({"alg":"none"})") + "." + base64url_of("{}") + "."));
  const auto secret = JwkSet::parse(R"({"keys":[{"kty":"oct","k":"AAAA","kid":"k1"}]})");
  ASSERT_TRUE(secret);
  EXPECT_TRUE(secret->keys().empty());
}

TEST(Jws, AnAlgorithmIsUsedWithKeysOfItsTypeAlone) {
  const TokenSigner rsa(SignatureAlgorithm::rs256), ec(SignatureAlgorithm::es256);
  const JwkSet keys = set_of(rsa.jwk());
  EXPECT_FALSE(verifies(ec.token(Json::object()), keys));
  Json pinned = rsa.jwk();
  pinned["alg"] = "PS256";
  EXPECT_FALSE(verifies(rsa.token(Json::object()), set_of(pinned)));
  pinned["alg"] = "RS256";
  EXPECT_TRUE(verifies(rsa.token(Json::object()), set_of(pinned)));
}

TEST(Jws, ATokenWithoutKidNeedsASetWithOneFittingKey) {
  const TokenSigner a(SignatureAlgorithm::eddsa, "a"), b(SignatureAlgorithm::eddsa, "b");
  const std::string token = a.sign(Json{{"alg", "EdDSA"}}, "{}");
  EXPECT_TRUE(verifies(token, set_of(a.jwk())));
  const JwkSet both = JwkSet::parse(dump_json(Json{{"keys", Json::array({a.jwk(), b.jwk()})}})).value();
  EXPECT_FALSE(verifies(token, both));
  EXPECT_TRUE(verifies(a.token(Json::object()), both));
}

TEST(Jws, WhatIsNoTokenIsRefused) {
  const std::string header = base64url_of(R"({"alg":"EdDSA"})");
  for (const std::string& token :
       {std::string(), std::string("."), std::string(".."), header + ".e30", header + ".e30.AA.AA", header + ".e30=.AA",
        base64url_of("[]") + ".e30.AA", base64url_of(R"({"alg":"EdDSA","crit":["x"]})") + ".e30.AA",
        base64url_of(R"({"alg":"EdDSA","b64":false})") + ".e30.AA",
        base64url_of(R"({"alg":"EdDSA","alg":"none"})") + ".e30.AA",
        header + "." + std::string(kMaxTokenBytes, 'A') + ".AA"})
    EXPECT_FALSE(parse_jws(token)) << token.substr(0, 60);
  EXPECT_TRUE(parse_jws(header + ".e30.AA"));
}

TEST(JwkSet, WeakAndBrokenKeysAreErrors) {
  const Json rsa = TokenSigner(SignatureAlgorithm::rs256).jwk(), ec = TokenSigner(SignatureAlgorithm::es256).jwk();
  const auto changed = [](Json jwk, const char* name, const Json& value) {
    jwk[name] = value;
    return JwkSet::parse(dump_json(Json{{"keys", Json::array({jwk})}})).has_value();
  };
  EXPECT_TRUE(changed(rsa, "x5t", "ignored"));
  EXPECT_FALSE(changed(rsa, "e", "AQ"));
  EXPECT_FALSE(changed(rsa, "e", "AA"));
  EXPECT_FALSE(changed(rsa, "e", "AQAAAAEB"));
  EXPECT_FALSE(changed(rsa, "n", "AQAB"));
  EXPECT_FALSE(changed(rsa, "n", 5));
  EXPECT_FALSE(changed(ec, "y", ec["x"]));
  EXPECT_FALSE(changed(ec, "x", "AAAA"));
  EXPECT_FALSE(JwkSet::parse(TokenSigner(SignatureAlgorithm::rs256, "k", 1024).jwks()));
  EXPECT_FALSE(JwkSet::parse("[]"));
  EXPECT_FALSE(JwkSet::parse(R"({"keys":{}})"));
  EXPECT_FALSE(JwkSet::parse(R"({"keys":[1]})"));
  EXPECT_FALSE(JwkSet::parse(R"({"keys":[{}]})"));
  EXPECT_FALSE(JwkSet::parse(R"({"keys":[{},{}]})", {.max_keys = 1}));
  EXPECT_FALSE(JwkSet::parse(R"({"keys":[]})", {.max_bytes = 5}));
}

TEST(JwkSet, KeysForSomethingElseAreLeftOut) {
  const auto count = [](Json jwk, const char* name, const Json& value) {
    jwk[name] = value;
    return set_of(jwk).keys().size();
  };
  const Json rsa = TokenSigner(SignatureAlgorithm::rs256).jwk();
  EXPECT_EQ(count(rsa, "use", "enc"), 0u);
  EXPECT_EQ(count(rsa, "key_ops", Json::array({"sign"})), 0u);
  EXPECT_EQ(count(rsa, "key_ops", Json::array({"verify"})), 1u);
  EXPECT_EQ(count(rsa, "alg", "RS512"), 0u);
  EXPECT_EQ(count(rsa, "kty", "AKP"), 0u);
}

}  // namespace
}  // namespace redoubt

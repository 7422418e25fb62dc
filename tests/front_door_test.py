"""The front door from outside: a running server as docs/front-door.md configures it, an identity provider of its own, client certificates.

    tests/front_door_test.py BINARY MODEL

Keys, tokens and certificates are made here with the command `openssl`; without it, the test says so and ends with status 77.
Each caller has a source address of its own (X-Forwarded-For of a trusted proxy), so that nobody's failures lock another out.
"""
import base64
import hashlib
import hmac
import http.server
import itertools
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import running_server
import unit_results
from running_server import eventually

ROOT = pathlib.Path(__file__).resolve().parents[1]
BINARY = MODEL = None
ADDRESSES = (f"10.99.{n >> 8}.{n & 255}" for n in itertools.count(1))
PATIENCE_S = 20  # for what is promised within a second or two, and takes longer on a machine that is busy
CONTEXT = 1 << 20  # long enough that no stream of the test ends by itself


def openssl(*arguments, stdin=b""):
    return subprocess.run(["openssl", *map(str, arguments)], input=stdin, check=True, capture_output=True).stdout


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class SigningKey:
    """A provider's key pair: signs RS256 or ES256, and shows its public half as a JWK."""
    def __init__(self, folder, name, algorithm="RS256"):
        self.name, self.algorithm, self.path = name, algorithm, folder / f"{name}.pem"
        kind = ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"] if algorithm == "RS256" else ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
        openssl("genpkey", "-algorithm", *kind, "-out", self.path)

    def jwk(self):
        if self.algorithm == "RS256":
            modulus = openssl("rsa", "-in", self.path, "-noout", "-modulus").decode().strip().partition("=")[2]
            return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.name, "n": base64url(bytes.fromhex(modulus)), "e": "AQAB"}
        point = openssl("pkey", "-in", self.path, "-pubout", "-outform", "DER")[-64:]
        return {"kty": "EC", "use": "sig", "alg": "ES256", "crv": "P-256", "kid": self.name, "x": base64url(point[:32]), "y": base64url(point[32:])}

    def public(self):
        return openssl("pkey", "-in", self.path, "-pubout")

    def sign(self, data):
        signature = openssl("dgst", "-sha256", "-sign", self.path, stdin=data)
        if self.algorithm == "RS256":
            return signature
        integers, at = [], 2  # of the DER sequence of two integers
        for _ in range(2):
            size = signature[at + 1]
            integers.append(int.from_bytes(signature[at + 2:at + 2 + size], "big").to_bytes(32, "big"))
            at += 2 + size
        return b"".join(integers)


class Provider:
    """An identity provider on loopback: its keys over HTTPS, until it goes away."""
    def __init__(self, folder, certificate):
        self.folder, self.certificate, self.server, self.port, self.asked = folder, certificate, None, 0, 0
        self.keys = []
        self.come()

    def come(self):
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                provider.asked += 1
                body = json.dumps({"keys": [key.jwk() for key in provider.keys]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certificate)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)  # else one who says nothing keeps the others waiting
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def go(self):
        self.server.shutdown()
        self.server.server_close()

    @property
    def issuer(self):
        return f"https://localhost:{self.port}/realms/staff"

    def token(self, key=None, header=None, **claims):
        key = key or self.keys[0]
        now = int(time.time())
        head = {"alg": key.algorithm, "kid": key.name, "typ": "JWT", **(header or {})}
        body = {"iss": self.issuer, "aud": "redoubt", "iat": now, "exp": now + 600, **claims}
        signed = f"{base64url(json.dumps(head).encode())}.{base64url(json.dumps({k: v for k, v in body.items() if v is not None}).encode())}"
        return f"{signed}.{base64url(key.sign(signed.encode()))}"


class Authority:
    """A certificate authority: certificates, and the list of those it revoked."""
    def __init__(self, folder, name):
        self.folder, self.certificate, self.key = folder / name, folder / name / "ca.pem", folder / name / "ca.key"
        self.folder.mkdir()
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key, "-out", self.certificate,
                "-days", 30, "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        (self.folder / "index").touch()
        self.config = self.folder / "ca.cnf"
        self.config.write_text(f"[ca]\ndefault_ca=a\n[a]\ndatabase={self.folder}/index\ncertificate={self.certificate}\nprivate_key={self.key}\n"
                               "default_md=sha256\ndefault_crl_days=30\n")

    def issue(self, name, subject, names=""):
        """(certificate, key) of a subject."""
        key, request, certificate, extensions = (self.folder / f"{name}.{end}" for end in ("key", "csr", "pem", "ext"))
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request, "-subj", subject)
        key.chmod(0o600)
        extensions.write_text(f"subjectAltName={names}\n" if names else "basicConstraints=CA:FALSE\n")
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-days", 30, "-extfile", extensions, "-out", certificate)
        return certificate, key

    def revoke(self, certificate):
        openssl("ca", "-config", self.config, "-revoke", certificate)

    def write_list(self, path):
        written = self.folder / "list.new"
        openssl("ca", "-config", self.config, "-gencrl", "-out", written)
        os.replace(written, path)  # as a careful administrator does: whole or not at all


def block(language, marker):
    """The fenced block of docs/front-door.md that holds the marker."""
    text = (ROOT / "docs/front-door.md").read_text()
    return next(found for found in re.findall(rf"```{language}\n(.*?)```", text, re.S) if marker in found)


def changed(text, old, new):
    assert old in text, f"docs/front-door.md no longer holds {old!r}"
    return text.replace(old, new)


class Server:
    def __init__(self, folder, trusted):
        self.folder, self.trusted, self.process = folder, trusted, None

    def start(self):
        self.log = open(self.folder / "log", "a")
        self.process = subprocess.Popen([BINARY, "serve", "--config", self.folder / "redoubt.yaml"], stdout=subprocess.PIPE, stderr=self.log, text=True,
                                        env={**os.environ, "REDOUBT_BOOTSTRAP_KEY": "front-door-test-0123456789"})
        self.port = running_server.served_port(self.process, self.folder / "log")

    def stop(self):
        self.process.terminate()
        status = self.process.wait(60)
        self.process.stdout.close()
        self.log.close()
        return status

    def administer(self, *arguments):
        return running_server.administer(BINARY, self.folder / "data", *arguments)

    def connect(self, certificate=None):
        context = ssl.create_default_context(cafile=self.trusted)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if certificate:
            context.load_cert_chain(*certificate)
        return context.wrap_socket(socket.create_connection(("127.0.0.1", self.port), timeout=30), server_hostname="localhost")

    def send(self, bearer=None, certificate=None, address=None, path="/v1/completions", **body):
        """A connection with a request sent."""
        head = {"Host": "localhost", "X-Forwarded-For": address or next(ADDRESSES), "Connection": "close"}
        if bearer:
            head["Authorization"] = "Bearer " + bearer
        data = b""
        if path == "/v1/completions":
            data = json.dumps({"prompt": [5, 6, 7], "max_tokens": 4, "temperature": 0, **body}).encode()
            head |= {"Content-Type": "application/json", "Content-Length": str(len(data))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        connection = self.connect(certificate)
        connection.sendall(f"{'POST' if data else 'GET'} {path} HTTP/1.1\r\n{lines}\r\n".encode() + data)
        return connection

    def ask(self, *arguments, **options):
        """Status and body."""
        with self.send(*arguments, **options) as connection:
            answer = b""
            while part := connection.recv(65536):
                answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    def status(self, *arguments, **options):
        return self.ask(*arguments, **options)[0]


class Stream:
    """An answer that goes on until somebody ends it, read all the while."""
    def __init__(self, server, *arguments, **options):
        self.connection = server.send(*arguments, stream=True, ignore_eos=True, max_tokens=CONTEXT // 2, **options)
        self.last = [b"", b""]  # read last: so that it never lags behind the server
        while b"data: " not in self.last[1]:
            part = self.connection.recv(65536)
            assert part, self.last
            self.last = [self.last[1], part]
        self.ended_at = None
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        try:
            while part := self.connection.recv(65536):
                self.last = [self.last[1], part]
        except OSError:
            pass
        self.ended_at = time.monotonic()
        self.connection.close()

    def end(self, since):
        """Seconds from `since` to its end, and its last words."""
        self.reader.join(30)
        assert self.ended_at is not None, "the stream goes on"
        return self.ended_at - since, b"".join(self.last).decode(errors="replace")


class FrontDoor(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="redoubt-door-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.addClassCleanup(lambda: setattr(cls, "log", (cls.folder / "log").read_text() if (cls.folder / "log").exists() else ""))
        (cls.folder / "tls").mkdir()
        cls.bank, cls.staff, cls.others = (Authority(cls.folder, name) for name in ("bank", "staff", "others"))
        shutil.copy(cls.staff.certificate, cls.folder / "tls/clients-ca.pem")
        cls.staff.write_list(cls.folder / "tls/clients-crl.pem")
        cls.put_certificate("first")
        cls.provider = Provider(cls.folder, cls.bank.issue("provider", "/CN=provider", "DNS:localhost"))
        cls.addClassCleanup(lambda: cls.provider.go())
        cls.keys = {name: SigningKey(cls.folder, name, algorithm) for name, algorithm in (("rsa", "RS256"), ("curve", "ES256"), ("rotated", "RS256"))}
        cls.provider.keys = [cls.keys["rsa"], cls.keys["curve"]]
        cls.write_configuration()
        cls.server = Server(cls.folder, cls.bank.certificate)
        cls.server.start()
        cls.addClassCleanup(lambda: cls.server.stop())
        cls.server.administer("team", "create", "research")
        cls.server.administer("team", "create", "risk")
        three = cls.server.administer("user", "appoint", "--system", "sam", "--security", "sue", "--audit", "ann")
        cls.system_key = three["system"]["key"]
        cls.administrators = {role: administrator["key"] for role, administrator in three.items() if isinstance(administrator, dict)}

    @classmethod
    def put_certificate(cls, name):
        certificate, key = cls.bank.issue(name, f"/CN={name}", "DNS:localhost")
        os.replace(key, cls.folder / "tls/server.key")
        os.replace(certificate, cls.folder / "tls/server.pem")

    @classmethod
    def write_configuration(cls):
        """What docs/front-door.md says, with this test's names in place of the bank's."""
        model = cls.folder / "r1"
        shutil.copytree(MODEL, model, copy_function=shutil.copy)
        shape = json.loads((model / "config.json").read_text())
        shape["max_position_embeddings"] = CONTEXT
        (model / "config.json").chmod(0o644)
        (model / "config.json").write_text(json.dumps(shape))
        tls, oidc = block("yaml", "client_crl"), block("yaml", "group_teams")
        oidc = changed(oidc, "https://login.bank.example/realms/staff", cls.provider.issuer)
        oidc = re.sub(r"jwks_file: \S+.*", f"jwks_url: https://localhost:{cls.provider.port}/keys\n    jwks_ca: bank/ca.pem\n    clock_skew_s: 0", oidc)
        assert "jwks_url" in oidc
        (cls.folder / "redoubt.yaml").write_text(changed(tls, "host: 0.0.0.0", "host: 127.0.0.1") + oidc + f"""
port: 0
data: {cls.folder}/data
models: [{{name: r1, path: r1, labels: {{label: patient-data}}, stage: pilot}}]
trusted_proxies: [127.0.0.1]
cache_bytes: 256M
threads: 1
drain_s: 1
""")
        first = subprocess.run([BINARY, "policy", "show"], capture_output=True, text=True, check=True).stdout
        everybody = re.search(r'@id\("users-work-with-models"\).*?;\n', first, re.S).group()
        (cls.folder / "policies.cedar").write_text(first.replace(everybody, block("", "research-works-with-r1")))

    def research(self, **claims):
        return self.provider.token(**{"sub": "alice", "groups": ["ai-research"], **claims})

    def last_words(self, stream, promised_s, since=None):
        """Of a stream that something ended. How long that took is printed beside what is promised: a busy machine is no failure."""
        took, words = stream.end(time.monotonic() if since is None else since)
        print(f"{self._testMethodName}: ended after {took:.2f} s, promised {promised_s} s", flush=True)
        self.assertLess(took, PATIENCE_S)
        return words

    # --- what administration tells

    def test_a_server_explains_and_checks_as_its_owner_does(self):
        """`redoubt policy ... --server` asks the administration listener, `--data` opens the database."""
        listeners = json.loads(subprocess.run([BINARY, "doctor", "--isolation", "--data", self.folder / "data", "--json"], capture_output=True, check=True).stdout)["isolation"]
        port = next(entry["where"] for entry in listeners if entry["name"] == "administration").rsplit(":", 1)[1]
        admin = f"https://localhost:{port}"
        self.server.administer("user", "create", "olga", "--team", "research")
        typo = self.folder / "typo.cedar"
        typo.write_text('permit (principal == Redoubt::User::"ogla", action, resource == Redoubt::Model::"r1");')

        # What only the configuration says of the model: the server would forbid both.
        of_models = []
        for name, read in (("label", 'resource has label && resource.label == "patient-data"'), ("stage", 'context has stage && context.stage == "pilot"')):
            of_models.append(self.folder / f"{name}.cedar")
            of_models[-1].write_text(f"permit (principal, action, resource); forbid (principal, action, resource) when {{ {read} }};")

        def told(*arguments, key=None):
            where = ["--data", self.folder / "data"] if key is None else ["--server", admin, "--ca", self.bank.certificate]
            return subprocess.run([BINARY, "policy", *arguments, *where, "--json"], capture_output=True, text=True, env={**os.environ, "REDOUBT_KEY": key or ""})

        questions = [("explain", "generate", "Model::r1", "--user", user) for user in ("olga", "sam", "sue")]
        questions += [("explain", "read_audit", "Route::GET /x", "--user", "ann"), ("explain", "generate", "Model::r1", "--user", "olga", "--file", typo)]
        questions += [("explain", "generate", "Model::r1", "--user", "olga", "--file", file) for file in of_models]
        questions += [("diff", file) for file in of_models]
        self.assertTrue(eventually(lambda: told(*questions[0], key=self.administrators["security"]).returncode == 0), "within half a second the server knows her")
        decisions = set()
        for question in questions:
            owner = told(*question)
            self.assertEqual(owner.returncode, 0, owner.stderr)
            server = told(*question, key=self.administrators["security"])
            self.assertEqual((server.returncode, server.stdout), (0, owner.stdout), (question, server.stderr))
            if question[0] == "diff":
                changes = json.loads(owner.stdout)["changes"]
                self.assertTrue(any(change["resource"] == 'Redoubt::Model::"r1"' for change in changes), "the configuration's model is compared too")
                continue
            decisions.add(json.loads(owner.stdout)["decision"])
            if question[-1] in of_models:
                self.assertEqual(json.loads(owner.stdout)["decision"], "deny", question)
        self.assertEqual(decisions, {"allow", "deny"})
        warnings = json.loads(told("check", typo, key=self.administrators["security"]).stdout)["warnings"]
        self.assertEqual([warning.split(": ")[1] for warning in warnings if warning.startswith("line")], ['there is no user "ogla"'])
        self.assertIn("no security administrator could change policies", warnings[-1])
        lockout = told("apply", typo, key=self.administrators["security"])
        self.assertEqual((lockout.returncode, lockout.stdout), (1, ""))
        self.assertIn("allow_lockout", lockout.stderr)
        unknown = told("explain", "generate", "Model::r1", "--user", "nobody", key=self.administrators["security"])
        self.assertEqual((unknown.returncode, unknown.stderr.count("\n")), (1, 1))
        self.assertIn("nobody", unknown.stderr)
        plain = subprocess.run([BINARY, "policy", "show", "--server", f"http://localhost:{port}"], capture_output=True, text=True, env={**os.environ, "REDOUBT_KEY": "any"})
        self.assertIn("https://", plain.stderr)
        refused = told("explain", "generate", "Model::r1", "--user", "olga", key="front-door-test-0123456789")  # a user's key
        self.assertEqual((refused.returncode, refused.stdout, refused.stderr.count("\n")), (1, "", 1))

    # --- tokens

    def test_groups_are_teams_and_policies_speak_of_teams(self):
        status, body = self.server.ask(self.research())
        self.assertEqual(status, 200, body)
        self.assertEqual(self.server.status(self.research(key=self.keys["curve"])), 200)
        self.assertEqual(self.server.status(self.research(aud=["other", "redoubt"])), 200)
        self.assertEqual(self.server.status(self.research(groups=["cooks"])), 403)
        self.assertEqual(self.server.status(self.research(groups=None)), 403)
        risk = self.research(sub="rita", groups=["ai-risk"])
        self.assertEqual(self.server.status(risk, address="10.20.7.7"), 200)
        self.assertEqual(self.server.status(risk, address="10.30.7.7"), 403)

    def test_a_user_of_the_directory_keeps_its_own_teams(self):
        self.server.administer("user", "create", "dora", "--team", "research", "--oidc", self.provider.issuer, "dora-at-the-provider")
        token = self.provider.token(sub="dora-at-the-provider")  # of no group: what it may, the directory says
        self.assertTrue(eventually(lambda: self.server.status(token) == 200, PATIENCE_S))
        self.server.administer("user", "change", "dora", "--disable")
        self.assertTrue(eventually(lambda: self.server.status(token) == 401, PATIENCE_S))

    def test_who_becomes_a_user_of_the_directory_is_that_user_at_once(self):
        token = self.research(sub="erik")
        stream = Stream(self.server, token)  # as corp:erik
        self.server.administer("user", "create", "erik", "--team", "risk", "--oidc", self.provider.issuer, "erik")
        self.assertIn('"code":"revoked"', self.last_words(stream, promised_s=1))
        self.server.administer("user", "change", "erik", "--disable")
        self.assertTrue(eventually(lambda: self.server.status(token) == 401, PATIENCE_S))

    def test_what_is_wrong_with_a_token_lets_nobody_in(self):
        now, rsa = int(time.time()), self.keys["rsa"]
        good = self.research()
        head, body, signature = good.split(".")
        unsigned = base64url(b'{"alg":"none","typ":"JWT"}')
        shared = base64url(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "rsa"}).encode())
        by_public_key = base64url(hmac.new(rsa.public(), f"{shared}.{body}".encode(), hashlib.sha256).digest())
        other_body = base64url(base64.urlsafe_b64decode(body + "==").replace(b"alice", b"mallo"))
        stranger = SigningKey(self.folder, "stranger")
        for name, token in {"another audience": self.research(aud="payroll"), "no audience": self.research(aud=None),
                            "another issuer": self.research(iss="https://localhost:1/realms/staff"), "no issuer": self.research(iss=None),
                            "expired": self.research(exp=now - 1), "without an end": self.research(exp=None),
                            "not valid yet": self.research(nbf=now + 300), "of a logout": self.research(header={"typ": "logout+jwt"}),
                            "unsigned": f"{unsigned}.{body}.", "signed by the public key as a secret": f"{shared}.{body}.{by_public_key}",
                            "an algorithm that is not the key's": self.research(header={"alg": "PS256"}),
                            "changed after it was signed": f"{head}.{other_body}.{signature}",
                            "of a key nobody knows": self.research(key=stranger),
                            "of a stranger's key under a known name": self.research(key=stranger, header={"kid": "rsa"}),
                            "cut off": good[:-4]}.items():
            with self.subTest(name):
                self.assertEqual(self.server.status(token), 401)
        self.assertEqual(self.server.status(good), 200)
        metrics = self.server.ask(self.system_key, path="/metrics")[1]
        refused = {reason: float(count) for reason, count in re.findall(r'redoubt_identity_refused_total{reason="(\w+)"} (\S+)', metrics)}
        self.assertGreaterEqual(refused["bad_token"], 14)
        self.assertRegex(metrics, r'redoubt_oidc_keys_age_seconds{provider="corp"} \d')

    def test_a_token_that_ends_ends_its_stream(self):
        ends = int(time.time()) + 12
        stream = Stream(self.server, self.research(exp=ends))
        self.assertIn("access was revoked", self.last_words(stream, promised_s=1, since=time.monotonic() + ends - time.time()))
        self.assertGreater(time.time(), ends - 1, "not before")

    def test_a_user_who_is_disabled_loses_the_stream_within_a_second(self):
        self.server.administer("user", "create", "carl", "--team", "research", "--oidc", self.provider.issuer, "carl")
        token = self.provider.token(sub="carl")
        self.assertTrue(eventually(lambda: self.server.status(token) == 200, PATIENCE_S))
        stream = Stream(self.server, token)
        self.server.administer("user", "change", "carl", "--disable")
        self.assertIn('"code":"revoked"', self.last_words(stream, promised_s=1))
        self.assertEqual(self.server.status(token), 401)

    def test_keys_that_the_provider_changes_are_followed(self):
        old, new = self.research(), self.research(key=self.keys["rotated"])
        self.assertEqual(self.server.status(old), 200)
        self.assertEqual(self.server.status(new), 401)
        self.provider.keys = [self.keys["rotated"]]
        # A token that names an unknown key is what asks for the keys, at most every ten seconds.
        self.assertTrue(eventually(lambda: self.server.status(new) == 200))
        self.assertEqual(self.server.status(old), 401)
        self.provider.keys = [self.keys["rsa"], self.keys["curve"]]
        self.assertTrue(eventually(lambda: self.server.status(old) == 200))
        self.assertEqual(self.server.status(new), 401)

    def test_while_the_provider_is_away_those_whose_keys_are_known_come_in(self):
        good, unknown = self.research(), self.research(key=self.keys["rotated"])
        stream = Stream(self.server, good)
        self.provider.go()
        try:
            self.assertEqual(self.server.status(unknown), 401)
            time.sleep(11)  # it asked, and was not answered
            self.assertEqual(self.server.status(unknown), 401)
            self.assertEqual(self.server.status(good), 200)
            self.assertEqual(self.server.status(self.research(sub="new")), 200)
            self.assertIsNone(stream.ended_at)
            # A server that starts now knows no keys: nobody comes in by a token, and everybody else as ever.
            self.assertEqual(self.server.stop(), 0)
            self.server.start()
            self.assertEqual(self.server.status(good), 503)
            self.assertEqual(self.server.status("front-door-test-0123456789", path="/v1/models"), 403)
            self.assertEqual(self.server.status("rk_aaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"), 401)
        finally:
            self.provider.come()
        self.assertTrue(eventually(lambda: self.server.status(good) == 200))
        self.assertEqual(self.server.status(unknown), 401)

    # --- certificates

    def test_a_client_certificate_is_whom_the_directory_ties_it_to(self):
        alice = self.staff.issue("alice", "/O=Bank/CN=alice")
        nobody = self.staff.issue("nobody", "/O=Bank/CN=nobody")
        forged = self.others.issue("forged", "/O=Bank/CN=alice")
        self.server.administer("user", "create", "alice", "--team", "research", "--certificate", "CN=alice,O=Bank")
        self.assertTrue(eventually(lambda: self.server.status(certificate=alice) == 200, PATIENCE_S))
        self.assertEqual(self.server.status(certificate=nobody), 401)
        shown = openssl("x509", "-in", nobody[0], "-noout", "-subject", "-nameopt", "RFC2253").decode().strip()
        self.assertEqual(shown, "subject=CN=nobody,O=Bank")  # as docs/front-door.md has it found out
        log = self.folder / "log"
        said = lambda: self.server.status(certificate=nobody) == 401 and "of nobody the directory knows, or of one who is disabled: subject CN=nobody,O=Bank\n" in log.read_text()
        self.assertTrue(eventually(said, PATIENCE_S), "one line in ten seconds, and another test's may have been the last")
        self.assertEqual(self.server.status(), 401)
        self.assertEqual(self.server.status("wrong-0123456789abcdef", certificate=alice), 401)  # what is shown is judged by that alone
        with self.assertRaises(OSError):  # ssl.SSLError, or a connection that was cut
            self.server.status(certificate=forged)
        with self.assertRaises(OSError):
            old = ssl.create_default_context(cafile=self.bank.certificate)
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            old.wrap_socket(socket.create_connection(("127.0.0.1", self.server.port), timeout=30), server_hostname="localhost")

    def test_a_certificate_that_is_revoked_is_cut(self):
        tess, theo = (self.staff.issue(name, f"/O=Bank/CN={name}") for name in ("tess", "theo"))
        for name in ("tess", "theo"):
            self.server.administer("user", "create", name, "--team", "research", "--certificate", f"CN={name},O=Bank")
        self.assertTrue(eventually(lambda: self.server.status(certificate=theo) == 200, PATIENCE_S))
        stream, other = Stream(self.server, certificate=tess), Stream(self.server, certificate=theo)
        self.staff.revoke(tess[0])
        self.staff.write_list(self.folder / "tls/clients-crl.pem")
        self.assertNotIn("[DONE]", self.last_words(stream, promised_s=2))
        with self.assertRaises(OSError):
            self.server.status(certificate=tess)
        self.assertEqual(self.server.status(certificate=theo), 200)
        self.assertIsNone(other.ended_at)
        self.server.administer("user", "change", "theo", "--disable")
        self.assertIn('"code":"revoked"', self.last_words(other, promised_s=1))

    def test_a_certificate_that_is_renewed_is_shown(self):
        def shown():
            with self.server.connect() as connection:
                return connection.getpeercert()["subject"]
        stream = Stream(self.server, self.research())
        before = shown()
        self.put_certificate("second")
        self.assertTrue(eventually(lambda: shown() != before, PATIENCE_S))
        self.assertIn("second", str(shown()))
        (self.folder / "tls/server.pem").write_text("half a certif")  # what cannot be used leaves what was there
        time.sleep(2)
        self.assertIn("second", str(shown()))
        self.put_certificate("third")
        self.assertTrue(eventually(lambda: "third" in str(shown()), PATIENCE_S))
        self.assertIsNone(stream.ended_at)  # connections under way go on
        stream.connection.shutdown(socket.SHUT_RDWR)
        stream.reader.join(30)


if __name__ == "__main__":
    if shutil.which("openssl") is None:
        print("front_door: SKIPPED: the command openssl is not here")
        sys.exit(77)
    BINARY, MODEL = (str(pathlib.Path(argument).resolve()) for argument in sys.argv[1:3])
    good = unit_results.run("front_door", FrontDoor, sys.argv[3:])
    if not good:
        print("the server's log:\n" + FrontDoor.log[-5000:])
    sys.exit(not good)

"""The command line as a contract: what each command prints, and how it ends. Needs nothing but Python.

    python3 tests/cli_test.py BINARY [NAME...]
Cases are those found in REDOUBT_TEST_DATA (default ../shared/data); without it, those tests skip.
"""
import array
import ast
import base64
import json
import os
import pathlib
import pty
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import termios
import time
import unittest
import urllib.error
import urllib.request
import zipfile

import running_server
import unit_results

ROOT = pathlib.Path(__file__).resolve().parents[1]
DATA = pathlib.Path(os.environ.get("REDOUBT_TEST_DATA", ROOT.parent / "shared/data"))
BINARY = None


def redoubt(*arguments, stdin="", timeout=300):
    return subprocess.run([BINARY, *map(str, arguments)], input=stdin.encode(), capture_output=True, timeout=timeout)


def golden_models():
    found = []
    for root in (DATA / "golden/models", ROOT / "tests/golden/models"):
        if root.exists():
            found += sorted(path.parent for path in root.glob("*/golden.npz"))
    return found


def read_npy(raw):
    """shape, flat array of a .npy in C order."""
    assert raw[:6] == b"\x93NUMPY"
    length, start = (struct.unpack("<H", raw[8:10])[0], 10) if raw[6] == 1 else (struct.unpack("<I", raw[8:12])[0], 12)
    header = ast.literal_eval(raw[start:start + length].decode())
    assert not header["fortran_order"] or len(header["shape"]) < 2
    values = array.array({"<f4": "f", "<i4": "i", "<i8": "q"}[header["descr"]])
    values.frombytes(raw[start + length:])
    return header["shape"], values


def read_npz(path):
    with zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy"): read_npy(archive.read(name)) for name in archive.namelist()}


class Commands(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="redoubt-cli-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def good(self, *arguments, **options):
        ended = redoubt(*arguments, **options)
        self.assertEqual(ended.returncode, 0, ended.stderr.decode(errors="replace")[-2000:])
        return ended.stdout.decode()

    def refused(self, status, *arguments, **options):
        ended = redoubt(*arguments, **options)
        error = ended.stderr.decode(errors="replace")
        self.assertEqual(ended.returncode, status, f"{arguments}: {error}")
        self.assertEqual(error.count("\n"), 1, f"{arguments}: one line, found: {error}")
        return error

    def a_model(self):
        models = golden_models()
        if not models:
            self.skipTest(f"no golden models in {DATA} nor in tests/golden")
        return models[0]

    def model_with(self, name):
        found = [path for path in golden_models() if (path / "tokenizer.json").exists() and name(path)]
        if not found:
            self.skipTest(f"no such golden model in {DATA}")
        return found[0]

    # --- use and misuse

    def test_help_is_there_for_every_command(self):
        text = self.good("--help")
        for command in ("serve", "run", "tokenize", "detokenize", "render", "logits", "inspect", "convert", "quantize", "synth", "bench", "perplexity", "doctor", "key", "user", "team", "tenant"):
            self.assertIn(command, text)
            self.assertIn("--", self.good(command, "--help"))
        self.assertRegex(self.good("--version"), r"^\d+\.\d+\.\d+")

    def test_wrong_use_ends_with_2(self):
        for arguments in ([], ["nonsense"], ["tokenize"], ["tokenize", "--model", "x", "--nonsense"], ["logits", "--model", "x", "--tokens", "1"],
                          ["run", "--temp", "9"], ["bench", "--model", "x", "--kernels", "magic"], ["render", "x.json"], ["serve", "--port", "70000"],
                          ["run", "--seed", "-1", "x"], ["synth", "--config", "x", "--seed", "-1", "y"], ["run", "--add-bos", "x"], ["run", "--raw", "--system", "s", "x"],
                          ["run", "--raw", "--add-bos", "--tokens", "1"]):
            self.refused(2, *arguments)
        self.assertIn("'nonsense'", self.refused(2, "nonsense"))

    def test_what_is_not_there_ends_with_1(self):
        for arguments in (["tokenize", "--model", "/none", "x"], ["inspect", "/none"], ["logits", "--model", "/none", "--tokens", "1", "--out", self.folder / "o"],
                          ["render", "--template", "/none", "/none"], ["convert", "/none", self.folder / "o"], ["run", "--model", "/none", "x"],
                          ["serve", "--model", "/none", "--port", "0", "--data", self.folder / "d"], ["serve", "--config", "/none"]):
            self.assertIn("/none", self.refused(1, *arguments))

    def test_token_ids_are_checked(self):
        model = self.a_model()
        for tokens in ("1 x", "-1", "99999999", "1.5", "99999999999999999999"):
            self.refused(2, "logits", "--model", model, f"--tokens={tokens}", "--out", self.folder / "o.npy")
        self.refused(2, "detokenize", "--model", model, "99999999")
        self.refused(1, "detokenize", "--model", model, stdin="99999999")

    def test_what_is_there_and_no_file_is_not_replaced(self):
        model = self.a_model()
        kept = self.folder / "kept.npy"
        kept.write_bytes(b"old")
        link, pipe = self.folder / "link.npy", self.folder / "pipe"
        link.symlink_to("kept.npy")
        os.mkfifo(pipe)
        shape, values = self.logits(model, [3, 4, 5])
        self.good("logits", "--model", model, "--tokens", "3 4 5", "--out", link)
        self.assertTrue(link.is_symlink())
        self.assertEqual(read_npy(kept.read_bytes()), (shape, values))
        command = [BINARY, "logits", "--model", model, "--tokens", "3 4 5", "--out"]
        with subprocess.Popen([*command, pipe]) as writer:
            self.assertEqual(read_npy(pipe.read_bytes()), (shape, values))
        self.assertEqual(writer.returncode, 0)
        self.assertTrue(pipe.is_fifo())
        self.assertEqual(read_npy(subprocess.run([*command, "/dev/stdout"], stdout=subprocess.PIPE, check=True).stdout), (shape, values))
        self.assertIn("a directory", self.refused(1, "logits", "--model", model, "--tokens", "3", "--out", self.folder))

    # --- text

    def test_text_that_is_not_utf8_is_said_to_be(self):
        model = self.model_with(lambda path: True)
        ended = subprocess.run([BINARY, "tokenize", "--model", model], input=b"a\xff", capture_output=True)
        self.assertEqual((ended.returncode, ended.stderr.count(b"\n")), (0, 1), ended.stderr)
        self.assertIn(b"not UTF-8", ended.stderr)
        self.assertEqual(ended.stdout.decode(), self.good("tokenize", "--model", model, "a\ufffd"))

    def test_tokens_are_those_of_the_reference(self):
        cases = sorted((DATA / "golden/tokens").glob("*.jsonl")) if DATA.exists() else []
        if not cases:
            self.skipTest(f"no golden tokens in {DATA}")
        for case in cases:
            tokenizer = DATA / "tokenizers" / case.stem
            if not tokenizer.exists():  # the real model's
                tokenizer = os.environ.get("REDOUBT_REAL_MODEL") or ""
                if not tokenizer:
                    continue
            rows = [json.loads(line) for line in case.read_text().split("\n") if line]
            stdin = "".join(json.dumps(row["text"]) + "\n" for row in rows)
            ids = [json.loads(line) for line in self.good("tokenize", "--model", tokenizer, "--jsonl", stdin=stdin).split("\n") if line]
            self.assertEqual(ids, [row["ids"] for row in rows], case.stem)
            stdin = "".join(json.dumps(row["ids"]) + "\n" for row in rows)
            texts = [json.loads(line) for line in self.good("detokenize", "--model", tokenizer, "--jsonl", stdin=stdin).split("\n") if line]
            self.assertEqual(texts, [row["decoded"] for row in rows], case.stem)

    def test_a_text_goes_there_and_back(self):
        model = self.model_with(lambda path: True)
        text = "One two\n  three, 4 + 5.\n"
        ids = self.good("tokenize", "--model", model, text)
        self.assertRegex(ids, r"^[0-9 ]+\n$")
        self.assertEqual(ids, self.good("tokenize", "--model", model, stdin=text))
        self.assertEqual(self.good("detokenize", "--model", model, *ids.split()), text)
        self.assertEqual(json.loads(self.good("tokenize", "--model", model, "--json", text))["ids"], [int(i) for i in ids.split()])

    def test_templates_render_as_the_reference_renders(self):
        file = DATA / "golden/templates.jsonl"
        if not file.exists():
            self.skipTest(f"no {file}")
        rows = [json.loads(line) for line in file.read_text().split("\n") if line]
        for template in sorted({row["template"] for row in rows}):
            own = [row for row in rows if row["template"] == template]
            contexts = self.folder / "contexts.jsonl"
            contexts.write_text("".join(json.dumps(row["input"]) + "\n" for row in own))
            lines = self.good("render", "--template", DATA / "templates" / template, "--jsonl", contexts).split("\n")[:-1]
            for row, line in zip(own, lines, strict=True):
                got = json.loads(line)
                if row["error"] is None:
                    self.assertEqual(got, row["expect"], f"{template} {row['case']}")
                else:
                    self.assertIn("error", got, f"{template} {row['case']}")

    def test_render_prints_the_prompt_and_nothing_else(self):
        template, context = self.folder / "t.jinja", self.folder / "c.json"
        template.write_text("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}")
        context.write_text(json.dumps({"messages": [{"role": "user", "content": "hi"}]}))
        self.assertEqual(self.good("render", "--template", template, context), "[user]hi")
        self.assertEqual(json.loads(self.good("render", "--template", template, "--json", context)), {"prompt": "[user]hi"})
        template.write_text("{{ raise_exception('no such thing') }}")
        self.assertIn("no such thing", self.refused(1, "render", "--template", template, context))

    # --- models

    def logits(self, model, tokens, *flags):
        out = self.folder / "logits.npy"
        self.good("logits", "--model", model, "--tokens", " ".join(map(str, tokens)), "--out", out, *flags)
        return read_npy(out.read_bytes())

    def close(self, got, expected, what):
        self.assertEqual(got[0], expected[0], what)
        largest = max(map(abs, expected[1]))
        worst = max(range(len(got[1])), key=lambda i: abs(got[1][i] - expected[1][i]))
        self.assertLessEqual(abs(got[1][worst] - expected[1][worst]), 1e-4 * largest, f"{what}: element {worst}")

    def test_logits_and_continuations_are_those_of_the_reference(self):
        self.a_model()
        for model in golden_models():
            golden = read_npz(model / "golden.npz")
            for i in (key.removeprefix("tokens_") for key in golden if key.startswith("tokens_")):
                tokens = golden[f"tokens_{i}"][1]
                self.close(self.logits(model, tokens, "--kernels", "reference"), golden[f"logits_{i}"], f"{model.name} {i}")
                answer = json.loads(self.good("run", "--model", model, "--tokens", " ".join(map(str, tokens)), "--temp", 0, "--max-tokens", len(golden[f"greedy_{i}"][1]),
                                              "--ignore-eos", "--kernels", "reference", "--cache-bytes", "64M", "--json"))
                self.assertEqual(answer["ids"], list(golden[f"greedy_{i}"][1]), f"{model.name} {i}")
                self.assertEqual(answer["prompt_ids"], list(tokens))
            if "mtp_logits" in golden:
                self.close(self.logits(model, golden["mtp_tokens"][1], "--mtp", "--kernels", "reference"), golden["mtp_logits"], f"{model.name} mtp")

    def test_a_model_converted_there_and_back_gives_the_same_bits(self):
        self.a_model()
        for i, model in enumerate(golden_models()):
            tokens = list(range(3, 40))
            before = self.logits(model, tokens, "--kernels", "reference")[1]
            gguf, back = self.folder / f"{i}.gguf", self.folder / f"{i}-back"
            self.good("convert", model, gguf)
            self.good("convert", gguf, back)
            self.assertEqual(before, self.logits(back, tokens, "--kernels", "reference")[1], model.name)
            inspected = json.loads(self.good("inspect", "--json", gguf))
            self.assertGreater(inspected["parameters"], 0)

    def test_a_packed_file_stands_for_its_model_and_leads_back(self):
        self.a_model()
        for i, model in enumerate(golden_models()):
            tokens = list(range(3, 40))
            packed = self.folder / f"{i}" / f"{model.name}.redoubt-packed"  # the name says what the model is called
            packed.parent.mkdir()
            back, direct = self.folder / f"{i}-b.gguf", self.folder / f"{i}-d.gguf"
            self.good("convert", model, packed)
            self.assertEqual(self.logits(model, tokens)[1], self.logits(packed, tokens)[1], model.name)
            self.assertEqual(json.loads(self.good("inspect", "--json", packed))["container"], "packed")
            self.assertEqual(self.good("tokenize", "--model", model, "Hello, world"), self.good("tokenize", "--model", packed, "Hello, world"))
            self.good("inspect", "--verify", packed)
            self.good("convert", packed, back)
            self.good("convert", model, direct)
            self.assertEqual(back.read_bytes(), direct.read_bytes(), model.name)
        read = [json.loads(self.good("bench", "--model", one, "--prompt", 0, "--gen", 2, "--json"))["weights_bytes_per_token"] for one in (model, packed)]
        self.assertGreaterEqual(read[1], read[0])  # rows that fill the last group are read too
        damaged = bytearray(packed.read_bytes())
        damaged[damaged.index(b"vocab_size")] ^= 1
        other = self.folder / "damaged"  # by its first bytes, whatever its name
        other.write_bytes(damaged)
        for arguments in (["inspect", "--verify", other], ["convert", other, self.folder / "no.gguf"]):
            self.assertIn("does not have its hash", self.refused(1, *arguments))
        self.assertFalse((self.folder / "no.gguf").exists())
        self.assertIn("stored", self.refused(1, "convert", model, self.folder / "t", "--to", "packed", "--type", "bf16"))

    def test_damage_that_is_met_while_computing_gets_one_line(self):
        packed = self.folder / "m.redoubt-packed"
        self.good("convert", ROOT / "tests/golden/models/deepseek_v3", packed)
        whole, found = packed.read_bytes(), 0
        for at in range(1 << 20, len(whole) - 4096, 300_000):  # some are in no tensor, or in one that is not read
            packed.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
            command = ("logits", "--model", packed, "--tokens", "1 2 3", "--out", self.folder / "o.npy")
            if redoubt(*command).returncode != 0:
                self.assertIn("does not have its hash", self.refused(1, *command))
                found += 1
        self.assertGreater(found, 0)

    def test_a_piped_question_is_the_question_on_the_command_line(self):
        model = ROOT / "tests/golden/models/deepseek_v3"
        ask = ("run", "--model", model, "--temp", 0, "--max-tokens", 4, "--json")
        prompt = json.loads(self.good(*ask, "Why?"))["prompt_ids"]
        for line_end in ("", "\n", "\r\n"):
            self.assertEqual(json.loads(self.good(*ask, stdin="Why?" + line_end))["prompt_ids"], prompt)
        self.assertNotEqual(json.loads(self.good(*ask, stdin="Why?\n\n"))["prompt_ids"], prompt)
        # Standard input is one question, whatever its lines, so that a file can be piped in: one answer comes.
        lines = "Why?\nAnd why not?"
        piped = self.good(*ask, stdin=lines + "\n")
        self.assertEqual(len(piped.splitlines()), 1)
        self.assertEqual(json.loads(piped)["prompt_ids"], json.loads(self.good(*ask, lines))["prompt_ids"])

    def test_run_draws_only_where_the_model_says_so(self):
        model = self.folder / "model"
        shutil.copytree(ROOT / "tests/golden/models/qwen2", model)
        ask = ("run", "--model", model, "--tokens", "1 2 3 4 5", "--max-tokens", 12, "--json")

        def answers(do_sample):
            (model / "generation_config.json").write_text(json.dumps({"do_sample": do_sample, "temperature": 1.5}))
            return {str(json.loads(self.good(*ask))["ids"]) for _ in range(4)}
        self.assertEqual(len(answers(False)), 1)
        self.assertGreater(len(answers(True)), 1)

    def test_synthesised_and_quantised_models_run(self):
        model = self.a_model()
        made, small = self.folder / "made.gguf", self.folder / "small.gguf"
        self.good("synth", "--config", model / "config.json", made)
        self.good("quantize", made, small, "--type", "q8_0")
        self.assertLess(small.stat().st_size, made.stat().st_size)
        figures = json.loads(self.good("bench", "--model", small, "--prompt", 16, "--gen", 4, "--json"))
        for key in ("prefill_tokens_per_s", "decode_tokens_per_s", "weights_bytes_per_token", "read_bandwidth_bytes_per_s", "int8_ops_per_s", "share_of_ceiling", "peak_rss_bytes"):
            self.assertIn(key, figures)
        self.assertGreater(figures["decode_tokens_per_s"], 0)
        self.assertIn("bf16_flops_per_s", figures)
        self.assertLess(figures["peak_rss_bytes"], 300 << 20)  # the probe's own 512 MB are not the model's

    def on_a_terminal(self, environment, *command):
        """What a command writes on a terminal, and how it ends."""
        ours, theirs = pty.openpty()
        started = subprocess.Popen([BINARY, *map(str, command)], stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **environment})
        os.close(theirs)
        written = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:
                break
            if not piece:
                break
            written += piece
        os.close(ours)
        return started.wait(60), written

    def test_no_escapes_where_they_are_not_wanted(self):
        model = self.model_with(lambda path: "llama" in path.name or "qwen" in path.name)
        ask = ("run", "--model", model, "--tokens", "[5, 6]", "--max-tokens", 3)
        for environment, wanted in (({"TERM": "xterm", "NO_COLOR": ""}, True), ({"TERM": "dumb", "NO_COLOR": ""}, False), ({"TERM": "xterm", "NO_COLOR": "1"}, False)):
            status, written = self.on_a_terminal(environment, *ask)
            self.assertEqual(status, 0, written)
            self.assertEqual(b"\x1b" in written, wanted, f"{environment}: {written}")

    def test_a_data_folder_that_cannot_be_is_named(self):
        blocked = self.folder / "file"
        blocked.write_text("")
        error = self.refused(1, "serve", "--model", self.a_model(), "--port", 0, "--data", blocked / "data")
        self.assertIn(f"data folder {blocked}/data", error)
        self.assertIn("--data", error)
        for home in ({}, {"HOME": ""}):
            environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")} | home
            ended = subprocess.run([BINARY, "run", "--model", str(self.a_model()), "--tokens", "[5]", "--max-tokens", "1"], env=environment, cwd=self.folder, capture_output=True)
            self.assertEqual(ended.returncode, 0, ended.stderr)
            self.assertEqual([path.name for path in self.folder.iterdir()], ["file"])

    def a_large_shape(self, words=3_000_000):
        """A config.json whose weights take some seconds to write."""
        config = json.loads((self.a_model() / "config.json").read_text())
        config.update(vocab_size=words)
        path = self.folder / "large" / "config.json"
        path.parent.mkdir()
        path.write_text(json.dumps(config))
        return path

    def test_work_that_is_stopped_leaves_nothing_and_says_so(self):
        shape, room = self.a_large_shape(), self.folder / "room"
        large = self.folder / "large.gguf"
        self.good("synth", "--config", shape, large)
        for signal_sent, status, *command in (
                (signal.SIGINT, 130, "synth", "--config", shape, room / "a.gguf"), (signal.SIGTERM, 143, "synth", "--config", shape, room / "a"),
                (signal.SIGINT, 130, "quantize", large, room / "b.gguf", "--type", "q8_0"), (signal.SIGTERM, 143, "convert", large, room / "c", "--type", "f32"),
                (signal.SIGINT, 130, "convert", large, room / "d.redoubt-packed")):
            room.mkdir()
            started = subprocess.Popen([BINARY, *map(str, command), "--threads", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.assertTrue(running_server.eventually(lambda: list(room.rglob("*.partial")) or started.poll() is not None))
            started.send_signal(signal_sent)
            out, error = started.communicate(timeout=60)
            self.assertEqual(started.returncode, status, f"{command}: {error}")
            self.assertEqual((out, error.count("\n")), ("", 1), f"{command}: {error}")
            self.assertIn(f"stopped by {signal_sent.name}", error)
            self.assertEqual(list(room.iterdir()), [], command)
            room.rmdir()

    def test_a_file_over_the_limit_is_one_sentence_and_leaves_nothing(self):
        shape, room = self.a_large_shape(), self.folder / "room"
        room.mkdir()
        for command in (("synth", "--config", shape, room / "a.gguf"), ("synth", "--config", shape, room / "a"), ("convert", self.a_model(), room / "b.redoubt-packed"),
                        ("quantize", self.a_model(), room / "c.gguf", "--type", "q8_0")):
            ended = subprocess.run([BINARY, *map(str, command)], capture_output=True, text=True,
                                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)))
            self.assertEqual(ended.returncode, 1, f"{command}: {ended}")
            self.assertEqual(ended.stderr.count("\n"), 1, ended.stderr)
            self.assertIn("ulimit -f", ended.stderr)
            self.assertEqual(list(room.iterdir()), [], command)

    def as_nobody(self, *command):
        """The program as a user who may write nowhere, with rights that root has not given up where root runs the tests."""
        self.folder.chmod(0o755)
        program = self.folder / "program"
        if not program.exists():
            shutil.copy(BINARY, program)
        user = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder / "read-only")}
        return subprocess.run([program, *map(str, command)], capture_output=True, text=True, timeout=300, env=environment, cwd="/", **user)

    def test_a_folder_that_may_not_be_written_is_one_sentence_and_stays_empty(self):
        room, file, model = self.folder / "read-only", self.folder / "file", self.folder / "model"
        room.mkdir(mode=0o555)
        file.write_text("")
        shutil.copytree(self.a_model(), model, copy_function=shutil.copy)
        for path in (model, *model.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)
        before = sorted(self.folder.rglob("*"))
        for where, why in ((room, "Permission denied"), (file, "Not a directory")):
            for out in ("a.gguf", "a"):
                ended = self.as_nobody("synth", "--config", model / "config.json", where / out)
                self.assertEqual((ended.returncode, ended.stdout), (1, ""), ended.stderr)
                self.assertEqual((ended.stderr.count("\n"), str(where / out) in ended.stderr, why in ended.stderr), (1, True, True), ended.stderr)
            for data in (where, where / "data"):
                ended = self.as_nobody("doctor", "--json", "--data", data)
                self.assertEqual((ended.returncode, ended.stderr), (0, ""))
                found = next(finding for finding in json.loads(ended.stdout)["findings"] if finding["what"] == "data folder")
                self.assertFalse(found["good"], found)
                self.assertIn(str(where), found["remedy"])
                self.assertIn("--data", found["remedy"])
                self.assertNotIn("stop it", found["remedy"])
        ended = self.as_nobody("bench", "--model", model, "--packed", "auto", "--prompt", 2, "--gen", 1, "--threads", 1)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        self.assertEqual(sorted(path for path in self.folder.rglob("*") if path.name != "program"), before)
        nowhere = json.loads(self.good("doctor", "--json", "--data", "/proc/data"))["findings"]
        self.assertFalse(next(finding for finding in nowhere if finding["what"] == "data folder")["good"], nowhere)

    def test_figures_go_to_a_full_disk_in_one_sentence(self):
        if not pathlib.Path("/dev/full").exists():
            self.skipTest("no /dev/full here")
        for command in (("bench", "--model", self.a_model(), "--prompt", 1, "--gen", 1, "--threads", 1), ("doctor", "--data", self.folder / "data"),
                        ("synth", "--json", "--config", self.a_model() / "config.json", self.folder / "a.gguf")):
            with open("/dev/full", "w") as full:
                ended = subprocess.run([BINARY, *map(str, command)], stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
            self.assertEqual((ended.returncode, ended.stderr), (1, "redoubt: standard output: could not be written\n"), command)
        self.assertFalse((self.folder / "data").exists())

    def test_a_server_killed_while_it_packs_leaves_nothing_to_be_mistaken(self):
        room = self.folder / "room"
        room.mkdir()
        model, kept = room / "large.gguf", room / "large.gguf.redoubt-packed"
        partial = room / "large.gguf.redoubt-packed.partial"
        shape = self.a_large_shape(words=2_200_000)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(self.a_model() / name, shape.parent / name)
        self.good("synth", "--config", shape, "--type", "q8_0", model)
        serve = (BINARY, "serve", "--model", model, "--auth", "off", "--cache-bytes", "16M")
        with open(self.folder / "killed.log", "w") as log:
            killed = subprocess.Popen([*map(str, serve), "--packed", "auto", "--port", "0", "--data", self.folder / "data"], stdout=subprocess.DEVNULL, stderr=log)
            until = time.monotonic() + 60
            while not partial.exists() and killed.poll() is None and time.monotonic() < until:
                time.sleep(0.001)
            killed.kill()
            self.assertEqual(killed.wait(60), -signal.SIGKILL, (self.folder / "killed.log").read_text())
        self.assertEqual(sorted(room.iterdir()), [model, partial], "it was killed while it packed")
        for left in ("", "half of it"):  # the latter where a file system has no files without a name
            partial.write_text(left)
            with running_server.serving(self.folder, *serve, "--packed", "only-memory"):
                self.assertEqual(list(room.iterdir()), [model])
        partial.write_text("half of it")
        with running_server.serving(self.folder, *serve, "--packed", "auto"):
            self.assertTrue(running_server.eventually(lambda: kept.exists() and not partial.exists()), (self.folder / "log").read_text())
        self.assertIn("have their hashes", self.good("inspect", "--verify", kept))
        # Where it cannot be kept, one sentence says so.
        kept.unlink()
        shutil.move(model, room / "read.gguf")
        (self.folder / "read-only").mkdir(mode=0o555)
        room.chmod(0o555)
        self.addCleanup(room.chmod, 0o755)
        ended = self.as_nobody("bench", "--model", room / "read.gguf", "--packed", "auto", "--prompt", 2, "--gen", 1, "--threads", 1)
        self.assertEqual((ended.returncode, ended.stderr.count("\n")), (0, 1), ended.stderr)
        self.assertIn("the packed weights are not kept: cannot write", ended.stderr)
        self.assertEqual(list(room.iterdir()), [room / "read.gguf"])

    def test_figures_name_what_was_measured(self):
        model = self.a_model()
        for kernels in ("reference", "auto"):
            shape = {"prompt": 8, "gen": 2, "batch": 3, "depth": 20, "repeat": 3, "threads": 1}
            flags = [text for key, value in shape.items() for text in (f"--{key}", value)]
            figures = json.loads(self.good("bench", "--model", model, *flags, "--kernels", kernels, "--json"))
            self.assertEqual({key: figures[key] for key in shape}, shape)
            self.assertEqual(figures["kernels"] == "reference", kernels == "reference")
            for kind in ("prefill", "decode"):
                low, high = figures["spread"][f"{kind}_tokens_per_s"]
                self.assertLessEqual(low, figures[f"{kind}_tokens_per_s"])
                self.assertLessEqual(figures[f"{kind}_tokens_per_s"], high)
        nothing = json.loads(self.good("bench", "--model", model, "--prompt", 0, "--gen", 0, "--json"))
        self.assertIsNone(nothing["prefill_tokens_per_s"])
        self.assertIsNone(nothing["decode_tokens_per_s"])
        self.assertIsNone(nothing["read_bandwidth_bytes_per_s"])
        self.assertIn("read_bandwidth_bytes_per_s   not measured", self.good("bench", "--model", model, "--prompt", 0, "--gen", 0))

    def test_a_cache_that_does_not_fit_is_refused(self):
        config = json.loads((self.a_model() / "config.json").read_text())
        config.update(max_position_embeddings=1 << 24, rope_scaling=None)
        wide = self.folder / "config.json"
        wide.write_text(json.dumps(config))
        self.good("synth", "--config", wide, self.folder / "wide")
        many = ("bench", "--model", self.folder / "wide", "--batch", 512, "--prompt", 1, "--gen", 1, "--depth", 1 << 23)
        error = self.refused(1, *many)
        for part in ("512 sequences of 8388609 tokens", " needs ", " are available", "--cache-type q8"):
            self.assertIn(part, error)
        self.assertNotIn("--cache-type", self.refused(1, *many, "--cache-type", "q8"))

    def test_a_broken_file_gets_one_sentence(self):
        source = next((p for p in golden_models() if (p / "model.safetensors").exists()), None)
        if source is None:
            self.skipTest("no golden model in one file")
        broken = self.folder / "broken"
        for size in (0, 4, 8, 1000, -10):
            shutil.rmtree(broken, ignore_errors=True)
            shutil.copytree(source, broken, copy_function=shutil.copy)
            weights = broken / "model.safetensors"
            weights.chmod(0o644)
            weights.write_bytes((source / "model.safetensors").read_bytes()[:size])
            self.assertIn("model.safetensors", self.refused(1, "inspect", broken))
        gguf = self.folder / "x.gguf"
        gguf.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60))
        self.assertIn("x.gguf", self.refused(1, "inspect", gguf))

    def test_the_real_model_answers_and_measures(self):
        model, figures = os.environ.get("REDOUBT_REAL_MODEL"), DATA / "golden/real/smollm2.json"
        if not model or not figures.exists():
            self.skipTest("the real model or its figures are not here")
        whole = os.environ.get("REDOUBT_SOAK") == "1"  # the reference table takes minutes
        golden = json.loads(figures.read_text())
        for row in golden["prompts"] if whole else golden["prompts"][:1]:
            answer = json.loads(self.good("run", "--model", model, "--raw", row["prompt"], "--temp", 0, "--max-tokens", len(row["greedy_ids"]) if whole else 16,
                                          "--ignore-eos", "--kernels", "reference", "--cache-bytes", "256M", "--json", timeout=900))
            self.assertEqual(answer["prompt_ids"], row["ids"])
            self.assertEqual(answer["ids"], row["greedy_ids"][:len(answer["ids"])], row["prompt"])
        text = DATA / "golden/real" / golden["perplexity"]["text"]
        rule = golden["perplexity"]
        measured = json.loads(self.good("perplexity", "--model", model, text, "--windows", rule["windows"] if whole else 1, "--against", "reference", timeout=7200))
        self.assertLessEqual(measured["mean_kl"], 0.002)
        self.assertGreaterEqual(measured["same_top"], 0.98)
        self.assertLess(abs(measured["perplexity"] / measured["against_perplexity"] - 1), 0.005)
        if whole:
            self.assertEqual(measured["tokens"], rule["tokens"])
            self.assertLess(abs(measured["against_perplexity"] / rule["value"] - 1), 0.001)

    # --- the server's door

    def test_a_bind_beyond_loopback_needs_keys(self):
        model = self.a_model()
        self.assertIn("key", self.refused(1, "serve", "--model", model, "--auth", "off", "--host", "0.0.0.0", "--port", 0, "--data", self.folder / "d", "--cache-bytes", "16M", timeout=30))

    def test_the_configuration_names_what_it_does_not_know(self):
        config = self.folder / "c.yaml"
        config.write_text("prot: 1\n")
        error = self.refused(1, "serve", "--config", config)
        self.assertIn("line 1", error)
        self.assertIn("prot", error)

    def test_a_data_folder_and_a_port_are_held_by_one(self):
        model = self.a_model()
        first = subprocess.Popen([BINARY, "serve", "--model", model, "--auth", "off", "--port", "0", "--data", self.folder / "d", "--cache-bytes", "16M"], stdout=subprocess.PIPE, text=True)
        try:
            for line in first.stdout:
                if line.startswith("address"):
                    break
            port = line.split(":")[-1].split("/")[0]
            self.assertIn("another redoubt", self.refused(1, "serve", "--model", model, "--port", 0, "--data", self.folder / "d", timeout=30))
            self.assertIn(port, self.refused(1, "serve", "--model", model, "--auth", "off", "--port", port, "--data", self.folder / "e", timeout=30))
        finally:
            first.terminate()
            first.stdout.close()
            self.assertEqual(first.wait(60), 0)

    def test_keys_of_a_first_start_that_fails_are_kept(self):
        model = self.a_model()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            ended = redoubt("serve", "--model", model, "--port", taken.getsockname()[1], "--data", self.folder / "f", timeout=60)
        self.assertEqual(ended.returncode, 1)
        self.assertEqual(ended.stderr.count(b"\n"), 1, ended.stderr)
        self.assertIn(str(self.folder / "f" / "first.key"), ended.stdout.decode())
        kept = (self.folder / "f" / "first.key").read_text()
        self.assertIn("user key", kept)
        self.assertIn("appointing key", kept)

    def test_a_first_start_makes_keys_that_are_asked_for(self):
        model = self.a_model()
        for bootstrap in ("", "bootstrap-key-of-the-test"):
            data = self.folder / f"keys{len(bootstrap)}"
            server = subprocess.Popen([BINARY, "serve", "--model", model, "--port", "0", "--data", data, "--cache-bytes", "16M"], stdout=subprocess.PIPE, text=True,
                                      env={**os.environ, "REDOUBT_BOOTSTRAP_KEY": bootstrap})
            try:
                printed = ""
                for line in server.stdout:
                    printed += line
                    if line.startswith("address"):
                        break
                url = line.split()[1]
                kept = (data / "first.key").read_text()
                self.assertEqual((data / "first.key").stat().st_mode & 0o777, 0o600)
                self.assertIn("appointing key", kept)
                self.assertNotIn("rk_", printed)
                key = bootstrap or re.search(r"user key +(rk_\S+)", kept).group(1)
                self.assertEqual("user key" in kept, not bootstrap)
                for shown, status in (("", 401), ("Bearer wrong", 401), (f"Bearer {key}", 200)):
                    request = urllib.request.Request(url + "/models", headers={"Authorization": shown} if shown else {})
                    try:
                        self.assertEqual(urllib.request.urlopen(request, timeout=30).status, status)
                    except urllib.error.HTTPError as error:
                        self.assertEqual(error.code, status)
                listeners = {entry["name"]: entry["where"] for entry in json.loads(self.good("doctor", "--isolation", "--data", data, "--json"))["isolation"]}
                self.assertEqual("http://" + listeners["clients"] + "/v1", url)
                self.assertEqual("http://" + listeners["administration"], re.search(r"admin +(\S+)", printed).group(1))
            finally:
                server.terminate()
                server.stdout.close()
                self.assertEqual(server.wait(60), 0)

    def test_policies_of_a_data_folder_are_changed_by_its_owner(self):
        data, policies = self.folder / "policies", self.folder / "p.cedar"
        self.assertIn(str(data), self.refused(1, "policy", "apply", self.folder / "none", "--data", data) + self.refused(1, "policy", "show", "--data", data))
        server = subprocess.Popen([BINARY, "serve", "--model", self.a_model(), "--port", "0", "--data", data, "--cache-bytes", "16M"], stdout=subprocess.PIPE, text=True,
                                  env={**os.environ, "REDOUBT_BOOTSTRAP_KEY": "bootstrap-key-of-the-test"})
        try:
            url = next(line.split()[1] for line in server.stdout if line.startswith("address"))
            request = urllib.request.Request(url + "/models", headers={"X-Api-Key": "bootstrap-key-of-the-test"})
            self.assertEqual(urllib.request.urlopen(request, timeout=30).status, 200)
            policies.write_text(self.good("policy", "show", "--data", data) + '@id("none") forbid (principal, action == Redoubt::Action::"read_models", resource);')
            tried = json.loads(self.good("policy", "apply", policies, "--data", data, "--dry-run", "--json"))
            self.assertGreater(tried["changed_cells"], 0)
            done = json.loads(self.good("policy", "apply", policies, "--data", data, "--expected-version", tried["version"], "--note", "closed", "--json"))
            self.assertEqual(done["version"], tried["version"] + 1)
            self.refused(1, "policy", "apply", policies, "--data", data, "--expected-version", tried["version"])
            until = time.monotonic() + 5
            while time.monotonic() < until:
                try:
                    urllib.request.urlopen(request, timeout=30)
                    time.sleep(0.05)
                except urllib.error.HTTPError as error:
                    self.assertEqual(error.code, 403)
                    break
            else:
                self.fail("the running server did not follow")
            policies.write_text("forbid (principal, action, resource);")
            self.good("policy", "apply", policies, "--data", data)
            explain = lambda *args: json.loads(self.good("policy", "explain", "--data", data, *args, "--json"))["decision"]
            self.assertEqual(explain("read_audit", "Route::GET /x", "--role", "audit_admin"), "allow", "no text silences the audit")
            self.assertEqual(explain("read_policies", "Route::GET /x", "--role", "audit_admin"), "deny")
            # What the directory knows of a user need not be said, and whom it does not know is told.
            policies.write_text('permit (principal in Redoubt::Role::"user", action, resource); permit (principal == Redoubt::User::"frist", action, resource);')
            self.assertEqual(explain("generate", "Model::r1", "--file", policies, "--user", "first"), "allow")
            self.assertEqual(explain("generate", "Model::r1", "--file", policies, "--user", "first", "--role", "none"), "deny")
            self.assertIn("nobody", self.refused(1, "policy", "explain", "--data", data, "generate", "Model::r1", "--user", "nobody"))
            warnings = json.loads(self.good("policy", "check", policies, "--data", data, "--json"))["warnings"]
            self.assertEqual([warning.split(": ")[1] for warning in warnings if warning.startswith("line")], ['there is no user "frist"'])
            self.assertIn("no security administrator could change policies", warnings[-1])
            self.assertIn('there is no action "nosuch"', self.good("policy", "explain", "--data", data, "nosuch", "Model::r1", "--user", "first"))
        finally:
            server.terminate()
            server.stdout.close()
            self.assertEqual(server.wait(60), 0)

    def test_a_model_that_is_being_loaded_is_not_waited_for(self):
        never = self.folder / "never.gguf"
        os.mkfifo(never)  # opening it waits for a writer that does not come
        server = subprocess.Popen([BINARY, "serve", "--model", never, "--auth", "off", "--port", "0", "--data", self.folder / "d"], stdout=subprocess.PIPE, text=True)
        try:
            for line in server.stdout:
                if line.startswith("loading"):
                    break
            server.terminate()
            self.assertEqual(server.wait(20), 0)
        finally:
            server.kill()
            server.stdout.close()
            server.wait()

    def test_who_waits_for_a_model_holds_nobody_up(self):
        model = ROOT / "tests/golden/models/deepseek_v3"
        never, config = self.folder / "never.gguf", self.folder / "c.yaml"
        os.mkfifo(never)
        config.write_text(f"models:\n  - {{name: here, path: {model}}}\n  - {{name: never, path: {never}}}\n")
        # The context and the cache are not to be had: each gets one line.
        server = subprocess.Popen([BINARY, "serve", "--config", config, "--auth", "off", "--port", "0", "--data", self.folder / "d", "--context", str(1 << 30), "--cache-bytes", "900G"],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            port = running_server.served_port(server, None)

            def connect(name):
                body = json.dumps({"model": name, "prompt": "a", "max_tokens": 2})
                connection = socket.create_connection(("127.0.0.1", port), timeout=60)
                connection.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
                return connection.makefile("rb")

            waiting = [connect("never") for _ in range(8)]
            for _ in range(8):
                self.assertIn(b" 200 OK", connect("here").readline())
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as metrics:
                self.assertIn(b"redoubt_http_connections 9\n", metrics.read())
            server.terminate()
            for answer in waiting:
                self.assertIn(b" 503 ", answer.readline())
            self.assertEqual(server.wait(20), 0)
            said = server.stderr.read()
            self.assertRegex(said, "a context of 1073741824 tokens was asked for, the model's is [0-9]+\n")
            self.assertRegex(said, "a cache of 966.4 GB was asked for, [0-9.]+ .B hold all that can run at once")
        finally:
            server.kill()
            server.stdout.close()
            server.stderr.close()
            server.wait()

    def chat(self, home, *flags, typed=b"hello\r"):
        """One line and the end, at a terminal."""
        terminal, side = pty.openpty()
        environment = {**os.environ, "HOME": str(home), "XDG_DATA_HOME": str(home), "TERM": "xterm", "LC_ALL": "C.UTF-8"}
        command = [BINARY, "run", "--model", ROOT / "tests/golden/models/deepseek_v3", "--max-tokens", "1", *flags]
        with subprocess.Popen(command, stdin=side, stdout=side, stderr=side, env=environment) as chat:
            os.close(side)
            for keys in (typed, b"\x04"):
                seen = b""
                while b"\x1b[?2004h" not in seen:
                    seen += os.read(terminal, 4096)
                self.assertTrue(running_server.eventually(lambda: not termios.tcgetattr(terminal)[3] & termios.ICANON))
                os.write(terminal, keys)
            while chat.poll() is None:
                try:
                    os.read(terminal, 4096)
                except OSError:
                    break
        os.close(terminal)

    def test_a_chat_keeps_its_lines_for_its_owner_or_not_at_all(self):
        kept = self.folder / "kept"
        self.chat(kept)
        self.assertEqual((kept / "redoubt").stat().st_mode & 0o777, 0o700)
        self.assertEqual((kept / "redoubt" / "chat_history").stat().st_mode & 0o777, 0o600)
        self.assertIn("hello", (kept / "redoubt" / "chat_history").read_text())
        self.chat(self.folder / "none", "--no-history")
        self.assertFalse(list(self.folder.glob("none/**/chat_history")))

    def test_run_leaves_no_core_with_the_prompt(self):
        def allow():
            resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        if hard == 0:
            self.skipTest("core dumps are off for every process here")
        for command in ([BINARY, "run", "--model", self.a_model()], ["sleep", "60"]):
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=allow, cwd=self.folder) as waiting:
                time.sleep(1)  # it waits for the question
                os.kill(waiting.pid, signal.SIGABRT)
                status = os.waitpid(waiting.pid, 0)[1]
                waiting.returncode = -signal.SIGABRT
            self.assertTrue(os.WIFSIGNALED(status), command)
            if command[0] == "sleep" and not os.WCOREDUMP(status):
                self.skipTest("core dumps lead nowhere here")
            self.assertEqual(os.WCOREDUMP(status), command[0] == "sleep", command)

    def test_keys_of_a_chat_edit_its_line(self):
        typed = b"one two\x1b[1;5DX\x1b[15;5~\x1b[H0\x1b[F9\x1b[1;5D\x1b[1;5D\x1b[3~\x1b[200~\xc3\xa9\n\x1b[201~\r"
        terminal, side = pty.openpty()
        home = {**os.environ, "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder), "TERM": "xterm", "LC_ALL": "C.UTF-8"}
        command = [BINARY, "run", "--model", ROOT / "tests/golden/models/deepseek_v3", "--max-tokens", "1"]
        with subprocess.Popen(command, stdin=side, stdout=side, stderr=side, env=home) as chat:
            os.close(side)
            for keys in (typed, b"\x04"):
                seen = b""
                while b"\x1b[?2004h" not in seen:  # it asks for pasted text to be marked: it is going to read a line
                    seen += os.read(terminal, 4096)
                self.assertTrue(running_server.eventually(lambda: not termios.tcgetattr(terminal)[3] & termios.ICANON))
                os.write(terminal, keys)
            while chat.poll() is None:
                try:
                    os.read(terminal, 4096)
                except OSError:
                    break
        os.close(terminal)
        written = [path.read_text() for path in self.folder.rglob("chat_history")]
        self.assertEqual(len(written), 1)
        self.assertEqual(written[0].replace("\\040", " ").splitlines()[1:], ["\u00e9\u23ceone Xtwo9"])

    # --- who there is

    def a_used_data_folder(self):
        """That of a server which was started once."""
        data = self.folder / "data"
        server = subprocess.Popen([BINARY, "serve", "--model", self.a_model(), "--port", "0", "--admin-port", "0", "--data", data, "--cache-bytes", "16M"],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        next(line for line in server.stdout if line.startswith("address"))
        server.terminate()
        server.communicate()
        self.assertEqual(server.wait(60), 0)
        return data

    def test_a_folder_without_its_database_is_refused_and_left_as_it_is(self):
        missing, empty, of_postgres = self.folder / "typo", self.folder / "empty", self.folder / "of_postgres"
        empty.mkdir()
        of_postgres.mkdir()
        (of_postgres / "hash.key").write_text(base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=") + "\n")
        (of_postgres / "hash.key").chmod(0o600)
        policies = self.folder / "p.cedar"
        policies.write_text("permit (principal, action, resource);")
        before = sorted(self.folder.rglob("*"))
        for data in (missing, empty, of_postgres):
            for command in (("key", "list"), ("key", "create", "ann"), ("key", "revoke", "x"), ("user", "list"), ("user", "create", "ann"),
                            ("user", "appoint", "--system", "s", "--security", "t", "--audit", "u"), ("team", "list"), ("tenant", "create", "bank"),
                            ("limit", "list"), ("limit", "usage"), ("limit", "set", "tenant", "default", "tokens_per_day", "5"),
                            ("policy", "show"), ("policy", "check", policies), ("policy", "diff", policies), ("policy", "apply", policies),
                            ("policy", "explain", "generate", "Model::r1", "--user", "ann")):
                said = self.refused(1, *command, "--data", data)
                self.assertIn(f"{data}: no server has used this data folder", said, command)
                self.assertIn("start `redoubt serve` once", said, command)
        self.assertEqual(sorted(self.folder.rglob("*")), before, "nothing is made")

    def test_users_teams_and_keys_of_a_data_folder(self):
        data = self.a_used_data_folder()

        def ask(*arguments):
            return json.loads(self.good(*arguments, "--data", data, "--json"))
        ask("tenant", "create", "bank")
        ask("team", "create", "risk", "--tenant", "bank")
        user = ask("user", "create", "ana@bank", "--tenant", "bank", "--team", "risk", "--label", "site=vienna", "--oidc", "https://idp", "x1")
        self.assertEqual((user["teams"], user["labels"], user["roles"]), (["risk"], {"site": "vienna"}, ["user"]))
        # What is not named stays.
        ask("user", "change", "ana@bank", "--certificate", "CN=ana", "--label", "floor=3")
        changed = ask("user", "change", "ana@bank", "--oidc", "https://idp", "x2")
        self.assertEqual([(one["method"], one["subject"]) for one in changed["identities"]], [("mtls", "CN=ana"), ("oidc", "x2")])
        self.assertEqual(changed["labels"], {"site": "vienna", "floor": "3"})
        changed = ask("user", "change", "ana@bank", "--no-certificate", "--no-label", "floor", "--label", "site=graz")
        self.assertEqual([one["subject"] for one in changed["identities"]], ["x2"])
        self.assertEqual(changed["labels"], {"site": "graz"})
        ask("team", "change", "risk", "--tenant", "bank", "--label", "a=1")
        self.assertEqual(ask("team", "change", "risk", "--tenant", "bank", "--label", "b=2")["labels"], {"a": "1", "b": "2"})
        for left, gone in (("--team", "--no-team"), ("--certificate", "--no-certificate")):
            self.assertIn(gone, self.refused(2, "user", "change", "ana@bank", left, "risk", gone, "--data", data))
        # Of several who change one record at once none undoes what another did.
        at_once = [subprocess.Popen([BINARY, "user", "change", "ana@bank", "--label", f"l{i}={i}", "--data", data], stdout=subprocess.DEVNULL)
                   for i in range(6)]
        self.assertEqual([one.wait(60) for one in at_once], [0] * 6)
        self.assertEqual(ask("user", "show", "ana@bank")["labels"], {"site": "graz", **{f"l{i}": str(i) for i in range(6)}})
        self.assertIn("--oidc", self.refused(2, "user", "create", "bob", "--oidc", "onlyone", "--data", data))  # CLI11 of Debian 13 says it in its own words
        made = ask("key", "create", "ana@bank", "--scope", "generate", "--expires", "90d")
        self.assertRegex(made["key"], rf"^rk_{made['id']}_[A-Za-z0-9_-]{{43}}$")
        self.assertEqual(made["expires_at"] - made["created_at"], 90 * 86400)
        listed = self.good("key", "list", "--data", data)
        self.assertIn(made["id"], listed)
        self.assertNotIn(made["key"][12:], listed)
        for path in data.iterdir():
            self.assertNotIn(made["key"][12:].encode(), path.read_bytes(), path)
            self.assertEqual(path.stat().st_mode & 0o077, 0, path)
        renewed = ask("key", "rotate", made["id"], "--overlap", "1h")
        self.assertEqual(ask("key", "show", made["id"])["replaced_by"], renewed["id"])
        self.assertEqual(ask("key", "revoke", renewed["id"])["state"], "revoked")
        self.assertTrue(ask("user", "change", "ana@bank", "--disable")["disabled"])
        three = ask("user", "appoint", "--system", "s", "--security", "t", "--audit", "u")
        self.assertEqual([three[office]["user"] for office in ("system", "security", "audit")], ["s", "t", "u"])
        ask("user", "remove", "ana@bank")
        self.refused(1, "user", "show", "ana@bank", "--data", data)
        self.refused(1, "user", "create", "ana@bank", "--data", data)
        for text in ("soon", "0d", "0s", "90", ""):
            self.refused(2, "key", "create", "s", "--expires", text, "--data", data)
        self.refused(2, "key", "list", "--server", "http://127.0.0.1:1", "--key-file", self.folder / "none")

    def test_limits_of_a_data_folder(self):
        data = self.a_used_data_folder()

        def limit(*arguments):
            ended = redoubt("limit", *arguments, "--data", data, "--json")
            self.assertEqual(ended.returncode, 0, ended.stderr)
            return json.loads(ended.stdout), ended.stderr.decode()
        self.good("tenant", "create", "bank", "--data", data)
        self.assertEqual(limit("set", "tenant", "bank", "tokens_per_day", 5)[1], "")
        done, said = limit("set", "tenant", "bnak", "tokens_per_day", 5)
        self.assertEqual(len(done["warnings"]), 1)
        self.assertIn("bnak", said)
        self.assertIn("no model has a price", limit("set", "tenant", "bank", "money_per_day", 5)[1])
        self.assertIn("default/risk", self.refused(1, "limit", "set", "team", "risk", "tokens_per_day", 5, "--data", data))
        for wrong in (("nosuch", "--weight", "2"), ("bank",), ("bank", "--weight", "0"), ("bank", "--weight", "-1"), ("bank", "--time-zone", "")):
            self.assertNotEqual(redoubt("limit", "tenant", *wrong, "--data", data).returncode, 0, wrong)
        self.assertEqual(limit("tenant", "bank", "--weight", "2")[0]["time_zone"], "UTC")
        limit("price", "r1", "--prompt", 5, "--answer", 7)
        priced = limit("price", "r1", "--prompt", 6)[0]
        self.assertEqual((priced["prompt"], priced["answer"]), (6, 7))
        self.assertNotEqual(redoubt("limit", "price", "r1", "--data", data).returncode, 0)
        self.assertIn("bnak", redoubt("limit", "list", "--data", data).stderr.decode())

    def test_doctor_tells_what_it_found(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            findings = json.loads(self.good("doctor", "--json", "--port", taken.getsockname()[1], "--data", self.folder))["findings"]
        by_name = {finding["what"]: finding for finding in findings}
        self.assertFalse(by_name["port"]["good"])
        self.assertTrue(by_name["port"]["remedy"])
        self.assertTrue({"processor", "cores", "memory", "memory bandwidth", "GPU", "database", "clock"} <= set(by_name))
        self.assertTrue(by_name["database"]["good"])

    def ports(self, *flags):
        findings = json.loads(self.good("doctor", "--json", *flags))["findings"]
        return {finding["what"]: finding for finding in findings if "port" in finding["what"]}

    def test_doctor_looks_at_the_ports_of_the_configuration(self):
        config, data = self.folder / "ports.yaml", self.folder / "nobody"
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            config.write_text(f"port: 0\nadmin_port: {port}\n")
            ports = self.ports("--config", config, "--data", data)
            self.assertTrue(ports["port"]["good"])
            self.assertFalse(ports["admin port"]["good"])
            self.assertIn(f"127.0.0.1:{port} is taken", ports["admin port"]["found"])
            self.assertIn("admin_port", ports["admin port"]["remedy"])
            config.write_text(f"port: {port}\nauth: off\n")
            ports = self.ports("--config", config, "--data", data)
            self.assertEqual(list(ports), ["port"])
            self.assertFalse(ports["port"]["good"])
            config.write_text(f"host: 192.0.2.1\nport: {port}\nbehind_tls_proxy: true\n")
            self.assertIn("address of this machine", self.ports("--config", config, "--data", data)["port"]["remedy"])

    def test_doctor_makes_no_folder(self):
        there = json.loads(self.good("doctor", "--json", "--data", self.folder / "typo" / "data"))["findings"]
        data = next(finding for finding in there if finding["what"] == "data folder")
        self.assertTrue(data["good"])
        self.assertIn("not there yet", data["found"])
        self.assertFalse((self.folder / "typo").exists())

    def test_doctor_sees_a_folder_that_everyone_may_write_to(self):
        def data():
            findings = json.loads(self.good("doctor", "--json", "--data", self.folder / "shared"))["findings"]
            return next(finding for finding in findings if finding["what"] == "data folder")
        (self.folder / "shared").mkdir(mode=0o700)
        self.assertTrue(data()["good"])
        (self.folder / "shared" / "redoubt.db").touch(mode=0o644)
        self.assertIn("redoubt.db", data()["found"])
        (self.folder / "shared").chmod(0o777)
        self.assertFalse(data()["good"])
        self.assertIn("chmod 700", data()["found"])

    def test_doctor_opens_the_database(self):
        def database(config):
            (self.folder / "doctor.yaml").write_text(config)
            (self.folder / "doctor.yaml").chmod(0o600)  # it may hold a password
            findings = json.loads(self.good("doctor", "--json", "--config", self.folder / "doctor.yaml", "--data", self.folder / "doctor"))["findings"]
            return next(finding for finding in findings if finding["what"] == "database")
        away = database("database: postgresql://ann:secret@127.0.0.1:1/redoubt")
        self.assertFalse(away["good"])
        self.assertIn("PostgreSQL", away["remedy"])
        self.assertNotIn("secret", json.dumps(away))
        self.assertTrue(database("port: 0")["good"])
        self.assertFalse((self.folder / "doctor" / "redoubt.db").exists(), "it is looked for and not made")
        (self.folder / "doctor").mkdir(exist_ok=True)
        (self.folder / "doctor" / "redoubt.db").write_text("no database" * 1000)
        self.assertFalse(database("port: 0")["good"])

    def test_doctor_tells_what_a_running_server_does(self):
        data = self.folder / "open"
        server = subprocess.Popen([BINARY, "serve", "--model", self.a_model(), "--auth", "off", "--port", "0", "--data", data, "--cache-bytes", "16M"], stdout=subprocess.PIPE, text=True)
        try:
            url = next(line.split()[1] for line in server.stdout if line.startswith("address"))
            listeners = [entry for entry in json.loads(self.good("doctor", "--isolation", "--data", data, "--json"))["isolation"]]
            self.assertEqual([entry["name"] for entry in listeners], ["clients"])
            self.assertEqual("http://" + listeners[0]["where"] + "/v1", url)
            self.assertIn("auth: off", listeners[0]["how"])
            keys = next(finding for finding in json.loads(self.good("doctor", "--data", data, "--json"))["findings"] if finding["what"] == "keys")
            self.assertFalse(keys["good"])
            self.assertIn(str(data), keys["found"])
            # Its port is no other program's, whichever way it is asked about.
            port = url.removesuffix("/v1").rsplit(":", 1)[1]
            (self.folder / "own.yaml").write_text(f"port: {port}\nauth: off\n")
            for flags in ((), ("--port", port), ("--config", self.folder / "own.yaml")):
                held = self.ports("--data", data, *flags)["port"]
                self.assertTrue(held["good"], held)
                self.assertEqual(held["found"], f"127.0.0.1:{port} is held by the server that runs on {data}")
            # A file that is asked about is another server than the one that runs.
            (self.folder / "other.yaml").write_text("host: 127.0.0.1\nport: 9321\ndatabase: postgresql://db/r\nmodels: [{name: m, path: m}]\n")
            asked = ("doctor", "--config", self.folder / "other.yaml", "--data", data, "--json")
            other = json.loads(self.good(*asked, "--isolation"))
            self.assertEqual({entry["name"]: entry["where"] for entry in other["isolation"]}["clients"], "127.0.0.1:9321")
            self.assertIn("database", [entry["name"] for entry in other["isolation"]])
            self.assertIn("other.yaml", other["source"])
            self.assertIn("other.yaml", self.good("doctor", "--isolation", "--config", self.folder / "other.yaml", "--data", data).splitlines()[0])
        finally:
            server.terminate()
            server.stdout.close()
            self.assertEqual(server.wait(60), 0)


    def test_streams_that_outlast_the_drain_are_told_so(self):
        model = self.folder / "model"
        shutil.copytree(ROOT / "tests/golden/models/qwen2", model)
        shape = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(shape | {"max_position_embeddings": 1 << 20}))  # no answer ends by itself
        config = self.folder / "serve.yaml"
        config.write_text(f"models: [{{name: m, path: {model}}}]\nauth: off\nport: 0\ndata: {self.folder}/data\ndrain_s: 1\ncache_bytes: 64M\n")
        server = subprocess.Popen([BINARY, "serve", "--config", config], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            port = int(next(line for line in server.stdout if line.startswith("address")).split(":")[-1].split("/")[0])
            asked = {"model": "m", "stream": True, "max_tokens": 100000, "ignore_eos": True}
            asks = {"/v1/chat/completions": {"messages": [{"role": "user", "content": "a"}]}, "/v1/completions": {"prompt": "a"},
                    "/v1/messages": {"messages": [{"role": "user", "content": "a"}]}, "/v1/responses": {"input": "a"}}
            streams = {}
            for path, body in asks.items():
                text = json.dumps(asked | body)
                streams[path] = socket.create_connection(("127.0.0.1", port))
                streams[path].settimeout(60)
                streams[path].sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
            begun = {path: stream.recv(4096) for path, stream in streams.items()}
            server.terminate()
            answers = {path: begun[path] for path in streams}
            readers = [threading.Thread(target=lambda path=path, stream=stream: answers.update({path: b"".join([answers[path], *iter(lambda: stream.recv(65536), b"")])}))
                       for path, stream in streams.items()]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join(60)
            for path, answer in answers.items():
                self.assertTrue(answer.startswith(b"HTTP/1.1 200"), (path, answer[:300]))
                self.assertIn(b"cancelled by the server", answer[-2000:], (path, answer[-300:]))
                self.assertTrue(answer.endswith(b"0\r\n\r\n"), (path, answer[-300:]))
        finally:
            server.terminate()
            server.stdout.close()
            self.assertEqual(server.wait(60), 0)


if __name__ == "__main__":
    BINARY = str(pathlib.Path(sys.argv[1]).resolve())
    sys.exit(not unit_results.run("cli", Commands, sys.argv[2:]))

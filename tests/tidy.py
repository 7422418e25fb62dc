"""What a machine can judge of the source's order, one test a rule. Run: python3 tests/tidy.py [BUILD_FOLDER]

The order of the folders is read from REDOUBT_FOLDERS in CMakeLists.txt. BUILD_FOLDER, if given, holds the
compile_commands.json that tells which sources are built.
"""
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
MAX_LINES = 600

# Longer than MAX_LINES, each with its reason. Keep it short.
LONG_FILES = {}
# Where printing is the job: the commands, the log's last resort.
MAY_PRINT = ("src/apps/", "src/core/result.h")


def sources(*suffixes):
    folders = [SRC, ROOT / "tests", ROOT / "bench", ROOT / "fuzz"]
    return sorted(p for folder in folders if folder.exists() for p in folder.rglob("*") if p.suffix in suffixes)


def name(path):
    return path.relative_to(ROOT).as_posix()


def includes(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+([<"])([^>"]+)[>"]', line)
        if match:
            yield number, match.group(1), match.group(2)


def folder_order():
    text = (ROOT / "CMakeLists.txt").read_text()
    return re.search(r"set\(REDOUBT_FOLDERS ([^)]*)\)", text).group(1).split()


def no_upward_include():
    order = folder_order()
    for path in sources(".h", ".cpp"):
        parts = path.relative_to(ROOT).parts
        if parts[0] != "src":
            continue
        own = parts[1]
        if own not in order:
            yield f"{name(path)}: folder {own} is not in REDOUBT_FOLDERS"
            continue
        for number, quote, target in includes(path):
            other = target.split("/")[0]
            if quote == '"' and other in order and order.index(other) > order.index(own):
                yield f"{name(path)}:{number}: {own} may not include {target}: only folders before it in REDOUBT_FOLDERS"


def every_folder_says_what_it_answers():
    for folder in sorted(p for p in SRC.iterdir() if p.is_dir() and any(p.rglob("*.cpp"))):
        if not (folder / "README.md").exists():
            yield f"{name(folder)}: no README.md"


def files_are_short():
    for path in sources(".h", ".cpp", ".cu"):
        lines = path.read_text().count("\n")
        if lines > MAX_LINES and name(path) not in LONG_FILES and name(path).startswith("src/"):
            yield f"{name(path)}: {lines} lines, at most {MAX_LINES}; split it by its second noun"
    for listed in LONG_FILES:
        if not (ROOT / listed).exists():
            yield f"LONG_FILES lists {listed}, which does not exist"


def no_unowned_marker():
    for path in sources(".h", ".cpp", ".cu", ".py"):
        if path == pathlib.Path(__file__).resolve():
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.search(r"\b(TODO|FIXME|XXX|HACK)\b(?!\([a-z#0-9])", line):
                yield f"{name(path)}:{number}: a TODO names its owner or issue, TODO(#12), or is done"


def no_leftover_print():
    for path in sources(".h", ".cpp"):
        if not name(path).startswith("src/") or name(path).startswith(MAY_PRINT) or path.name.endswith("_test.cpp"):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.search(r"\bstd::(cout|cerr)\b|(?<![\w:])f?printf\(|std::f?printf\(|fmt::print\(", line):
                yield f"{name(path)}:{number}: prints; use the log"


def headers_are_guarded_and_used():
    included = {target for path in sources(".h", ".cpp", ".cu") for _, _, target in includes(path)}
    for path in sources(".h"):
        if "#pragma once" not in path.read_text().split("\n#include", 1)[0]:
            yield f"{name(path)}: no #pragma once before its first include"
        relative = path.relative_to(ROOT).as_posix()
        candidates = {relative.removeprefix("src/"), relative.removeprefix("tests/"), relative, path.name}
        if not candidates & included:
            yield f"{name(path)}: included by nobody"


def every_source_is_built():
    if len(sys.argv) < 2:
        return
    commands = json.loads((pathlib.Path(sys.argv[1]) / "compile_commands.json").read_text())
    built = {pathlib.Path(command["file"]).resolve() for command in commands}
    for path in sources(".cpp"):
        # Architecture folders and the fuzz and bench targets are built elsewhere.
        if name(path).startswith("src/") and not {"neon", "neon_dotprod", "neon_i8mm"} & set(path.parts) and path.resolve() not in built:
            yield f"{name(path)}: built by no target"


def one_file_sees_beast():
    seen = [name(p) for p in sources(".h", ".cpp") if any(t.startswith("boost/beast") for _, _, t in includes(p))]
    if len(seen) > 1:
        yield f"boost/beast costs 30 s and 1 GB a translation unit; included by {', '.join(seen)}"
    for path in seen:
        if path.endswith(".h"):
            yield f"{path}: a header that includes boost/beast gives it to everyone"


# What some standard libraries bring along with other headers, and newer ones do not.
NAMED_HEADERS = {
    "algorithm": r"\bstd::(ranges::)?(all_of|any_of|binary_search|clamp|copy|copy_if|copy_n|count|count_if|equal|fill|fill_n|find|find_if"
                 r"|generate|is_sorted|lower_bound|max|max_element|min|min_element|minmax|mismatch|none_of|nth_element|partial_sort"
                 r"|partition|remove_if|replace|reverse|rotate|search|shuffle|sort|stable_partition|stable_sort|transform|unique"
                 r"|upper_bound)\s*[(<]",
    "numeric": r"\bstd::(accumulate|gcd|iota|lcm|reduce)\s*[(<]",
    "sstream": r"\bstd::[io]?stringstream\b",
}


def standard_headers_are_named():
    for path in sources(".h", ".cpp"):
        text = re.sub(r"//.*", "", path.read_text())
        seen = {target for _, _, target in includes(path)}
        if path.suffix == ".cpp" and path.with_suffix(".h").exists():
            seen |= {target for _, _, target in includes(path.with_suffix(".h"))}
        for header, use in NAMED_HEADERS.items():
            found = re.search(use, text)
            if found and header not in seen:
                yield f"{name(path)}: uses {found[0].rstrip('(<')} without <{header}>"


def main():
    rules = [no_upward_include, every_folder_says_what_it_answers, files_are_short, no_unowned_marker, no_leftover_print,
             headers_are_guarded_and_used, every_source_is_built, one_file_sees_beast,
             standard_headers_are_named]
    findings = [(rule.__name__, finding) for rule in rules for finding in rule()]
    for rule, finding in findings:
        print(f"{rule}: {finding}")
    print(f"tidy: {len(rules)} rules, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

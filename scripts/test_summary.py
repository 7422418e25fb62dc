"""Counts single tests of a ctest run from the result files in a folder, lists every skip with its reason, and closes
with the plain line "N passed, N failed, N skipped". Exit status 1 if anything failed or nothing ran."""
import pathlib
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter


def read_cases(path):
    """Yields (name, outcome, reason) of one GoogleTest or JUnit file."""
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        if case.get("status") == "notrun":  # filtered out
            continue
        name = f"{case.get('classname', '')}.{case.get('name', '')}".lstrip(".")
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            yield name, "failed", ""
        elif skipped is not None:
            yield name, "skipped", (skipped.get("message") or skipped.text or "").strip()
        else:
            yield name, "passed", ""


def main(folder):
    counts, skips, failures = Counter(), [], []
    detailed = {}
    for path in sorted(folder.glob("*.xml")):
        detailed[path.stem] = list(read_cases(path))
    # A ctest entry that left a result file is counted by its cases; one without (a script, a crash) counts as one.
    entries = ElementTree.parse(folder / "ctest.junit").getroot().iter("testcase")
    for entry in entries:
        name, status = entry.get("name"), entry.get("status")
        failed = status == "fail"
        cases = detailed.pop(name, None)
        if cases is None:
            skipped = entry.find("skipped")
            if status == "disabled" or (skipped is not None and not failed):
                cases = [(name, "skipped", (entry.findtext("system-out") or "").strip().split("\n")[-1])]
            else:
                cases = [(name, "failed" if failed else "passed", "")]
        elif failed and not any(outcome == "failed" for _, outcome, _ in cases):
            cases.append((f"{name} (ended badly)", "failed", ""))
        for case, outcome, reason in cases:
            counts[outcome] += 1
            if outcome == "skipped":
                skips.append((f"{name}: {case}", reason))
            elif outcome == "failed":
                failures.append(f"{name}: {case}")
    for name, reason in skips:
        print(f"SKIPPED {name}: {' '.join(reason.split())[:300] or 'no reason given'}")
    for name in failures:
        print(f"FAILED  {name}")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))

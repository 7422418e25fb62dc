"""Our evaluator against Cedar's own, on random policies, entities and requests.

  python differential.py PROGRAM [--cases 100000] [--seed 1] [--minutes M]

PROGRAM is policy_cases. A case is one request for one set of policies and entities. Compared: whether the text is taken,
the decision, which policies determined it, and which could not be evaluated. A difference is made small and printed; the
exit status is then 1.
"""
import argparse
import json
import multiprocessing
import re
import subprocess
import sys
import time

import cedarpy

from cases import Maker, directed, smaller_cases, text_of

REQUESTS_PER_SET = 4
# What Cedar takes and we refuse, by what we say (docs/policies.md, "What is left out").
REFUSED_ON_PURPOSE = re.compile(r"takes \d argument|templates|nested deeper")


class Ours:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")

    def decide(self, case):
        self.process.stdin.write(json.dumps({k: case[k] for k in ("policies", "entities", "requests")}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def cedar(case):
    results = []
    for answer in cedarpy.is_authorized_batch(case["requests"], case["policies"], case["entities"]):
        if answer.decision == cedarpy.Decision.NoDecision:
            return {"refused": "; ".join(answer.diagnostics.errors)}
        failed = [int(re.match(r"error while evaluating policy `policy(\d+)`", e).group(1)) for e in answer.diagnostics.errors]
        results.append({"allowed": answer.decision == cedarpy.Decision.Allow,
                        "reasons": sorted(int(p.removeprefix("policy")) for p in answer.diagnostics.reasons),
                        "errors": sorted(failed)})
    return {"results": results}


def difference(ours, case):
    """A sentence, or None."""
    mine, theirs = ours.decide(case), cedar(case)
    if "refused" in mine:
        if "refused" in theirs or REFUSED_ON_PURPOSE.search(mine["refused"]):
            return None
        return f"we refuse ({mine['refused']}), Cedar decides"
    if "refused" in theirs:
        return f"we decide, Cedar refuses ({theirs['refused']})"
    for at, (a, b) in enumerate(zip(mine["results"], theirs["results"], strict=True)):
        if a != b:
            return f"request {at}: we say {json.dumps(a)}, Cedar {json.dumps(b)}"
    return None


def damaged(text, random):
    """The text with a few of its tokens gone, doubled or exchanged."""
    tokens = re.findall(r'"(?:[^"\\]|\\.)*"|\w+|==|!=|<=|>=|&&|\|\||::|\S', text)
    for _ in range(random.choice([1, 1, 2])):
        at, other = random.randrange(len(tokens)), random.randrange(len(tokens))
        change = random.randrange(4)
        if change == 0:
            del tokens[at]
        elif change == 1:
            tokens.insert(at, tokens[other])
        elif change == 2:
            tokens[at], tokens[other] = tokens[other], tokens[at]
        else:
            tokens[at] = random.choice(["(", ")", "{", "}", "[", "]", ",", ".", "-", "!", "in", "has", "is", "like", "if", "1",
                                        '"a"', "principal", "==", "&&", ";", "@", "::", "true", "unless", "*", "<"])
        if not tokens:
            break
    return " ".join(tokens)


def with_text(case):
    return {**case, "policies": "\n".join(map(text_of, case["trees"]))}


def shrunk(ours, case):
    """The smallest case found that still differs. Every step is kept only if it does."""
    found, deadline = True, time.monotonic() + 60
    while found and time.monotonic() < deadline:
        found = False
        for candidate in map(with_text, smaller_cases(case)):
            if difference(ours, candidate):
                case, found = candidate, True
                break
    return case


def report(ours, case, damage):
    if not damage:
        case = shrunk(ours, case)
    print("policy differential: a difference from Cedar:", difference(ours, case))
    print(json.dumps({k: case[k] for k in ("policies", "entities", "requests")}, ensure_ascii=False, indent=1))
    print(case["policies"], flush=True)


def work(arguments):
    program, seed, sets, deadline = arguments
    ours, compared, refused, differing = Ours(program), 0, 0, 0
    outcomes = {"allowed": 0, "errors": 0}
    maker = Maker(seed)
    for _ in range(sets):
        if deadline and time.time() > deadline:
            break
        case, damage = with_text(maker.case(REQUESTS_PER_SET)), maker.r.random() < 0.1
        if damage:
            case["policies"] = damaged(case["policies"], maker.r)
        if difference(ours, case):
            report(ours, case, damage)
            differing += 1
            if differing >= 3:
                break
        mine = ours.decide(case) if compared % 64 == 0 else {}  # a sample tells if the cases are worth anything
        refused += damage
        for result in mine.get("results", []):
            outcomes["allowed"] += result["allowed"]
            outcomes["errors"] += bool(result["errors"])
        compared += REQUESTS_PER_SET
    ours.close()
    return compared, differing, outcomes, refused


def directed_cases():
    """The directed conditions, fifty policies a set."""
    conditions = list(directed())
    request = {"principal": {"type": "U", "id": "a"}, "action": {"type": "Action", "id": "x"}, "resource": {"type": "U", "id": "b"}}
    for at in range(0, len(conditions), 50):
        yield {"trees": [(f"permit(principal, action, resource) when {{ {c} }};",) for c in conditions[at:at + 50]], "entities": [],
               "requests": [request]}


def work_directed(program):
    ours, compared, differing = Ours(program), 0, 0
    for case in map(with_text, directed_cases()):
        if difference(ours, case):
            report(ours, case, damage=False)
            differing += 1
        elif "refused" in ours.decide(case):
            print("policy differential: a directed condition is refused:", ours.decide(case)["refused"])
            differing += 1
        compared += len(case["trees"])
    ours.close()
    return compared, differing


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=0, help="stop then, however many cases were compared")
    options = parser.parse_args()
    begin = time.time()
    parts, workers = 40, multiprocessing.cpu_count()
    sets = -(-options.cases // (parts * REQUESTS_PER_SET))
    deadline = begin + 60 * options.minutes if options.minutes else 0
    conditions, differing = work_directed(options.program)
    print(f"policy differential: {conditions} directed conditions, {differing} sets of them differ")
    tasks = [(options.program, options.seed * 1_000_003 + part, sets, deadline) for part in range(parts)]
    with multiprocessing.Pool(workers) as pool:
        done = pool.map(work, tasks, chunksize=1)
    compared, differing = sum(d[0] for d in done), differing + sum(d[1] for d in done)
    sampled = {key: sum(d[2][key] for d in done) for key in ("allowed", "errors")}
    print(f"policy differential: {compared} cases against cedarpy {cedarpy_version()}, {differing} differences, "
          f"{sum(d[3] for d in done)} texts damaged, seed {options.seed}, in {time.time() - begin:.0f} s; of a sample {sampled}")
    return 1 if differing else 0


def cedarpy_version():
    from importlib.metadata import version
    return version("cedarpy")


if __name__ == "__main__":
    sys.exit(main())

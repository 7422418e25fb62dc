"""Random policies, entities and requests. Policies are trees, so that a failing case can be made smaller.

A tree is a tuple (template, child, ...): the template is text with one § for each child. Every expression is made for a
wanted type, but a few are of another, and a few texts are odd: errors are half of the language.
"""
import random

TYPES = ["U", "G", "Ns::R"]
IDS = ["a", "b", "c d", "e\\\"f"]
ATTRIBUTES = ["n", "s", "b", "e", "set", "r", "ip", "t", "d", "dec", "odd key"]
STRINGS = ["", "a", "b", "ab", "a*b", "*", "\\u{e9}", "x\\ny", "\\\\", "abcabc"]
PATTERNS = ["", "*", "a*", "*b", "a\\*b", "*a*", "a*c*", "\\u{e9}*", "*\\\\", "**", "a\\u{2a}", "abc*abc", "\\*"]
INTEGERS = ["0", "1", "2", "-1", "7", "9223372036854775807", "-9223372036854775808", "4611686018427387904", "1000"]
# Texts of which each is taken or not for a reason of its own.
ODD_TEXTS = {
    "ip": ["1.2.3", "01.2.3.4", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/08", "1.2.3.4/0", "::", "1::", "1:2:3:4:5:6:7:8", "::/0",
           "1:2:3:4:5:6:7:8:9", "::ffff:1.2.3.4", "fe80::1%eth0", "::/129", "::/001", "1::2::3", "12345::", "1.2.3.256",
           "1.2.3.4.5", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::2:3:4:5:6:7:8", "1:2:3::4:5:6:7:8", "[::1]", "", ":", ":::",
           "1:", ":1", "::1/128", "G::", "FFFF::abcd", "1.2.3.4/32/1", " 1.2.3.4", "1.2.3.4 ", "0.0.0.0", "00.0.0.0",
           "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", "1.2.3.4/+8", "::1/-1", "1..2.3", "0x1.2.3.4", "1:2"],
    "decimal": ["1", "1.", ".1", "1.0", "1.00000", "1.0000", "-1.0", "+1.0", "922337203685477.5808", "922337203685477.5807",
                "-922337203685477.5808", "-922337203685477.5809", "01.0", "1.0 ", "-0.0", "--1.0", "1.-1", "-.1", "1,0", "",
                "00000000000000000000001.1", "99999999999999999999.0", "1.1.1", "1e1", "-"],
    "datetime": ["2024-1-1", "20240101", "2024-01-01T00:00:00", "2024-01-01T00:00:00.00Z", "2024-01-01T00:00:00+01:00",
                 "2024-01-01T24:00:00Z", "2024-01-01T23:60:00Z", "2024-01-01T23:59:60Z", "2024-01-01T23:59:59+2400",
                 "2024-01-01T23:59:59+2359", "2024-01-01T00:00:00-0060", "2023-02-29", "2024-02-29", "1900-02-29", "2000-02-29",
                 "0000-00-01", "0000-02-29", "2024-13-01", "2024-04-31", "2024-01-00", "10000-01-01", "-0001-01-01", "",
                 "2024-01-01t00:00:00z", "2024-01-01 00:00:00Z", "2024-01-01T00:00Z", "2024-01-01T00:00:00.1234Z", "2024-01-01Z",
                 "2024-01-01T00:00:00.Z", "2024-01-01T00:00:00-0000", "2024-01-01T", "2024-01-01T00:00:00Z ", "2024-01-01T00:00:00.999-2359"],
    "duration": ["", "1h1d", "--1d", "- 1d", "1d-1h", "d", "1", "1d ", "-", "00001d", "106751991167d", "106751991168d",
                 "-106751991168d", "9223372036854775808ms", "-9223372036854775808ms", "-9223372036854775809ms", "1m1ms", "1ms1s",
                 "1d1d", "1.5h", "+1d", "106751991167d7h12m55s807ms", "106751991167d7h12m55s808ms", "1D", "1mss",
                 "-106751991167d7h12m55s808ms", "99999999999999999999999ms", "1min", "0d0h", "1w", "1m1m", "1s1ms1"],
}
KINDS = ["bool", "long", "string", "entity", "set", "record", "ip", "decimal", "datetime", "duration"]
PARSED = ["ip", "decimal", "datetime", "duration"]
# What most entities and contexts hold under a name; now and then it is something else.
ATTRIBUTE_KIND = {"n": "long", "s": "string", "b": "bool", "e": "entity", "set": "set", "r": "record", "ip": "ip",
                  "t": "datetime", "d": "duration", "dec": "decimal", "odd key": "string"}


def unescaped(text):
    return text.replace("\\\"", '"').replace("\\n", "\n").replace("\\u{e9}", "\u00e9").replace("\\\\", "\\")


class Maker:
    """One case after another. `begin` draws how the next one is: how often a value is of another type than wanted, and
    a few values of each type that come again and again, so that equal things meet."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.begin()

    def begin(self):
        r = self.r
        self.wrong = r.choice([0, 0, 0.03, 0.1])
        self.odd = r.choice([0, 0, 0.1, 0.3])
        self.few = {kind: [self.text(kind) for _ in range(r.choice([2, 3, 6]))] for kind in PARSED}
        self.few["string"] = r.sample(STRINGS, r.choice([2, 3, 6]))
        self.few["long"] = r.sample(INTEGERS, r.choice([2, 3, 6]))

    # ---- texts of the parsed types: taken, unless self.odd says otherwise
    def text(self, kind):
        return getattr(self, kind + "_text")()

    def ip_text(self):
        r = self.r
        if r.random() < 0.6:
            octets = [r.choice(["10", "10", "127", "224", "239", "240", "0", "255"]), *(r.choice(["0", "1", "128", "255"]) for _ in range(3))]
            return ".".join(octets) + r.choice(["", "", f"/{r.choice([0, 3, 4, 5, 7, 8, 9, 15, 16, 24, 31, 32])}"])
        address = r.choice(["::1", "::", "ff00::", "ff02::1", "fe00::", "fe80::1", "fe80::2", "fe80:8000::", "::ffff:a00:1", "1:2:3:4:5:6:7:8"])
        return address + r.choice(["", "", f"/{r.choice([0, 1, 7, 8, 9, 10, 16, 17, 64, 127, 128])}"])

    def decimal_text(self):
        r = self.r
        return r.choice(["", "-"]) + r.choice(["0", "1", "00", "12", "922337203685477"]) + "." + r.choice(["0", "5", "50", "0001", "5807", "9"])

    def datetime_text(self):
        r = self.r
        date = r.choice(["2026-11-25", "2026-11-26", "1970-01-01", "1969-12-31", "2024-02-29", "0000-01-01", "9999-12-31"])
        if r.random() < 0.3:
            return date
        return (date + "T" + r.choice(["00:00:00", "08:30:00", "23:59:59"]) + r.choice(["", "", ".000", ".999"]) +
                r.choice(["Z", "Z", "+0100", "-0100", "+2359", "-2359"]))

    def duration_text(self):
        r = self.r
        if r.random() < 0.15:
            return r.choice(["9223372036854775807ms", "-9223372036854775808ms", "-1ms", "1ms", "0ms"])
        parts = [f"{r.choice([0, 1, 8, 23, 59, 999, 100000])}{unit}" for unit in ("d", "h", "m", "s", "ms") if r.random() < 0.4]
        return r.choice(["", "", "-"]) + ("".join(parts) or "1d")

    # ---- values, as JSON
    def uid(self):
        return {"type": self.r.choice(TYPES), "id": unescaped(self.r.choice(IDS))}

    def value(self, kind, depth=2):
        r = self.r
        if r.random() < self.wrong:
            kind = r.choice(KINDS)
        if kind == "bool":
            return r.random() < 0.5
        if kind == "long":
            return int(r.choice(self.few["long"]))
        if kind == "string":
            return unescaped(r.choice(self.few["string"]))
        if kind == "entity":
            return {"__entity": self.uid()}
        if kind in PARSED:
            return {"__extn": {"fn": kind, "arg": r.choice(self.few[kind])}}
        if depth == 0:
            return [] if kind == "set" else {}
        if kind == "set":
            inner = r.choice(KINDS)
            return [self.value(inner, depth - 1) for _ in range(r.randrange(4))]
        return self.attributes(depth - 1, 3)

    def attributes(self, depth, most):
        names = self.r.sample(ATTRIBUTES, self.r.randrange(most + 1))
        return {name: self.value(ATTRIBUTE_KIND[name], depth) for name in names}

    def entities(self):
        r = self.r
        names = [(t, i) for t in TYPES for i in IDS]
        r.shuffle(names)
        names = names[: r.randrange(len(names) + 1)]
        out = []
        for at, (kind, key) in enumerate(names):
            later = names[at + 1:]  # parents come later: no circle
            parents = r.sample(later, min(len(later), r.choice([0, 0, 1, 1, 2, 3])))
            entity = {"uid": {"type": kind, "id": unescaped(key)}, "attrs": self.attributes(2, 8),
                      "parents": [{"type": t, "id": unescaped(i)} for t, i in parents]}
            if r.random() < 0.2:
                entity["tags"] = self.attributes(1, 3)
            out.append(entity)
        if r.random() < 0.7:
            out.append({"uid": {"type": "Action", "id": "x"}, "attrs": {}, "parents": [{"type": "Action", "id": "g"}]})
            out.append({"uid": {"type": "Action", "id": "g"}, "attrs": {}, "parents": []})
        return out

    def request(self):
        return {"principal": self.uid(), "action": {"type": "Action", "id": self.r.choice(["x", "x", "y"])},
                "resource": self.uid(), "context": self.attributes(2, 9)}

    # ---- policies, as trees
    def entity_literal(self):
        return (f'{self.r.choice(TYPES)}::"{self.r.choice(IDS)}"',)

    def action_literal(self):
        return (f'Action::"{self.r.choice(["x", "y", "g"])}"',)

    def literal(self, kind):
        r = self.r
        if kind == "bool":
            return (r.choice(["true", "false"]),)
        if kind == "long":
            return (r.choice(self.few["long"]),)
        if kind == "string":
            return (f'"{r.choice(self.few["string"])}"',)
        if kind == "entity":
            return (r.choice(["principal", "resource", "action", "principal", "resource"]),) if r.random() < 0.6 else self.entity_literal()
        if kind in PARSED:
            return (f'{kind}("{r.choice(ODD_TEXTS[kind] if r.random() < self.odd else self.few[kind])}")',)
        if kind == "set":
            return ("[]",)
        return (r.choice(["context", "{}"]),)

    def expression(self, kind, depth):
        r = self.r
        if r.random() < self.wrong:
            kind = r.choice(KINDS)
        if depth <= 0:
            return self.literal(kind)
        roll = r.random()
        if roll < 0.12:
            return self.literal(kind)
        if roll < 0.3:  # an attribute of that kind, or a tag
            name = r.choice([a for a in ATTRIBUTES if ATTRIBUTE_KIND[a] == kind] or ATTRIBUTES)
            object = self.expression(r.choice(["entity", "record", "entity"]), depth - 1)
            if r.random() < 0.05:
                return ("(§).getTag(§)", object, (f'"{name}"',))
            return ('(§)["' + name + '"]' if " " in name or r.random() < 0.2 else "(§)." + name, object)
        if roll < 0.36:
            return ("(if § then § else §)", self.expression("bool", depth - 1), self.expression(kind, depth - 1),
                    self.expression(kind, depth - 1))
        return getattr(self, "make_" + kind)(depth - 1)

    def make_bool(self, d):
        r, e = self.r, self.expression
        pick = r.randrange(16)
        if pick <= 1:
            count = r.choice([2, 2, 3])
            return ("(" + f" {r.choice(['&&', '||'])} ".join(["§"] * count) + ")", *[e("bool", d) for _ in range(count)])
        if pick == 2:
            return ("!(§)", e("bool", d))
        if pick <= 4:
            kind = r.choice(KINDS)
            return (f"(§ {r.choice(['==', '!='])} §)", e(kind, d), e(kind, d))
        if pick <= 6:
            kind = r.choice(["long", "long", "datetime", "duration"])
            return (f"(§ {r.choice(['<', '<=', '>', '>='])} §)", e(kind, d), e(kind, d))
        if pick == 7:
            return ("(§ in §)", e("entity", d), e("entity", d))
        if pick == 8:
            items = [e("entity", d) for _ in range(r.choice([1, 2, 3]))]
            if r.random() < 0.1:
                items[r.randrange(len(items))] = e("long", d)
            return ("(§ in [" + ", ".join(["§"] * len(items)) + "])", e("entity", d), *items)
        if pick == 9:
            kind = r.choice(TYPES)
            return (f"(§ is {kind} in §)", e("entity", d), e("entity", d)) if r.random() < 0.4 else (f"(§ is {kind})", e("entity", d))
        if pick == 10:
            return (f'(§ like "{r.choice(PATTERNS)}")', e("string", d))
        if pick == 11:
            name = r.choice(ATTRIBUTES)
            path = f'"{name}"' if " " in name or r.random() < 0.3 else name + (f".{r.choice(ATTRIBUTES[:-1])}" if r.random() < 0.4 else "")
            return (f"(§ has {path})", e(r.choice(["entity", "record"]), d))
        if pick == 12:
            method = r.choice(["contains", "containsAll", "containsAny", "isEmpty"])
            if method == "isEmpty":
                return ("(§).isEmpty()", e("set", d))
            return (f"(§).{method}(§)", e("set", d), e(r.choice(KINDS) if method == "contains" else "set", d))
        if pick == 13:
            method = r.choice(["isIpv4", "isIpv6", "isLoopback", "isMulticast", "isInRange", "isInRange"])
            return (f"(§).{method}(§)", e("ip", d), e("ip", d)) if method == "isInRange" else (f"(§).{method}()", e("ip", d))
        if pick == 14:
            method = r.choice(["lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual"])
            return (f"(§).{method}(§)", e("decimal", d), e("decimal", d))
        return ("(§).hasTag(§)", e("entity", d), e("string", d))

    def make_long(self, d):
        r, e = self.r, self.expression
        pick = r.randrange(5)
        if pick == 0:
            return ("-(§)", e("long", d))
        if pick <= 2:
            return (f"(§ {r.choice(['+', '-', '*'])} §)", e("long", d), e("long", d))
        if pick == 3:
            return (f"(§ {r.choice(['+', '-'])} § {r.choice(['+', '-', '*'])} §)", e("long", d), e("long", d), e("long", d))
        return (f"(§).{r.choice(['toMilliseconds', 'toSeconds', 'toMinutes', 'toHours', 'toDays'])}()", e("duration", d))

    def make_string(self, d):
        return self.literal("string")

    def make_entity(self, d):
        return self.literal("entity")

    def make_set(self, d):
        kind, count = self.r.choice(KINDS + ["long", "string", "long"]), self.r.randrange(5)
        return ("[" + ", ".join(["§"] * count) + "]", *[self.expression(kind, d) for _ in range(count)])

    def make_record(self, d):
        names = self.r.sample(ATTRIBUTES, self.r.randrange(4))
        return ("{" + ", ".join(f'"{n}": §' for n in names) + "}", *[self.expression(ATTRIBUTE_KIND[n], d) for n in names])

    def parsed(self, kind, d):
        if self.r.random() < 0.3:
            return (kind + "(§)", self.expression("string", d))
        return self.literal(kind)

    def make_ip(self, d):
        return self.parsed("ip", d)

    def make_decimal(self, d):
        return self.parsed("decimal", d)

    def make_datetime(self, d):
        pick = self.r.random()
        if pick < 0.3:
            return ("(§).offset(§)", self.expression("datetime", d), self.expression("duration", d))
        return ("(§).toDate()", self.expression("datetime", d)) if pick < 0.5 else self.parsed("datetime", d)

    def make_duration(self, d):
        pick = self.r.random()
        if pick < 0.3:
            return ("(§).durationSince(§)", self.expression("datetime", d), self.expression("datetime", d))
        return ("(§).toTime()", self.expression("datetime", d)) if pick < 0.5 else self.parsed("duration", d)

    def scope(self, name):
        r = self.r
        pick = r.random()
        if name == "action":
            if pick < 0.5:
                return ("action",)
            if pick < 0.7:
                return ("action == §", self.action_literal())
            if pick < 0.85:
                return ("action in §", self.action_literal())
            count = r.randrange(4)
            return ("action in [" + ", ".join(["§"] * count) + "]", *[self.action_literal() for _ in range(count)])
        if pick < 0.4:
            return (name,)
        if pick < 0.6:
            return (name + " == §", self.entity_literal())
        if pick < 0.8:
            return (name + " in §", self.entity_literal())
        if pick < 0.9:
            return (f"{name} is {r.choice(TYPES)}",)
        return (f"{name} is {r.choice(TYPES)} in §", self.entity_literal())

    def policy(self):
        r = self.r
        text, parts = r.choice(["permit", "permit", "forbid"]) + "(§, §, §)", [self.scope(n) for n in ("principal", "action", "resource")]
        for _ in range(r.choice([0, 1, 1, 1, 2])):
            text += f" {r.choice(['when', 'when', 'unless'])} {{ § }}"
            parts.append(self.expression("bool", r.randrange(1, 5)))
        return (r.choice(["", "", "", '@note("x") ']) + text + ";", *parts)

    def labelled(self):
        """A policy that is filed by its first conditions: an attribute asked about with a constant, an entity named."""
        r = self.r
        root = r.choice(["principal", "resource", "context", "principal"])
        names = [n for n in ATTRIBUTES[:-1] if ATTRIBUTE_KIND[n] in ("long", "string", "bool", "entity", "datetime", "duration", "decimal")]
        steps = [r.choice(["r", "e"])] * r.choice([0, 0, 1]) + [r.choice(names)]
        path = ".".join([root] + steps)
        guards = []
        if r.random() < 0.5:
            asked = root if r.random() < 0.85 else r.choice(["principal", "resource", "context"])
            guards = [f"{asked} has {'.'.join(steps)}"] if r.random() < 0.7 else [f"{asked} has {r.choice([*steps, *names])}"]
        constant = text_of(self.literal(ATTRIBUTE_KIND[steps[-1]] if r.random() > self.wrong else r.choice(KINDS)))
        is_ordered = ATTRIBUTE_KIND[steps[-1]] in ("long", "datetime", "duration")
        operator = r.choice(["==", "<", "<=", ">", ">="]) if is_ordered or r.random() < self.wrong else "=="
        comparison = f"{path} {operator} {constant}" if r.random() < 0.8 else f"{constant} {operator} {path}"
        if r.random() < (0.6 if ATTRIBUTE_KIND[steps[-1]] == "string" else self.wrong):
            comparison = f'{path} like "{r.choice(PATTERNS)}"'
        named = [f"{r.choice(['principal', 'resource'])} {r.choice(['==', 'in'])} {text_of(self.entity_literal())}"] if r.random() < 0.3 else []
        parts = r.choice([named + guards + [comparison], guards + [comparison] + named])
        head = r.choice(["permit", "permit", "forbid"]) + "(" + ", ".join(
            ["principal", r.choice(["action", text_of(self.scope("action"))]), r.choice(["resource", text_of(self.scope("resource"))])]) + ")"
        joined = [f"{p} && " for p in parts[:-1]] if r.random() < 0.7 else [f"{p} }} when {{ " for p in parts[:-1]]
        return (head + " when { " + "".join(joined) + parts[-1] + " && § };", self.expression("bool", r.choice([0, 1])))

    def probe(self):
        """A policy that lets one shallow expression decide."""
        return ("permit(principal, action, resource) when { § };", self.expression("bool", self.r.choice([1, 2, 2, 3])))

    def case(self, requests):
        self.begin()
        kind = self.r.random()
        if kind < 0.25:
            trees = [self.labelled() for _ in range(self.r.choice([3, 6]))]
        elif kind < 0.6:
            trees = [self.probe() for _ in range(self.r.choice([4, 8]))]
        else:
            trees = [self.policy() for _ in range(self.r.choice([1, 1, 2, 3, 5]))]
        return {"trees": trees, "entities": self.entities(), "requests": [self.request() for _ in range(requests)]}


def directed():
    """Conditions that no chance should decide whether to try: each text of the parsed types with each question asked of
    it, pairs of them, patterns on strings."""
    ips = ODD_TEXTS["ip"] + ["10.0.0.1", "10.0.0.0/8", "10.0.0.0/7", "11.0.0.0/8", "127.0.0.1", "127.0.0.0/8", "127.0.0.0/7",
                             "224.0.0.1", "224.0.0.0/4", "224.0.0.0/3", "239.255.255.255", "240.0.0.0", "ff00::/8", "ff00::/7",
                             "ff02::1", "fe00::/9", "::1/127", "::/127", "fe80::/10", "fe80::/9", "febf::1", "::ffff:102:304"]
    for t in ips:
        for method in ("isIpv4", "isIpv6", "isLoopback", "isMulticast"):
            yield f'ip("{t}").{method}()'
        for u in ips[::3]:
            yield f'ip("{t}").isInRange(ip("{u}"))'
            yield f'ip("{u}") == ip("{t}")'
    decimals = ODD_TEXTS["decimal"] + ["0.0", "0.0001", "-0.0001", "1.5", "1.50"]
    for t in decimals:
        for u in decimals[::2]:
            for method in ("lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual"):
                yield f'decimal("{t}").{method}(decimal("{u}"))'
    dates = ODD_TEXTS["datetime"] + ["1970-01-01", "1969-12-31T23:59:59.999Z", "2026-11-25T08:00:00+0130", "2026-11-25T08:00:00-0130",
                                     "9999-12-31T23:59:59Z", "0000-01-01", "2026-11-25T06:30:00.000Z"]
    durations = ODD_TEXTS["duration"] + ["0ms", "1ms", "-1ms", "-1001ms", "1h", "-25h", "86399999ms", "86400000ms", "1d2h3m4s5ms"]
    for t in dates:
        for u in dates[::4]:
            for op in ("<", "<=", ">", ">=", "==", "!="):
                yield f'datetime("{t}") {op} datetime("{u}")'
            yield f'datetime("{t}").durationSince(datetime("{u}")) > duration("0ms")'
            yield f'datetime("{t}").toDate() == datetime("{u}").toDate()'
        for u in durations:
            yield f'datetime("{t}").offset(duration("{u}")).toDate() <= datetime("2024-01-01")'
            yield f'datetime("{t}").toTime() < duration("{u}")'
            yield f'datetime("{t}").offset(duration("{u}")).toTime() == datetime("{t}").toTime()'
    for t in durations:
        for unit in ("Milliseconds", "Seconds", "Minutes", "Hours", "Days"):
            for number in ("0", "1", "-1", "25"):
                yield f'duration("{t}").to{unit}() == {number}'
        for u in durations[::2]:
            yield f'duration("{t}") < duration("{u}")'
    for t in STRINGS:
        for u in PATTERNS:
            yield f'"{t}" like "{u}"'
    for a in INTEGERS:
        for b in INTEGERS:
            for op in ("+", "-", "*"):
                yield f"{a} {op} {b} > 0"
        yield f"-({a}) > 0"
    sets = ["[]", "[1]", "[1, 1]", "[1, 2]", "[2, 1, 2]", "[[1], [1, 1]]", '[1, "a", true]', "[{a: 1}]", "[true]", '[ip("1.1.1.1")]',
            '["a"]', "[U::\"a\"]", "1"]
    for a in sets:
        for b in sets:
            yield f"{a} == {b}"
            for method in ("contains", "containsAll", "containsAny"):
                yield f"{a}.{method}({b})"


def text_of(tree):
    between = tree[0].split("§")
    return "".join(a + b for a, b in zip(between, [*map(text_of, tree[1:]), ""], strict=True))


def smaller_trees(tree):
    """The tree with one part left out or replaced, the largest cuts first."""
    for child in tree[1:]:
        if tree[0].startswith("(") or tree[0].startswith("!") or tree[0].startswith("-"):
            yield child
    for at, child in enumerate(tree[1:], 1):
        for part in smaller_trees(child):
            yield tree[:at] + (part,) + tree[at + 1:]
        if len(child) > 1:
            for plain in ("true", "0", '"a"', "principal"):
                yield tree[:at] + ((plain,),) + tree[at + 1:]


def smaller_cases(case):
    for at in range(len(case["trees"])):
        if len(case["trees"]) > 1:
            yield {**case, "trees": case["trees"][:at] + case["trees"][at + 1:]}
    for at in range(len(case["requests"])):
        if len(case["requests"]) > 1:
            yield {**case, "requests": [case["requests"][at]]}
    for at in range(len(case["entities"])):
        yield {**case, "entities": case["entities"][:at] + case["entities"][at + 1:]}
    for at, tree in enumerate(case["trees"]):
        for part in smaller_trees(tree):
            yield {**case, "trees": case["trees"][:at] + [part] + case["trees"][at + 1:]}
    for at, entity in enumerate(case["entities"]):
        for key in list(entity["attrs"]):
            cut = {**entity, "attrs": {k: v for k, v in entity["attrs"].items() if k != key}}
            yield {**case, "entities": case["entities"][:at] + [cut] + case["entities"][at + 1:]}
    for key in list(case["requests"][0]["context"]):
        cut = {**case["requests"][0], "context": {k: v for k, v in case["requests"][0]["context"].items() if k != key}}
        yield {**case, "requests": [cut] + case["requests"][1:]}

#!/usr/bin/env python3
"""Writes ring_golden.json: what the ring must say, by an implementation that shares no code with it.

    python3 common/testdata/make_ring_golden.py > common/testdata/ring_golden.json

Points, positions and digests come from Python's hashlib, owners and preference lists from the
plainest algorithm there is (a sorted list, walked), after section 4 of the design. Positions are
hexadecimal. The file changes only when the ring's definition does, and then every cluster's keys
move: that is a decision for docs/adr/.
"""
import hashlib
import json
import struct


def md5(data):
    return hashlib.md5(data).digest()


def u64(data):
    return struct.unpack(">Q", data)[0]


def position(seed, group, key):
    group, key = group.encode(), key.encode()
    return u64(md5(seed.encode() + struct.pack(">H", len(group)) + group + key)[:8])


def virtual_nodes(setting, weight):
    return 0 if weight == 0 else max(1, (setting * weight + 50) // 100)


def points(case):
    found = []
    for member in case["members"]:
        name = member["id"].encode()
        for i in range(virtual_nodes(case["virtual_nodes"], member["weight"])):
            for h in (0, 1):
                digest = md5(case["seed"].encode() + name + b"\0" + struct.pack(">IB", i, h))
                found += [(u64(digest[:8]), name), (u64(digest[8:]), name)]
    return sorted(found)


def ring_digest(case):
    def text(t):
        return struct.pack(">I", len(t.encode())) + t.encode()

    data = struct.pack(">I", case["virtual_nodes"]) + text(case["seed"])
    for m in sorted(case["members"], key=lambda m: m["id"].encode()):
        data += text(m["id"]) + struct.pack(">I", m["weight"]) + text(m["zone"])
    return u64(md5(data)[:8])


def preference(case, circle, at):
    """Owner, then other zones clockwise, then the others clockwise, then those of weight 0."""
    if not circle:
        return []
    start = next((i for i, (p, _) in enumerate(circle) if p >= at), 0)
    clockwise = list(dict.fromkeys(name.decode() for _, name in circle[start:] + circle[:start]))
    zone = {m["id"]: m["zone"] for m in case["members"]}
    first_of_zone = {}
    for name in clockwise:
        first_of_zone.setdefault(zone[name], name)
    spread = list(first_of_zone.values())
    rest = [name for name in clockwise if name not in spread]
    idle = sorted((m["id"] for m in case["members"] if m["weight"] == 0), key=str.encode)
    return spread + rest + idle


def member(id, weight=100, zone=""):
    return {"id": id, "weight": weight, "zone": zone}


CASES = [
    {
        "name": "plain, as a small cluster has it",
        "seed": "",
        "virtual_nodes": 100,
        "members": [member(f"10.0.0.{i}:7000") for i in range(1, 6)],
    },
    {
        "name": "one member alone",
        "seed": "",
        "virtual_nodes": 100,
        "members": [member("127.0.0.1:7000")],
    },
    {
        "name": "seed, weights with rounding, ids that need more than one block",
        "seed": "a secret of the cluster",
        "virtual_nodes": 25,
        "members": [
            member("small", 1),
            member("half", 50),
            member("normal"),
            member("double", 200),
            member("odd", 133),
            member("n" * 120),
            member("idle-b", 0),
            member("idle-a", 0),
        ],
    },
    {
        "name": "zones",
        "seed": "z",
        "virtual_nodes": 40,
        "members": [
            member("a1", zone="eu-a"),
            member("a2", zone="eu-a"),
            member("a3", zone="eu-a"),
            member("b1", zone="eu-b"),
            member("b2", 50, zone="eu-b"),
            member("c1", zone="eu-c"),
            member("none1"),
            member("none2"),
            member("idle", 0, zone="eu-d"),
        ],
    },
    {
        "name": "text of all kinds",
        "seed": "Schlüssel-鍵-🔑",
        "virtual_nodes": 3,
        "members": [member("knoten-ä"), member("узел"), member("节点 1"), member("node 😀", 70)],
    },
    {"name": "weight 0 only", "seed": "", "virtual_nodes": 100, "members": [member("a", 0)]},
    {"name": "nobody", "seed": "", "virtual_nodes": 100, "members": []},
]

KEYS = [
    ("scores", "Tom"),
    ("scores", "Jack"),
    ("scores", "Sam"),
    ("default", "a"),
    ("default", "k" * 1024),
    ("g" * 64, "the-longest-group"),
    ("ab", "c"),
    ("a", "bc"),
    ("users", "user:0000000000042"),
    ("users", "a/b?c=d&e f+%20"),
    ("users", "Grüße"),
    ("users", "ключ"),
    ("users", "键/值"),
    ("users", "👩‍👩‍👧‍👦"),
]


def describe(case):
    circle = points(case)
    at = [position(case["seed"], g, k) for g, k in KEYS]
    # Right at a point, just after it, and round the end of the circle.
    edges = [0, 2**64 - 1]
    for p in [p for p, _ in circle[:1] + circle[len(circle) // 2 :][:1] + circle[-1:]]:
        edges += [p, (p + 1) % 2**64, (p - 1) % 2**64]
    return {
        **case,
        "digest": f"{ring_digest(case):016x}",
        "points": len(circle),
        "first_points": [{"position": f"{p:016x}", "owner": n.decode()} for p, n in circle[:8]],
        "keys": [
            {"group": g, "key": k, "position": f"{p:016x}", "preference": preference(case, circle, p)}
            for (g, k), p in zip(KEYS, at)
        ],
        "edges": [
            {"position": f"{p:016x}", "preference": preference(case, circle, p)} for p in edges
        ],
    }


print(json.dumps({"made_by": "make_ring_golden.py, hashlib", "cases": [describe(c) for c in CASES]},
                 indent=1, ensure_ascii=False))

#!/usr/bin/env python3
"""Two tables: how near the roofline fast kernels come in one run, and how far ahead
of PyTorch they are in another.  No line joins figures of both.

    table.py SPEED PEERS > README.md

SPEED is the folder of `attnbench sweep --suite speed`, PEERS that of
`peers.py` (or its folder `both`).
"""
import json, os, re, statistics, sys

from peers import WIDEST, clean, geometric

LEVELS = [("v4", 1), ("v4", 2), ("v3", 1), ("v3", 2)]


def read(folder):
    both = os.path.join(folder, "both", "journal.jsonl")
    path = both if os.path.exists(both) else os.path.join(folder,
                                                          "journal.jsonl")
    with open(path) as f:
        rows = [json.loads(line) for line in f if line.strip()]
    env = [r for r in rows if r["kind"] == "env"][-1]
    return env, [r for r in rows
                 if r["kind"] == "case" and r["status"] == "ok"]


def problem(row):
    """The case without kernel, level, threads, and a batch of one."""
    name = row["case"][row["case"].index("/") + 1:]
    return re.sub(r",(t=\d+|v\d|b=1)(?=,)", "", name)


def share(row):
    """Per cent of the roofline: what an undisturbed core would reach, if the row
    knows that, else what was reached; with its interval."""
    part = row and row["roofline"].get("fraction")
    if not part:
        return ""
    time, paired = row["time_ns"], row.get("paired") or {}
    if not time["hi"]:
        return "unreliable"
    found = (part, part * time["median"] / time["hi"],
             part * time["median"] / time["lo"])
    if paired.get("fraction") and paired.get("lo") and paired.get("hi"):
        found = paired["fraction"], paired["lo"], paired["hi"]
    mark = "!" if part > 1.02 else ""
    return "{:.0f} ({:.0f} to {:.0f})".format(*(100 * x for x in found)) + mark


def ratio(above, below):
    """Of two rows' times, with Student's interval over the processes, which were
    measured in turn."""
    if not above or not below:
        return ""
    x, y = ([statistics.median(r) for r in clean(row["time_ns"]["samples"])[1]]
            for row in (above, below))
    value, lo, hi = geometric([a / b for a, b in zip(x, y)])
    if lo is None:
        return f"{value:.2f} (one process)"
    if hi / lo > WIDEST:
        return "unreliable"
    return f"{value:.2f} ({lo:.2f} to {hi:.2f})"


def best_peers(rows):
    """Pairs of our row and that of the fastest peer, on the same problem."""
    groups = {}
    for r in rows:
        key = r["mechanism"], problem(r), r["threads"]
        groups.setdefault(key, []).append(r)
    for (mechanism, _, _), group in groups.items():
        ours = [r for r in group if r["kernel"].startswith(mechanism + ".")]
        peers = [r for r in group if r not in ours]
        if ours and peers:
            yield ours[0], min(peers, key=lambda r: r["time_ns"]["median"])


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    env, rows = read(sys.argv[1])
    peers_env, peers = read(sys.argv[2])
    cases = {}
    for r in rows:
        if not r["plain"]:
            cases.setdefault((r["kernel"], problem(r)), {})[
                r["level"], r["threads"]] = r
    fma = {(c["level"], c["threads"]): c["fma_flop_per_s"] / 1e9
           for c in env["roofline"]["ceilings"]}
    peaks = "; ".join(f"{level} {threads}t {fma[level, threads]:.0f}"
                      for level, threads in LEVELS if (level, threads) in fma)
    torch = peers_env["libraries"].get("torch", "no torch")
    print(f"""# Fast kernels beside their roofline and PyTorch

`attnbench sweep --suite speed` at revision {env['git_revision']}, `harness/peers/peers.py` at
{peers_env['git_revision']} (PyTorch {torch}); the journals lie beside. {env['cpu']['name']}, family
{env['cpu']['family']}; {env['compiler']}. This table: `harness/peers/table.py`.

## Beside the roofline

Of the run at revision {env['git_revision']}: per cent of the roofline, with the 95 % interval
of the time (paired with the speed of the core, where the run knows it); "!": above the
roofline, which the row explains or `attnbench check` objects to. Time on one thread over that
on two, with its interval. FMA peaks, GFLOP/s: {peaks}; cases are bounded by what takes longest:
multiply-adds, all vector operations, exponentials, divisions, or bytes at some level of memory.

| kernel | problem | v4 1 thread | v4 2 threads | v3 1 thread | v3 2 threads | 1 thread / 2 | workspace, KiB |
|---|---|---:|---:|---:|---:|---:|---:|""")
    for (kernel, name), of in cases.items():
        first = next(iter(of.values()))
        print(f"| {kernel} | {name} | " +
              " | ".join(share(of.get(x)) for x in LEVELS) +
              f" | {ratio(of.get(('v4', 1)), of.get(('v4', 2)))} | "
              f"{first['bytes']['workspace'] / 1024:.0f} |")
    print(f"""
## Beside PyTorch

Of the run at revision {peers_env['git_revision']}, in which both take turns: time of the fastest
PyTorch module over ours, with its 95 % interval.

| kernel | problem | threads | of the roofline | fastest peer | peer / ours |
|---|---|---:|---:|---|---:|""")
    for ours, peer in best_peers(peers):
        print(f"| {ours['kernel']} | {problem(ours)} | {ours['threads']} | "
              f"{share(ours)} | {peer['kernel'].removeprefix('torch.')} | "
              f"{ratio(peer, ours)} |")


if __name__ == "__main__":
    main()

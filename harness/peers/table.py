#!/usr/bin/env python3
"""One table of two runs: how near the roofline fast kernels come, and how far
ahead of PyTorch they are.

    table.py SPEED PEERS > README.md

SPEED is the folder of `attnbench sweep --suite speed`, PEERS that of
`peers.py` (or its folder `both`).
"""
import json, os, re, sys

LEVELS = [("v4", 1), ("v4", 2), ("v3", 1), ("v3", 2)]

# OpenBLAS takes the code of its own choice, whatever the level.
NO_LEVEL = ("softmax.gemm",)


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
    """Per cent of the roofline, and of the fastest sample."""
    part = row and row["roofline"].get("fraction")
    if not part:
        return ""
    time = row["time_ns"]
    return f"{100 * part:.0f} ({100 * part * time['median'] / time['min']:.0f})"


def best_peers(rows):
    """(kernel, problem, threads) -> (how many times slower, name)."""
    best, groups = {}, {}
    for r in rows:
        key = r["mechanism"], problem(r), r["threads"]
        groups.setdefault(key, []).append(r)
    for (_, name, threads), group in groups.items():
        ours = [r for r in group
                if r["kernel"].startswith(r["mechanism"] + ".")]
        ratios = [(r["time_ns"]["median"] / ours[0]["time_ns"]["median"],
                   r["kernel"]) for r in group if r not in ours]
        if ratios:
            best[ours[0]["kernel"], name, threads] = min(ratios)
    return best


def peer(best, key):
    if key not in best:
        return ""
    return f"{best[key][0]:.2f} ({best[key][1].removeprefix('torch.')})"


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    env, rows = read(sys.argv[1])
    peers_env, peers = read(sys.argv[2])
    best, cases = best_peers(peers), {}
    for r in rows:
        if not r["plain"] and r["kernel"] not in NO_LEVEL:
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

Per cent of the roofline of the same run: median of the clean samples, in brackets the
fastest sample, which says what the kernel does while the neighbours of a shared machine are
quiet. FMA peaks, GFLOP/s: {peaks}. Cases bound by a memory
level have its bandwidth for a roofline. Peer: time of the fastest PyTorch module over ours,
taken in turn.

| kernel | problem | v4 1 thread | v4 2 threads | v3 1 thread | v3 2 threads | 2 threads / 1 | best peer, 1 thread | 2 threads | workspace, KiB |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|""")
    for (kernel, name), of in cases.items():
        one, two = of.get(("v4", 1)), of.get(("v4", 2))
        gain = (f"{one['time_ns']['median'] / two['time_ns']['median']:.2f}"
                if one and two else "")
        first = next(iter(of.values()))
        print(f"| {kernel} | {name} | " +
              " | ".join(share(of.get(x)) for x in LEVELS) +
              f" | {gain} | {peer(best, (kernel, name, 1))} | "
              f"{peer(best, (kernel, name, 2))} | "
              f"{first['bytes']['workspace'] / 1024:.0f} |")
    more = [k for k in best if (k[0], k[1]) not in cases]
    if more:
        print("\nShapes that only the run beside PyTorch has:\n\n"
              "| kernel | problem | threads | best peer |\n|---|---|---:|---:|")
    for key in more:
        print(f"| {key[0]} | {key[1]} | {key[2]} | {peer(best, key)} |")


if __name__ == "__main__":
    main()

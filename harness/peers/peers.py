#!/usr/bin/env python3
"""Our kernels and PyTorch's on the same problems, in turn: A B A B.

    peers.py [--program FILE] [--out DIR] [--rounds R] [--time S] [--threads T]
             [--only PEER] [--fake]

In every round a fresh process of `attnbench sweep` and a fresh process of torch
measure the same case, so that slow changes of the machine meet both sides.
DIR/ours and DIR/peers are runs in which a pair has one case name, for
`attnbench compare DIR/ours DIR/peers`; DIR/both has every kernel under its own
name, for `table` and `plot`.  A summary (markdown) goes to standard output.
--verify checks every peer against attnbench's reference and measures nothing.
--fake measures a loop of Python in torch's place: the tests need no torch.
"""
import argparse, copy, hashlib, json, os, random, statistics, struct
import subprocess, sys, tempfile, time

# peer, our kernel, axes of the problem; the values are those of sweep.
CASES = [("torch.sdpa", "softmax.flash", dict(grid=n, head_dim=d))
         for d in (32, 64, 128) for n in ("197", "784", "1024", "3136")]
CASES += [
    ("torch.einsum", "linear.fused", dict(grid="4096", head_dim=64,
                                          feature_map="elu1")),
    ("torch.einsum", "linear.fused", dict(grid="4096", head_dim=64,
                                          feature_map="relu")),
    ("torch.aft_full", "aft_full.gemm", dict(grid="1024", head_dim=256)),
    ("torch.aft_simple", "aft_simple.fused", dict(grid="1024", head_dim=256)),
]


# ---- torch's side: runs in a process of its own ---------------------------

def torch_call(peer, axes, t):
    """The peer as a function of no arguments; t: tensors [1, tokens, d]."""
    import torch
    import torch.nn.functional as F
    q, k, v = t["q"], t["k"], t["v"]
    if peer == "torch.sdpa":
        return lambda: F.scaled_dot_product_attention(q[None], k[None],
                                                      v[None])[0]
    if peer == "torch.einsum":
        # o_i = phi(q_i) (sum_j phi(k_j) v_j^T) / (phi(q_i) . sum_j phi(k_j)),
        # Katharopoulos et al. 2020.
        phi = {"relu": F.relu, "elu1": lambda x: F.elu(x) + 1}
        phi = phi[axes["feature_map"]]

        def linear():
            a, b = phi(q), phi(k)
            sums = torch.einsum("hnd,hd->hn", a, b.sum(1))
            return torch.einsum("hnd,hde->hne", a, torch.einsum(
                "hnd,hne->hde", b, v)) / sums[..., None]
        return linear
    if peer == "torch.aft_simple":
        # sigmoid(q) * sum_j softmax_j(k) v, Zhai et al. 2021.
        return lambda: torch.sigmoid(q) * (torch.softmax(k, 1) * v).sum(
            1, keepdim=True)
    if peer == "torch.aft_full":
        w = t["w"]

        def aft_full():
            e = torch.exp(w - w.amax(-1, keepdim=True))
            b = torch.exp(k - k.amax(1, keepdim=True))
            return torch.sigmoid(q) * (e @ (b * v)) / (e @ b)
        return aft_full
    raise SystemExit(f"peers.py: unknown peer {peer}")


def tensors(peer, axes):
    import torch
    torch.manual_seed(1)
    n, d = int(axes["grid"]), axes["head_dim"]
    t = {x: torch.randn(1, n, d) for x in "qkv"}
    if peer == "torch.aft_full":
        t["w"] = torch.randn(n, n)
    return t


def worker(order):
    """Measures one peer; prints its samples and what it ran on."""
    about = {}
    if order["fake"]:
        def call():
            sum(range(2000))
    else:
        import torch
        torch.set_num_threads(order["threads"])
        torch.set_grad_enabled(False)
        call = torch_call(order["peer"], order["axes"],
                          tensors(order["peer"], order["axes"]))
        about = {"torch": torch.__version__,
                 "torch_build": torch.__config__.show(),
                 "torch_cpu": torch.backends.cpu.get_cpu_capability()}
    call()
    start = time.perf_counter_ns()
    call()
    calls = max(1, int(2e6 / max(1, time.perf_counter_ns() - start)))
    samples, end = [], time.perf_counter() + order["time"]
    while len(samples) < 3 or time.perf_counter() < end:
        start = time.perf_counter_ns()
        for _ in range(calls):
            call()
        samples.append((time.perf_counter_ns() - start) / calls)
    json.dump({"about": about, "sample": {
        "calls": calls, "ns": samples, "touched": [], "stop": "time"}},
        sys.stdout)


def verify(program, cases):
    """Torch's results as case files; attnbench compares its reference."""
    failed, seen = 0, set()
    for peer, kernel, axes in cases:
        if (peer, axes.get("feature_map")) in seen:
            continue
        seen.add((peer, axes.get("feature_map")))
        axes = dict(axes, grid="197")
        t = tensors(peer, axes)
        t["out"] = torch_call(peer, axes, t)()
        meta = {k: str(v) for k, v in axes.items()}
        meta.update(op=kernel.split(".")[0], heads="1", tolerance="2e-5",
                    source=peer)
        head, data = {"__metadata__": meta}, b""
        for name, x in t.items():
            raw = x.contiguous().numpy().astype("<f4").tobytes()
            head[name] = {"dtype": "F32", "shape": list(x.shape),
                          "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
        text = json.dumps(head).encode()
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as f:
            f.write(struct.pack("<Q", len(text)) + text + data)
            f.flush()
            failed |= subprocess.run([program, "verify", "--kernel",
                                      "reference", f.name]).returncode
    return failed


# ---- both sides -----------------------------------------------------------

def run_ours(a, kernel, axes, folder):
    command = [a.program, "sweep", "--kernel", kernel, "--processes", "1",
               "--time", str(a.time), "--threads", str(a.threads), "--out",
               folder]
    for name, value in axes.items():
        command += ["--" + name.replace("_", "-"), str(value)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"peers.py: {' '.join(command)}:\n{done.stderr}")
    with open(os.path.join(folder, "journal.jsonl")) as f:
        rows = [json.loads(line) for line in f]
    return ([r for r in rows if r["kind"] == "env"][-1],
            [r for r in rows if r["kind"] == "case"][-1])


def run_peer(a, peer, axes):
    order = dict(peer=peer, axes=axes, threads=a.threads, time=a.time,
                 fake=a.fake)
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
    done = subprocess.run([sys.executable, __file__, "--worker",
                           json.dumps(order)], capture_output=True, text=True,
                          env=env)
    if done.returncode:
        raise SystemExit(f"peers.py: {peer}:\n{done.stderr}")
    return json.loads(done.stdout)


def clean(sample):
    return [x for i, x in enumerate(sample["ns"])
            if i not in sample["touched"]] or sample["ns"]


def interval(draw, count=1000):
    """95 % interval of a statistic of resampled rounds."""
    values = sorted(draw() for _ in range(count))
    return values[int(0.025 * count)], values[int(0.975 * count) - 1]


def resampled(rounds):
    """Median of rounds drawn again, then their samples."""
    return statistics.median(
        x for r in random.choices(rounds, k=len(rounds))
        for x in random.choices(r, k=len(r)))


def times(samples):
    rounds = [clean(s) for s in samples]
    ns = [x for r in rounds for x in r]
    median = statistics.median(ns)
    lo, hi = interval(lambda: resampled(rounds))
    return {"median": median, "lo": lo, "hi": hi, "min": min(ns),
            "mad": statistics.median(abs(x - median) for x in ns),
            "n": len(ns), "touched": sum(len(s["touched"]) for s in samples),
            "processes": len(samples), "stop": "time", "unreliable": False,
            "reason": None, "samples": samples}


def peer_row(row, peer, samples):
    """The same problem, of another kernel; what is of our kernel alone goes."""
    kept = ("kind", "schema", "case", "env", "binary", "when", "mechanism",
            "family", "threads", "pass", "problem", "flop", "pairs")
    out = {k: row[k] for k in kept if k in row}
    out.update(kernel=peer, plain=False, level=row["level"], status="ok",
               reason=None, time_ns=times(samples))
    return out


def write(folder, rows):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "journal.jsonl"), "w") as f:
        f.writelines(json.dumps(r, separators=(",", ":")) + "\n" for r in rows)


def measure(a, cases):
    env, ours, peers = None, [], []
    print("| case | peer | ours, us | peer, us | peer / ours | 95 % |\n"
          "|---|---|---|---|---|---|")
    for peer, kernel, axes in cases:
        peer = "fake" if a.fake else peer
        mine, theirs = [], []
        for _ in range(a.rounds):
            with tempfile.TemporaryDirectory() as folder:
                first, row = run_ours(a, kernel, axes, folder)
            if row["status"] != "ok":
                raise SystemExit(f"peers.py: {row['case']}: {row['status']}: "
                                 f"{row['reason']}")
            mine += row["time_ns"]["samples"]
            result = run_peer(a, peer, axes)
            theirs.append(result["sample"])
            if not env:
                env = copy.deepcopy(first)
                env["libraries"].update(result["about"])
                env["id"] = hashlib.sha256(
                    json.dumps(env).encode()).hexdigest()[:16]
        row["env"], row["time_ns"] = env["id"], times(mine)
        ours.append(row)
        peers.append(peer_row(row, peer, theirs))
        m, t = [clean(s) for s in mine], [clean(s) for s in theirs]
        lo, hi = interval(lambda: resampled(t) / resampled(m))
        x, y = row["time_ns"]["median"], peers[-1]["time_ns"]["median"]
        print(f"| {row['case']} | {peer} | {x / 1e3:.1f} | {y / 1e3:.1f} | "
              f"{y / x:.2f} | {lo:.2f} to {hi:.2f} |", flush=True)
    write(os.path.join(a.out, "ours"), [env] + ours)
    write(os.path.join(a.out, "peers"), [env] + peers)
    named = [dict(r, case=r["kernel"] + r["case"][r["case"].index("/"):])
             for r in peers]
    write(os.path.join(a.out, "both"), [env] + ours + named)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--program", default="build/attnbench")
    p.add_argument("--out", default="build/peers/run")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--time", type=float, default=0.2)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--only", help="one peer")
    p.add_argument("--first", type=int, help="only so many cases")
    p.add_argument("--fake", action="store_true")
    p.add_argument("--verify", action="store_true")
    p.add_argument("--worker", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.worker:
        return worker(json.loads(a.worker))
    if a.verify and a.fake:
        p.error("--fake has no results to verify")
    cases = [c for c in CASES if a.only in (None, c[0])][:a.first]
    if not cases:
        p.error(f"no peer {a.only}")
    if a.verify:
        return verify(a.program, cases)
    return measure(a, cases)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Our kernels and PyTorch's on the same problems, in turn: A B A B.

    peers.py [--program FILE] [--out DIR] [--rounds R] [--time S]
             [--threads T,..] [--only PATTERN] [--mkl MODE] [--quick] [--fake]

A group is a kernel of ours, a few sizes of its problem, and the peers that
modules.py has for its mechanism.  In every round `attnbench sweep` and then
each peer, in fresh processes, measure the sizes; the next round goes the other
way round.  So slow changes of the machine meet both sides.  Both run on the
same processors, warm up until two calls agree, take samples of 2 ms or more,
and leave out of the median those that lost the processor.  Torch's allocator
is told to keep its memory: with glibc's defaults it maps and faults every
large tensor anew, and is up to three times slower.  Its MKL keeps to AVX2 on
processors that are not Intel's, at half the speed: a two-line library tells it
to look at what the processor can do (--mkl=plain: as torch comes).

DIR/both is a run with every kernel under its own name, for `table` and `plot`;
DIR/ours and DIR/peers have one name for each case and its best peer, for
`attnbench compare DIR/ours DIR/peers`.  A summary (markdown) goes to standard
output and to DIR/summary.md.

--verify checks every peer against attnbench's reference and measures nothing.
--fake measures a loop of Python in torch's place: the tests need no torch.
"""
import argparse, copy, fnmatch, hashlib, json, math, os, resource
import statistics, struct, subprocess, sys, tempfile, time


def group(kernel, grids, **axes):
    return dict(kernel=kernel, grids=grids.split(","), axes=axes)


GROUPS = [group("softmax.flash", "197,784,1024,3136", head_dim=d, heads=2)
          for d in (32, 64, 128)]
GROUPS += [
    group("na2d.tiled", "14x14,28x28,56x56", head_dim=32, heads=2, window=7),
    group("na2d.tiled", "28x28,56x56", head_dim=64, heads=2, window=13),
    group("swin.tiled", "14x14,28x28,56x56", head_dim=32, heads=2, window=7),
    group("cswin.tiled", "14x14,28x28,56x56", head_dim=32, heads=2, window=7),
    group("halo.tiled", "14x14,28x28,56x56", head_dim=32, heads=2, block=7,
          halo=3),
    group("dwconv.tiled", "14x14,28x28,56x56", head_dim=64, window=7),
    group("linear.fused", "784,3136,4096", head_dim=32, heads=2,
          feature_map="relu"),
    group("linear.fused", "784,3136,4096", head_dim=64, heads=2,
          feature_map="elu1"),
    group("focused_linear.fused", "14x14,28x28,56x56", head_dim=32, heads=2,
          conv=5),
    group("sla.fused", "14x14,28x28,56x56", head_dim=32, heads=2, conv=5),
    group("aft_full.gemm", "196,784,1024", head_dim=256),
    group("aft_simple.fused", "196,784,4096", head_dim=256),
    group("aft_conv.conv", "14x14,28x28,56x56", head_dim=64, heads=4,
          window=7),
    group("softmax.flash", "784,1024,3136", head_dim=64, **{
        "pass": "backward"}),
    group("linear.fused", "784,3136,4096", head_dim=64, feature_map="relu",
          **{"pass": "backward"}),
]

# What the peers' processes run under.
ALLOCATOR = ("glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=4294967296:"
             "glibc.malloc.top_pad=268435456:glibc.malloc.hugetlb=1")

# MKL asks these before it takes AVX-512 code.
MKL_ASKS = """int mkl_serv_intel_cpu_true(void) { return 1; }
int mkl_serv_intel_cpu(void) { return 1; }
"""


def mkl_answer(folder):
    os.makedirs(folder, exist_ok=True)
    library = os.path.abspath(os.path.join(folder, "mkl.so"))
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-x", "c",
                    "-o", library, "-"], input=MKL_ASKS, text=True, check=True)
    return library


# ---- torch's side: runs in a process of its own ---------------------------

def steal():
    """Ticks of 10 ms that the host took, all processors."""
    try:
        with open("/proc/stat") as f:
            return int(f.readline().split()[8])
    except (OSError, IndexError, ValueError):
        return 0


def switches():
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def sample(call, seconds):
    """As harness/measure.c: warm up, calibrate, sample; what lost the
    processor is marked."""
    def timed(calls):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return time.perf_counter() - start
    last, warm = timed(1), time.perf_counter()
    for _ in range(5):
        once = timed(1)
        settled, last = abs(once - last) < 0.05 * last, once
        if settled or time.perf_counter() - warm > seconds / 4:
            break
    calls, once = 1, last
    while once < 2e-3:
        calls = max(calls + 1, int(calls * min(100, 2.2e-3 / once)))
        once = timed(calls)
    ns, touched, start = [], [], time.perf_counter()
    while len(ns) < 3 or time.perf_counter() < start + seconds:
        before = steal(), switches()
        once = timed(calls)
        if steal() - before[0] > once // 1 or \
                switches() - before[1] > once // 0.3:
            touched.append(len(ns))
        ns.append(1e9 * once / calls)
    return {"calls": calls, "ns": ns, "touched": touched, "stop": "time"}


def about_torch(threads):
    """What torch is, and the sgemm it reaches here: its BLAS's code path."""
    import torch
    a = torch.randn(1024, 1024)
    for _ in range(3):
        a @ a
    best = 1e9
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return {"torch": torch.__version__,
            "torch_cpu": torch.backends.cpu.get_cpu_capability(),
            "torch_blas": ("MKL" if torch.backends.mkl.is_available()
                           else "not MKL") +
            (", any vendor's AVX-512" if "LD_PRELOAD" in os.environ else ""),
            f"torch_sgemm_gflop_per_s_{threads}t": round(2.147483648 / best)}


def worker(order):
    """Measures one peer at every size; prints samples and what it ran on."""
    if order["processors"]:
        os.sched_setaffinity(0, order["processors"])
    if order["fake"]:
        about = {}
        samples = [sample(lambda: sum(range(2000)), order["time"])
                   for _ in order["cases"]]
    else:
        import torch
        import modules
        torch.set_num_threads(order["threads"])
        torch.set_grad_enabled(False)
        about = about_torch(order["threads"])
        samples = [sample(modules.call(order["peer"], axes,
                                       modules.tensors(axes)), order["time"])
                   for axes in order["cases"]]
    json.dump({"about": about, "samples": samples}, sys.stdout)


def cases_of(g):
    return [dict(g["axes"], grid=x, mechanism=g["kernel"].split(".")[0])
            for x in g["grids"]]


def peers_of(g, fake):
    if fake:
        return ["fake"]
    import modules
    # FlexAttention has no backward on a CPU.
    return [p for p in modules.PEERS[g["kernel"].split(".")[0]]
            if "flex" not in p or g["axes"].get("pass") != "backward"]


def verify(program, groups):
    """Torch's results as case files; attnbench compares its reference."""
    import modules
    failed, seen = 0, set()
    for g in groups:
        axes = cases_of(g)[0]
        for peer in peers_of(g, False):
            name = peer, axes.get("feature_map"), axes.get("pass")
            if name in seen or axes.get("pass"):
                continue
            seen.add(name)
            t = modules.tensors(axes)
            t["out"] = modules.call(peer, axes, t)()
            meta = {k: str(v) for k, v in axes.items() if k != "mechanism"}
            meta.update(op=axes["mechanism"], tolerance="2e-5", source=peer)
            head, data = {"__metadata__": meta}, b""
            for key, x in t.items():
                raw = x.contiguous().numpy().astype("<f4").tobytes()
                head[key] = {"dtype": "F32", "shape": list(x.shape),
                             "data_offsets": [len(data),
                                              len(data) + len(raw)]}
                data += raw
            text = json.dumps(head).encode()
            with tempfile.NamedTemporaryFile(prefix=peer + "-",
                                             suffix=".safetensors") as f:
                f.write(struct.pack("<Q", len(text)) + text + data)
                f.flush()
                failed |= subprocess.run([program, "verify", "--kernel",
                                          "reference", f.name]).returncode
    return failed


# ---- both sides -----------------------------------------------------------

def run_ours(a, g, threads, folder):
    command = [a.program, "sweep", "--kernel", g["kernel"], "--processes",
               "1", "--time", str(a.time), "--threads", str(threads), "--out",
               folder, "--grid", ",".join(g["grids"])]
    for name, value in g["axes"].items():
        command += ["--" + name.replace("_", "-"), str(value)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"peers.py: {' '.join(command)}:\n{done.stderr}")
    with open(os.path.join(folder, "journal.jsonl")) as f:
        rows = [json.loads(line) for line in f if line.strip()]
    cases = [r for r in rows if r["kind"] == "case"]
    for r in cases:
        if r["status"] != "ok":
            raise SystemExit(f"peers.py: {r['case']}: {r['status']}: "
                             f"{r['reason']}")
    by_grid = {"x".join(map(str, r["problem"]["grid"])): r for r in cases}
    return [r for r in rows if r["kind"] == "env"][-1], \
        [by_grid[x] for x in g["grids"]]


def run_peer(a, peer, g, threads, processors):
    order = dict(peer=peer, cases=cases_of(g), threads=threads, time=a.time,
                 fake=a.fake, processors=processors)
    env = dict(os.environ, OMP_NUM_THREADS=str(threads),
               OMP_PROC_BIND="close", OMP_PLACES="threads",
               GLIBC_TUNABLES=ALLOCATOR,
               TORCHINDUCTOR_CACHE_DIR=os.path.abspath(
                   os.path.join(a.out, "..", "compiled")))
    if a.mkl == "tuned" and not a.fake:
        env["LD_PRELOAD"] = mkl_answer(a.out)
    done = subprocess.run([sys.executable, __file__, "--worker",
                           json.dumps(order)], capture_output=True, text=True,
                          env=env)
    if done.returncode:
        reason = [x for x in done.stderr.splitlines() if "rror" in x]
        print(f"peers.py: {peer} on {g['kernel']} {g['axes']} is left out: "
              f"{reason[0] if reason else done.stderr[-300:]}",
              file=sys.stderr, flush=True)
        return None
    return json.loads(done.stdout)


def clean(samples):
    """As harness/clean.h: the clean samples of all rounds, if there are 3; all
    samples, if fewer are clean.  Rounds left with none are left out."""
    rounds = [[x for i, x in enumerate(s["ns"]) if i not in s["touched"]]
              for s in samples]
    few = sum(map(len, rounds)) < 3
    return few, [r for r in ([s["ns"] for s in samples] if few else rounds) if r]


STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
WIDEST = 1.5  # as SPREAD_WIDEST of harness/spread.h


def student(freedom):
    """97.5 % point of Student's t, within 1 % beyond the table."""
    return STUDENT[freedom - 1] if freedom <= 10 else 1.96 + 2.6 / freedom


def geometric(values):
    """Geometric mean with Student's 95 % interval of the logarithms; one value
    has none."""
    ln = [math.log(x) for x in values]
    mean = statistics.fmean(ln)
    if len(ln) < 2:
        return math.exp(mean), None, None
    half = (student(len(ln) - 1) * statistics.stdev(ln) / math.sqrt(len(ln)))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def times(samples):
    unreliable, rounds = clean(samples)
    ns = [x for r in rounds for x in r]
    median, lo, hi = geometric([statistics.median(r) for r in rounds])
    reason = None
    if lo is None:
        reason = "one process: how processes differ is not known, so there is " \
                 "no interval"
    else:
        lo = min(max(lo, min(x for s in samples for x in s["ns"])), median)
        if hi / lo > WIDEST:
            reason = f"unreliable: processes differ so much that the 95 % " \
                     f"interval would span a factor of {hi / lo:.3g}"
            unreliable, lo, hi = True, None, None
    return {"median": median, "lo": lo, "hi": hi, "min": min(ns),
            "mad": statistics.median(abs(x - median) for x in ns),
            "n": len(ns), "touched": sum(len(s["touched"]) for s in samples),
            "processes": len(samples), "passes": len(samples),
            "units": len(rounds), "stop": "time", "unreliable": unreliable,
            "reason": reason, "samples": samples}


def ratio(mine, theirs):
    """Theirs over mine, round by round: in a round both took turns."""
    sides = []
    for samples in mine, theirs:
        few = clean(samples)[0]
        sides.append([[x for i, x in enumerate(s["ns"])
                       if few or i not in s["touched"]] for s in samples])
    both = [statistics.median(t) / statistics.median(m)
            for m, t in zip(*sides) if m and t]
    return geometric(both) if both else (math.nan, None, None)


def peer_row(row, peer, samples):
    """The same problem, of another kernel; what is of our kernel alone goes."""
    kept = ("kind", "schema", "env", "when", "mechanism", "family",
            "threads", "pass", "problem", "flop", "pairs", "binding")
    out = {k: row[k] for k in kept if k in row}
    out.update(case=peer + row["case"][row["case"].index("/"):], kernel=peer,
               plain=False, level=row["level"], status="ok", reason=None,
               time_ns=times(samples))
    # The same operations in another time.
    roofline = copy.deepcopy(row["roofline"])
    if roofline.get("fraction"):
        roofline["fraction"] *= (row["time_ns"]["median"] /
                                 out["time_ns"]["median"])
    out["roofline"] = roofline
    return out


def write(folder, rows):
    os.makedirs(folder, exist_ok=True)
    partial = os.path.join(folder, "journal.part")
    with open(partial, "w") as f:
        f.writelines(json.dumps(r, separators=(",", ":")) + "\n" for r in rows)
    os.replace(partial, os.path.join(folder, "journal.jsonl"))


def rounds_of(a, g, threads):
    """Samples of every round: ours and each peer's, case by case."""
    peers = peers_of(g, a.fake)
    mine, theirs, env = [], {p: [] for p in peers}, None
    about, processors = {}, None
    for r in range(a.rounds):
        def ours():
            nonlocal env, processors
            with tempfile.TemporaryDirectory() as folder:
                env, rows = run_ours(a, g, threads, folder)
            processors = rows[0]["binding"]["processors"]
            mine.append(rows)

        def theirs_of(peer):
            if peer not in theirs:
                return
            result = run_peer(a, peer, g, threads, processors)
            if not result:
                del theirs[peer]
                return
            about.update(result["about"])
            theirs[peer].append(result["samples"])
        turns = [ours] + [lambda p=p: theirs_of(p) for p in peers]
        for turn in turns if r % 2 == 0 else turns[::-1]:
            turn()
    return env, about, mine, theirs


def summary_line(row, peer, mine, theirs):
    value, lo, hi = ratio(mine, theirs)
    x, y = row["time_ns"]["median"], peer["time_ns"]["median"]
    share = row["roofline"].get("fraction")
    return (f"| {row['case']} | {x / 1e3:.1f} | "
            f"{f'{100 * share:.0f} %' if share else ''} | {peer['kernel']} | "
            f"{y / 1e3:.1f} | {value:.2f} | "
            f"{f'{lo:.2f} to {hi:.2f}' if lo else '-'} |")


def at_median(row, fractions):
    share = [f for f in fractions if f]
    if share:
        row["roofline"]["fraction"] = statistics.median(share)


def measure(a, groups):
    both, ours, best, lines, env = [], [], [], [], None
    lines += ["| case | ours, us | of the roofline | peer | peer, us | "
              "peer / ours | 95 % |", "|---|---|---|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    for threads in map(int, a.threads.split(",")):
        for g in groups:
            here, about, mine, theirs = rounds_of(a, g, threads)
            env = env or copy.deepcopy(here)
            env["libraries"].update(about)
            for i in range(len(g["grids"])):
                row = mine[0][i]
                at_median(row, [r[i]["roofline"].get("fraction")
                                for r in mine])
                samples = [dict(s, **{"pass": n}) for n, r in enumerate(mine)
                           for s in r[i]["time_ns"]["samples"]]
                row["time_ns"] = times(samples)
                peers = {p: peer_row(row, p, [r[i] for r in rs])
                         for p, rs in theirs.items()}
                both += [row, *peers.values()]
                if not peers:
                    continue
                first = min(peers.values(),
                            key=lambda r: r["time_ns"]["median"])
                ours.append(row)
                best.append(dict(first, case=row["case"]))
                for p, r in peers.items():
                    lines.append(summary_line(row, r, samples,
                                              [x[i] for x in theirs[p]]))
                    print(lines[-1], flush=True)
            keep(a, env, ours, best, both, lines)


def keep(a, env, ours, best, both, lines):
    """Everything so far: a later group may take long, or fail."""
    env.pop("id", None)
    env["id"] = hashlib.sha256(json.dumps(env).encode()).hexdigest()[:16]
    for row in both + best:
        row["env"] = env["id"]
    write(os.path.join(a.out, "ours"), [env] + ours)
    write(os.path.join(a.out, "peers"), [env] + best)
    write(os.path.join(a.out, "both"), [env] + both)
    with open(os.path.join(a.out, "summary.md"), "w") as f:
        f.write("\n".join(lines) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--program", default="build/attnbench")
    p.add_argument("--out", default="build/peers/run")
    p.add_argument("--rounds", type=int, default=4)
    p.add_argument("--time", type=float, default=0.2, help="seconds a case")
    p.add_argument("--threads", default="1", help="one or more, with commas")
    p.add_argument("--only", help="our kernels that match, * and ? allowed")
    p.add_argument("--mkl", choices=("tuned", "plain"), default="tuned")
    p.add_argument("--quick", action="store_true",
                   help="one size of one group, two rounds")
    p.add_argument("--fake", action="store_true")
    p.add_argument("--verify", action="store_true")
    p.add_argument("--worker", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.worker:
        return worker(json.loads(a.worker))
    if a.verify and a.fake:
        p.error("--fake has no results to verify")
    groups = [g for g in GROUPS if fnmatch.fnmatch(g["kernel"],
                                                   a.only or "*")]
    if not groups:
        p.error(f"no kernel of ours with a peer matches {a.only}")
    if a.quick:
        a.rounds, groups = 2, [dict(groups[0], grids=groups[0]["grids"][:1])]
    if a.verify:
        return verify(a.program, groups)
    return measure(a, groups)


if __name__ == "__main__":
    sys.exit(main())

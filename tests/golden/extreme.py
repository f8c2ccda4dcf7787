#!/usr/bin/env python3
"""extreme.py - makes the case files here whose name begins with `extreme_`, in
float64 without any package: rows that see nothing, lowest biases, constants that
are not exact in binary, Swin's three paddings, spellings, inputs and parameters
far from 1.

The definitions are written from the papers' code, not from ours: windows as
lists of tokens that are padded, rolled and cut.
"""
import json
import math
import os
import random
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
INF, LOWEST = math.inf, -3.4028234663852886e38
SOURCE = 'tests/golden/extreme.py: the definition in float64'


def f32(x):
    return struct.unpack('<f', struct.pack('<f', x))[0]


def normals(r, n):
    return [f32(r.gauss(0, 1)) for _ in range(n)]


def write(name, meta, tensors):
    header, data = {'__metadata__': dict(meta, source=SOURCE)}, b''
    for key, (shape, values) in tensors.items():
        assert math.prod(shape) == len(values), key
        raw = struct.pack('<%df' % len(values), *values)
        header[key] = {'dtype': 'F32', 'shape': shape,
                       'data_offsets': [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    with open(os.path.join(HERE, 'extreme_%s.safetensors' % name), 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text + data)


def weights(s):
    """Softmax and log-sum-exp of a row; nothing visible: zeros, -inf."""
    top = max(s, default=-INF)
    if top == -INF:
        return [0.0] * len(s), -INF
    e = [math.exp(x - top) for x in s]
    total = math.fsum(e)
    return [x / total for x in e], top + math.log(total)


def dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b))


class Attention:
    """Sums of one head's gradients; a row at a time."""

    def __init__(self, n, m, d):
        self.dq = [[0.0] * d for _ in range(n)]
        self.dk = [[0.0] * d for _ in range(m)]
        self.dv = [[0.0] * d for _ in range(m)]

    def row(self, i, q, keys, values, bias, index, g, scale):
        """out, lse and ds of query i; index[t] < 0: no gradient there."""
        d = len(q)
        p, lse = weights([scale * dot(q, k) + b for k, b in zip(keys, bias)])
        out = [math.fsum(w * v[c] for w, v in zip(p, values)) for c in range(d)]
        dp = [dot(g, v) for v in values]
        mean = dot(p, dp)
        ds = [w * (x - mean) for w, x in zip(p, dp)]
        for t, j in enumerate(index):
            for c in range(d):
                self.dq[i][c] += scale * ds[t] * keys[t][c]
                if j >= 0:
                    self.dk[j][c] += scale * ds[t] * q[c]
                    self.dv[j][c] += p[t] * g[c]
        return out, lse, ds


def rows(x, d):
    return [x[i:i + d] for i in range(0, len(x), d)]


def flat(x):
    return [z for y in x for z in y]


def softmax_case(name, bias_row, n=5, m=7, d=4):
    r = random.Random(name)
    q, k, v, g = (normals(r, c * d) for c in (n, m, m, n))
    bias = [b for i in range(n) for b in bias_row(r, i, m)]
    a, out, lse, db = Attention(n, m, d), [], [], []
    for i in range(n):
        o, l, ds = a.row(i, rows(q, d)[i], rows(k, d), rows(v, d),
                         bias[i * m:(i + 1) * m], range(m), rows(g, d)[i],
                         1 / math.sqrt(d))
        out, lse, db = out + o, lse + [max(l, LOWEST) if l > -INF else l], db + ds
    write('softmax_' + name, {'op': 'softmax', 'grid': str(n), 'tokens_k': str(m),
                              'head_dim': str(d)},
          {'q': ([1, n, d], q), 'k': ([1, m, d], k), 'v': ([1, m, d], v),
           'bias': ([1, n, m], bias), 'out': ([1, n, d], out),
           'lse': ([1, n], lse), 'dout': ([1, n, d], g),
           'dq': ([1, n, d], flat(a.dq)), 'dk': ([1, m, d], flat(a.dk)),
           'dv': ([1, m, d], flat(a.dv)), 'dbias': ([1, n, m], db)})


def lowest(r, i, m):
    if i == 0:
        return [LOWEST] * m
    if i == 1:
        return [-INF] * m
    if i == 2:
        return [LOWEST if j % 2 else -INF for j in range(m)]
    if i == 3:
        return [LOWEST if j % 3 else f32(r.gauss(0, 1)) for j in range(m)]
    return [-INF if j % 3 else f32(r.gauss(0, 1)) for j in range(m)]


def far_apart(r, i, m):
    return [f32(x) for x in ([-1e38, -2e38, -3e38, LOWEST, -1e38, -INF, -1e37]
                             if i % 2 else [3e37, 1e30, -1e30, 0, 1e37, 3e37, 5])]


def na_case(n=9, w=3, d=4):
    """One axis; an rpb that hides all later keys, or is lowest everywhere."""
    r = random.Random('na')
    rpb = [f32(r.gauss(0, 1)), f32(r.gauss(0, 1)), LOWEST, -INF, -INF] + \
        [LOWEST] * 5 + [-INF] * 5
    q, k, v, g = (normals(r, 3 * n * d) for _ in range(4))
    total = {x: [] for x in ('out', 'dq', 'dk', 'dv')}
    drpb = [0.0] * 15
    for h in range(3):
        own = slice(h * n * d, (h + 1) * n * d)
        a = Attention(n, n, d)
        for i in range(n):
            first = min(max(i - w // 2, 0), n - w)
            keys = range(first, first + w)
            at = [h * 5 + j - i + w - 1 for j in keys]
            o, _, ds = a.row(i, rows(q[own], d)[i],
                             [rows(k[own], d)[j] for j in keys],
                             [rows(v[own], d)[j] for j in keys],
                             [rpb[x] for x in at], keys, rows(g[own], d)[i], 0.5)
            total['out'] += o
            for x, y in zip(at, ds):
                drpb[x] += y
        for x in ('dq', 'dk', 'dv'):
            total[x] += flat(getattr(a, x))
    shape = [3, n, d]
    write('na1d_rpb_lowest', {'op': 'na1d', 'grid': str(n), 'heads': '3',
                              'head_dim': str(d), 'kernel': str(w)},
          dict({'q': (shape, q), 'k': (shape, k), 'v': (shape, v),
                'rpb': ([3, 5], rpb), 'dout': (shape, g), 'drpb': ([3, 5], drpb)},
               **{x: (shape, y) for x, y in total.items()}))


def roll(x, s):
    return x[s:] + x[:s]


def swin_axis(n, w, shift, whose):
    """Windows of an axis as lists of (token or -1, region), side, shift."""
    covers = n <= w
    if whose != 'torchvision' and covers:
        w = n
    if covers:
        shift = 0
    tokens, pads = list(range(n)), [-1] * (-n % w)
    line = roll(tokens, shift) + pads if whose == 'timm' else \
        roll(tokens + pads, shift)
    length = len(line)
    region = [0 if shift == 0 or z < length - w else 1 if z < length - shift else 2
              for z in range(length)]
    both = list(zip(line, region))
    return [both[z:z + w] for z in range(0, length, w)], w


def swin_case(name, grid, w, shift, whose, pads=False, steep=1, d=2, heads=2):
    r = random.Random('swin' + name)
    n = grid[0] * grid[1]
    ys, wh = swin_axis(grid[0], w[0], shift[0], whose)
    xs, ww = swin_axis(grid[1], w[1], shift[1], whose)
    table = (2 * wh - 1) * (2 * ww - 1)
    rpb = [f32(steep * x) for x in normals(r, table * heads)]
    q, k, v, g = (normals(r, heads * n * d) for _ in range(4))
    pad = [normals(r, heads * d) if pads else [0.0] * (heads * d) for _ in range(2)]
    total = {x: [] for x in ('dq', 'dk', 'dv')}
    out, drpb = [None] * (heads * n), [0.0] * (table * heads)
    for h in range(heads):
        own = slice(h * n * d, (h + 1) * n * d)
        a = Attention(n, n, d)
        padding = [p[h * d:(h + 1) * d] for p in pad]
        for rows_of in ys:
            for columns in xs:
                at = [(y, x, t[0] * grid[1] + s[0] if t[0] >= 0 and s[0] >= 0
                       else -1, (t[1], s[1]))
                      for y, t in enumerate(rows_of) for x, s in enumerate(columns)]
                index = [j for _, _, j, _ in at]
                keys = [rows(k[own], d)[j] if j >= 0 else padding[0] for j in index]
                values = [rows(v[own], d)[j] if j >= 0 else padding[1]
                          for j in index]
                for y, x, i, region in at:
                    if i < 0:
                        continue
                    entry = [((y - b + wh - 1) * (2 * ww - 1) + x - c + ww - 1) *
                             heads + h for b, c, _, _ in at]
                    bias = [rpb[e] + (-100 if other != region else 0)
                            for e, (_, _, _, other) in zip(entry, at)]
                    o, _, ds = a.row(i, rows(q[own], d)[i], keys, values, bias,
                                     index, rows(g[own], d)[i], 1 / math.sqrt(d))
                    out[h * n + i] = o
                    for e, y_ in zip(entry, ds):
                        drpb[e] += y_
        for x in total:
            total[x] += flat(getattr(a, x))
    shape = [heads, n, d]
    meta = {'op': 'swin', 'grid': '%d,%d' % grid, 'heads': str(heads),
            'head_dim': str(d), 'kernel': '%d,%d' % w, 'shift': '%d,%d' % shift,
            'mask_value': '-100'}
    if whose != 'zero':
        meta['padding'] = whose
    given = {'pad_k': ([heads, d], pad[0]), 'pad_v': ([heads, d], pad[1])}
    write('swin_' + name, meta,
          dict({'q': (shape, q), 'k': (shape, k), 'v': (shape, v),
                'rpb_table': ([table, heads], rpb), 'out': (shape, flat(out)),
                'dout': (shape, g), 'drpb_table': ([table, heads], drpb)},
               **{x: (shape, y) for x, y in total.items()},
               **(given if pads else {})))


def whiten(x, eps):
    mean = math.fsum(x) / len(x)
    var = math.fsum((y - mean) ** 2 for y in x) / len(x)
    return [(y - mean) / math.sqrt(var + eps) for y in x], mean, var


def norm_case(op, name, columns, n=19, eps=1e-5):
    """columns(r, c): the values of channel c; layernorm: of token c."""
    r, c = random.Random(op + name), 5
    line = [[f32(y) for y in columns(r, i, n if op != 'layernorm' else c)]
            for i in range(c if op != 'layernorm' else n)]
    x = line if op == 'layernorm' else [list(t) for t in zip(*line)]
    gamma, beta = normals(r, c), normals(r, c)
    white = [whiten(y, eps)[0] for y in line]
    if op != 'layernorm':
        white = [list(t) for t in zip(*white)]
    alpha = f32(0.7) if op == 'repbn' else 0
    out = [[w * gm + b + alpha * y for w, gm, b, y in zip(a, gamma, beta, z)]
           for a, z in zip(white, x)]
    meta = {'op': op, 'grid': str(n), 'dim': str(c), 'eps': '1e-5'}
    tensors = {'x': ([n, c], flat(x)), 'gamma': ([c], gamma), 'beta': ([c], beta),
               'out': ([n, c], flat(out))}
    if op != 'layernorm':
        meta['mode'] = 'train'
        tensors.update(running_mean=([c], [0.0] * c), running_var=([c], [1.0] * c))
    if op == 'repbn':
        tensors['alpha'] = ([1], [alpha])
    write('%s_%s' % (op, name), meta, tensors)


def constants(r, i, n):
    return [(0.1, 100.3, -1000.7, 33.3, 1e-3)[i % 5]] * n


def nearly(r, i, n):
    """Constants but for one unit in the last place of one value."""
    x = f32((0.1, 100.3, -1000.7, 33.3, 7.7)[i % 5])
    return [x] * (n - 1) + [x * (1 + 2 ** -22)]


def offsets(r, i, n):
    return [(0, 1e3, 1e4, 1e-25, 1e18)[i % 5] *
            (1 if i % 5 < 3 else r.gauss(0, 1)) + (r.gauss(0, 1) if i % 5 < 3 else 0)
            for _ in range(n)]


def pairwise_case(name, meta, score, norm, n=6, d=4, size=1):
    r = random.Random(name)
    q, k, v = (normals(r, n * d) for _ in range(3))
    k = [f32(size * x) for x in k]
    a = [norm([score(x, y) for y in rows(k, d)]) for x in rows(q, d)]
    out = [math.fsum(w * y[c] for w, y in zip(b, rows(v, d)))
           for b in a for c in range(d)]
    write('pairwise_' + name,
          dict({'op': 'pairwise', 'grid': str(n), 'head_dim': str(d)}, **meta),
          {'q': ([1, n, d], q), 'k': ([1, n, d], k), 'v': ([1, n, d], v),
           'out': ([1, n, d], out), 'attn': ([1, n, n], flat(a))})


def scaled(q, k):
    return dot(q, k) / math.sqrt(len(q))


def dtw(cost):
    def score(q, k):
        table = {(0, 0): 0.0}
        for a in range(1, len(q) + 1):
            for b in range(1, len(k) + 1):
                table[a, b] = cost(q[a - 1] - k[b - 1]) + min(
                    table.get(x, INF) for x in ((a - 1, b - 1), (a - 1, b),
                                                (a, b - 1)))
        return -table[len(q), len(k)]
    return score


def sigmoid(offset):
    return lambda s: [1 / (1 + math.exp(-x - offset(len(s)))) for x in s]


def focus(x, theta, p):
    """y of a token; no value leaves the range of double here."""
    s = [math.log1p(math.exp(-abs(t))) + max(t, 0) for t in theta]
    x = [(max(y, 0) + 1e-6) / z for y, z in zip(x, s)]
    u = [(y / max(x)) ** p for y in x]
    gain = math.sqrt(dot(x, x) / dot(u, u))
    return [gain * y for y in u]


def focused(q, k, v, scale, d, p=3):
    """out of one head, its convolution zero."""
    yq, yk = ([focus(x, scale, p) for x in rows(y, d)] for y in (q, k))
    out = []
    for y in yq:
        a = [dot(y, z) for z in yk]
        total = math.fsum(a) + 1e-6 * len(yk)
        out += [math.fsum(w * z[c] for w, z in zip(a, rows(v, d))) / total
                for c in range(d)]
    return out


def focused_case(name, size, theta, gradients, n=5, d=3):
    """size: of q, k, v.  Gradients by differences of a function in double."""
    r = random.Random('focused' + name)
    x = {t: [f32(size * y) for y in normals(r, n * d)] for t in 'qkv'}
    x['scale'] = [f32(theta + y) for y in normals(r, d)]
    shape, tensors = [1, n, d], {}
    for key, y in x.items():
        tensors[key] = (shape if key != 'scale' else [1, d], y)
    tensors['dwc_w'], tensors['dwc_b'] = ([d, 1, 1], [0.0] * d), ([d], [0.0] * d)
    tensors['out'] = (shape, focused(**x, d=d))
    if gradients:
        g = normals(r, n * d)
        tensors['dout'] = (shape, g)
        for key, values in x.items():
            slopes = []
            for i in range(len(values)):
                near = [dot(g, focused(**dict(x, **{
                    key: values[:i] + [values[i] + h] + values[i + 1:]}), d=d))
                    for h in (-1e-5, 1e-5)]
                slopes.append((near[1] - near[0]) / 2e-5)
            tensors['d' + key] = (tensors[key][0], slopes)
    write('focused_linear_' + name,
          {'op': 'focused_linear', 'grid': str(n), 'heads': '1',
           'head_dim': str(d), 'kernel': '1', 'focusing_factor': '3',
           'eps': '1e-6'}, tensors)


def aft_case(name, beta, n=7, d=2, side=3):
    """Causal AFT-conv whose first tokens see through a faint window alone."""
    r = random.Random('aft' + name)
    q, v, k = normals(r, n * d), normals(r, n * d), normals(r, n)
    w, gamma = normals(r, side), f32(0.5)
    mean = math.fsum(w) / side
    std = math.sqrt(math.fsum((x - mean) ** 2 for x in w) / (side - 1))
    tap = [gamma * (x - mean) / (std + 1e-5) + beta for x in w]
    out = []
    for t in range(n):
        a, _ = weights([k[j] + (tap[j - t + side - 1] if t - j < side else 0)
                        for j in range(t + 1)])
        out += [math.fsum(x * y[c] for x, y in zip(a, rows(v, d))) /
                (1 + math.exp(-q[t * d + c])) for c in range(d)]
    write('aft_conv_' + name,
          {'op': 'aft_conv', 'grid': str(n), 'head_dim': str(d),
           'window': str(side), 'causal': '1'},
          {'q': ([1, n, d], q), 'k': ([1, n, 1], k), 'v': ([1, n, d], v),
           'w': ([1, side], w), 'gamma': ([1], [gamma]), 'beta': ([1], [beta]),
           'out': ([1, n, d], out)})


def aft_one_key_case(d=3, side=3):
    """Equal taps, whose gradient is 0 times 1 / 1e-5: a token sees itself."""
    r = random.Random('aft one key')
    q, v, g, k = normals(r, d), normals(r, d), normals(r, d), normals(r, 1)
    gate = [1 / (1 + math.exp(-x)) for x in q]
    write('aft_conv_one_key',
          {'op': 'aft_conv', 'grid': '1', 'head_dim': str(d),
           'window': str(side)},
          {'q': ([1, 1, d], q), 'k': ([1, 1, 1], k), 'v': ([1, 1, d], v),
           'w': ([1, side], [0.0] * side), 'gamma': ([1], [1.0]),
           'beta': ([1], [0.5]), 'dout': ([1, 1, d], g),
           'out': ([1, 1, d], [x * y for x, y in zip(gate, v)]),
           'dq': ([1, 1, d], [a * b * x * (1 - x)
                              for a, b, x in zip(g, v, gate)]),
           'dk': ([1, 1, 1], [0.0]),
           'dv': ([1, 1, d], [x * y for x, y in zip(gate, g)]),
           'dw': ([1, side], [0.0] * side), 'dgamma': ([1], [0.0]),
           'dbeta': ([1], [0.0])})


def aft_head(q, k, v, g, bias, tap, dq, dk, dv, db):
    """A map of AFT; k has one row per token, of d channels or 1; bias[t][j];
    tap[t][j] tells the entry of db, or -1."""
    d, out = len(q[0]), []
    for t in range(len(q)):
        line = []
        for c in range(d):
            key = c % len(k[0])
            a, _ = weights([x[key] + b for x, b in zip(k, bias[t])])
            gate = 1 / (1 + math.exp(-q[t][c]))
            mean = math.fsum(w * x[c] for w, x in zip(a, v))
            line.append(gate * mean)
            dq[t][c] += g[t][c] * mean * gate * (1 - gate)
            for j, w in enumerate(a):
                de = w * g[t][c] * gate * (v[j][c] - mean)
                dv[j][c] += w * g[t][c] * gate
                dk[j][key] += de
                if tap[t][j] >= 0:
                    db[tap[t][j]] += de
        out += line
    return out


def aft_inputs(r, n, d, dk, spread):
    """q, k, v, dout as rows, and places for dq, dk, dv."""
    q, v, g = (rows(normals(r, n * d), d) for _ in range(3))
    k = [[f32(spread * r.gauss(0, 1)) for _ in range(dk)] for _ in range(n)]
    return q, k, v, g, *([[0.0] * x for _ in range(n)] for x in (d, dk, d))


def aft_tensors(x, n, d, dk, lead):
    q, k, v, g, dq, gk, dv, out = x
    full, key = lead + [n, d], lead + [n, dk]
    return {'q': (full, flat(q)), 'k': (key, flat(k)), 'v': (full, flat(v)),
            'out': (full, out), 'dout': (full, flat(g)), 'dq': (full, flat(dq)),
            'dk': (key, flat(gk)), 'dv': (full, flat(dv))}


def aft_pairs_case(name, grid, d, window, spread, bias_of):
    """aft_full, or aft_local where there is a window; bias_of(r, t, j)."""
    op = 'aft_local' if window else 'aft_full'
    r, n = random.Random(name), grid[0] * grid[1]
    x = aft_inputs(r, n, d, d, spread)
    w = [f32(bias_of(r, t, j)) for t in range(n) for j in range(n)]
    kept = [[not window or (abs(t // grid[1] - j // grid[1]) < window and
                            abs(t % grid[1] - j % grid[1]) < window)
             for j in range(n)] for t in range(n)]
    tap = [[t * n + j if kept[t][j] else -1 for j in range(n)] for t in range(n)]
    bias = [[w[t * n + j] if kept[t][j] else 0.0 for j in range(n)]
            for t in range(n)]
    dw = [0.0] * (n * n)
    out = aft_head(*x[:4], bias, tap, *x[4:], dw)
    meta = {'op': op, 'grid': '%d,%d' % grid, 'head_dim': str(d)}
    if window:
        meta['kernel'] = str(window)
    write('%s_%s' % (op, name), meta,
          dict(aft_tensors(x + (out,), n, d, d, [1]), w=([n, n], w),
               dw=([n, n], dw)))


def aft_conv_case(name, grid, d, s, spread, w, gamma, beta):
    """One head; one key per token; a map of one row is a sequence."""
    r, n, sequence = random.Random('conv' + name), grid[0] * grid[1], grid[0] == 1
    x = aft_inputs(r, n, d, 1, spread)
    taps, half = s if sequence else s * s, s // 2
    w = [f32(y) for y in w(r, taps)]
    mean = math.fsum(w) / taps
    std = math.sqrt(math.fsum((y - mean) ** 2 for y in w) / (taps - 1))
    hat = [(y - mean) / (std + 1e-5) for y in w]
    tap = [[-1] * n for _ in range(n)]
    for t in range(n):
        for j in range(n):
            dy, dx = j // grid[1] - t // grid[1], j % grid[1] - t % grid[1]
            if abs(dy) <= half and abs(dx) <= half:
                tap[t][j] = (0 if sequence else (dy + half) * s) + dx + half
    bias = [[gamma * hat[i] + beta if i >= 0 else 0.0 for i in y] for y in tap]
    de = [0.0] * taps
    out = aft_head(*x[:4], bias, tap, *x[4:], de)
    total, along = math.fsum(de), dot(de, hat)
    share = along * (std + 1e-5) / ((taps - 1) * std) if std else 0
    dw = [gamma / (std + 1e-5) * (y - total / taps - h * share)
          for y, h in zip(de, hat)]
    shape = [1, s] if sequence else [1, s, s]
    write('aft_conv_' + name,
          {'op': 'aft_conv', 'grid': '%d,%d' % grid, 'heads': '1',
           'head_dim': str(d), 'kernel': str(s),
           'conv_dims': '1' if sequence else '2', 'causal': '0', 'eps': '0'},
          dict(aft_tensors(x + (out,), n, d, 1, [1]), w=(shape, w),
               gamma=([1], [gamma]), beta=([1], [beta]), dw=(shape, dw),
               dgamma=([1], [along]), dbeta=([1], [total])))


def aft_cases():
    """Ranges that no product of exponentials holds, and keys that are alone."""
    aft_conv_case('far_apart', (5, 19), 3, 3, 40, normals, 40.0, 60.0)
    aft_conv_case('far_apart_line', (1, 21), 18, 5, 40, normals, 60.0, -30.0)
    wide = lambda r, t, j: r.gauss(0, 60)
    aft_pairs_case('far_apart', (4, 9), 17, 3, 60, wide)
    aft_pairs_case('far_apart', (1, 21), 19, 0, 60, wide)
    aft_pairs_case('one_key', (1, 1), 53, 0, 1, lambda r, t, j: 0)


def main():
    aft_cases()
    softmax_case('lowest', lowest)
    softmax_case('far_apart', far_apart)
    na_case()
    for whose in ('zero', 'timm', 'torchvision'):
        swin_case('4x12_w7s3_' + whose, (4, 12), (7, 7), (3, 3), whose)
    swin_case('4x14_w4x7_s0x3', (4, 14), (4, 7), (0, 3), 'zero')
    swin_case('9x5_w3x4_s1x2_pads', (9, 5), (3, 4), (1, 2), 'zero', True)
    swin_case('5x3_w4_steep', (5, 3), (4, 4), (0, 0), 'timm', False, 200)
    for op in ('batchnorm', 'repbn', 'layernorm'):
        norm_case(op, 'constant', constants)
        norm_case(op, 'nearly_constant', nearly)
        norm_case(op, 'offsets', offsets)
    scores = {'similarity': 'scaled_dot', 'normalisation': 'sigmoid'}
    pairwise_case('sigmoid_offset', dict(scores, offset='-1.5'), scaled,
                  sigmoid(lambda m: -1.5))
    pairwise_case('sigmoid_ln_m', dict(scores, sigmoid_bias='-ln M'), scaled,
                  sigmoid(lambda m: -math.log(m)))
    warp = {'similarity': 'dtw', 'normalisation': 'softmax'}
    pairwise_case('dtw_squared', dict(warp, cost='squared'), dtw(lambda x: x * x),
                  lambda s: weights(s)[0])
    pairwise_case('dtw_absolute', dict(warp, cost='absolute'), dtw(abs),
                  lambda s: weights(s)[0])
    pairwise_case('dtw_huge', dict(warp, cost='squared', normalisation='l1'),
                  dtw(lambda x: x * x),
                  lambda s: [x / math.fsum(map(abs, s)) for x in s], size=1e18)
    aft_one_key_case()
    aft_case('faint_window', -16.5)
    focused_case('narrow', 1, -60, True)
    focused_case('huge', 1e18, 0, False)


main()

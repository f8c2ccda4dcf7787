"""What PyTorch's users run for each mechanism: its fused operators, or the
papers' modules written plainly.

PEERS[mechanism][name](axes, t) prepares and returns a function of no
arguments, the forward pass.  t holds float32 tensors of one batch entry under
attnbench's names: q, k, v [heads, tokens, channels], parameters as
`attnbench explain` lists them.  What depends on the shape alone (index lists,
block masks, compiled code) is made before, and not timed.
"""
import math

import torch
import torch.nn.functional as F


def grid(axes):
    return [int(x) for x in str(axes["grid"]).split("x")]


def heads_first(x, side):
    """[heads, H W, d] as a picture [1, heads d, H, W] for convolutions."""
    h, n, d = x.shape
    return x.transpose(1, 2).reshape(1, h * d, side[0], side[1])


def tokens(x, heads):
    """The way back."""
    return x.view(heads, -1, x.shape[-2] * x.shape[-1]).transpose(1, 2)


# ---- softmax ----------------------------------------------------------------

def sdpa(axes, t):
    q, k, v = (t[x][None] for x in "qkv")
    return lambda: F.scaled_dot_product_attention(q, k, v)[0]


def matmul_softmax(axes, t):
    q, k, v = (t[x] for x in "qkv")
    scale = 1 / math.sqrt(q.shape[-1])
    return lambda: torch.softmax(scale * q @ k.transpose(1, 2), -1) @ v


def compiled_flex(t, mask, n):
    from torch.nn.attention.flex_attention import (create_block_mask,
                                                   flex_attention)
    q, k, v = (t[x][None] for x in "qkv")
    blocks = mask and create_block_mask(mask, None, None, n, n, device="cpu")
    flex = torch.compile(flex_attention, dynamic=False)
    return lambda: flex(q, k, v, block_mask=blocks)[0]


def flex(axes, t):
    return compiled_flex(t, None, t["q"].shape[1])


# ---- windows ------------------------------------------------------------------

def window_starts(length, window):
    """Neighborhood attention's windows, moved inward at the borders."""
    return (torch.arange(length) - window // 2).clamp(0, length - window)


def na2d_flex(axes, t):
    (h, w), k = grid(axes), int(axes["window"])

    def near(x, y, length):
        start = (x - k // 2).clamp(0, length - k)
        return (y >= start) & (y < start + k)

    def mask(b, head, i, j):
        return near(i // w, j // w, h) & near(i % w, j % w, w)
    return compiled_flex(t, mask, h * w)


def na2d_gather(axes, t):
    """Every neighbourhood copied out, as without a kernel of its own."""
    (h, w), k = grid(axes), int(axes["window"])
    near = torch.arange(k)
    y = (window_starts(h, k)[:, None] + near)[:, None, :, None]
    x = (window_starts(w, k)[:, None] + near)[None, :, None, :]
    index = (y * w + x).reshape(h * w, k * k)
    scale = 1 / math.sqrt(t["q"].shape[-1])

    def run():
        keys, values = t["k"][:, index], t["v"][:, index]
        s = (scale * t["q"])[:, :, None] @ keys.transpose(2, 3)
        return (torch.softmax(s, -1) @ values)[:, :, 0]
    return run


def swin_windows(axes, t, attend):
    (h, w), k = grid(axes), int(axes["window"])
    heads, n, d = t["q"].shape

    def split(x):
        x = x.view(heads, h // k, k, w // k, k, d)
        return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, k * k, d)

    def run():
        out = attend(*(split(t[x]) for x in "qkv"))
        out = out.view(heads, h // k, w // k, k, k, d)
        return out.permute(0, 1, 3, 2, 4, 5).reshape(heads, n, d)
    return run


def swin(axes, t):
    scale = 1 / math.sqrt(t["q"].shape[-1])
    return swin_windows(axes, t, lambda q, k, v: torch.softmax(
        scale * q @ k.transpose(1, 2), -1) @ v)


def swin_sdpa(axes, t):
    return swin_windows(axes, t, lambda q, k, v:
                        F.scaled_dot_product_attention(q[None], k[None],
                                                       v[None])[0])


def cswin(axes, t):
    """Upright stripes for the first half of the heads, lying ones for the
    second, and a convolution of v in each: Dong et al. 2022."""
    (h, w), k = grid(axes), int(axes["window"])
    heads, n, d = t["q"].shape
    half = heads // 2

    def branch(first, a, b):
        part = [t[x][first:first + half] for x in "qkv"]
        weight = t["lepe_w"][first * d:(first + half) * d, None]
        bias = t["lepe_b"][first * d:(first + half) * d]

        def run():
            q, k, v = (x.view(half, h // a, a, w // b, b, d).permute(
                1, 3, 0, 2, 4, 5).reshape(-1, half, a * b, d) for x in part)
            maps = v.transpose(2, 3).reshape(-1, half * d, a, b)
            lepe = F.conv2d(maps, weight, bias, padding=1, groups=half * d)
            out = F.scaled_dot_product_attention(q, k, v)
            out = out + lepe.view(-1, half, d, a * b).transpose(2, 3)
            out = out.view(h // a, w // b, half, a, b, d)
            return out.permute(2, 0, 3, 1, 4, 5).reshape(half, n, d)
        return run
    upright, lying = branch(0, h, k), branch(half, k, w)
    return lambda: torch.cat((upright(), lying()))


def halo(axes, t):
    """Blocks of queries; unfold copies each block's keys with their halo."""
    (h, w), b, r = grid(axes), int(axes["block"]), int(axes["halo"])
    heads, n, d = t["q"].shape
    scale, m = 1 / math.sqrt(d), (b + 2 * r) ** 2

    def around(x):
        x = x.transpose(1, 2).reshape(heads, d, h, w)
        x = F.unfold(x, b + 2 * r, padding=r, stride=b)
        return x.view(heads, d, m, -1).permute(0, 3, 2, 1)

    def run():
        q = t["q"].view(heads, h // b, b, w // b, b, d)
        q = q.permute(0, 1, 3, 2, 4, 5).reshape(heads, -1, b * b, d)
        s = scale * q @ around(t["k"]).transpose(2, 3)
        out = torch.softmax(s, -1) @ around(t["v"])
        out = out.view(heads, h // b, w // b, b, b, d)
        return out.permute(0, 1, 3, 2, 4, 5).reshape(heads, n, d)
    return run


# ---- linear -------------------------------------------------------------------

FEATURES = {"relu": F.relu, "elu1": lambda x: F.elu(x) + 1}


def linear_einsum(axes, t):
    """o_i = phi(q_i) (sum_j phi(k_j) v_j^T) / (phi(q_i) . sum_j phi(k_j)),
    Katharopoulos et al. 2020."""
    phi = FEATURES[axes["feature_map"]]

    def run():
        a, b = phi(t["q"]), phi(t["k"])
        sums = torch.einsum("hnd,hd->hn", a, b.sum(1))
        return torch.einsum("hnd,hde->hne", a, torch.einsum(
            "hnd,hne->hde", b, t["v"])) / sums[..., None]
    return run


def linear_matmul(axes, t):
    phi = FEATURES[axes["feature_map"]]

    def run():
        a, b = phi(t["q"]), phi(t["k"])
        return a @ (b.transpose(1, 2) @ t["v"]) / (
            a @ b.sum(1)[:, :, None])
    return run


def with_convolution(axes, t, out):
    side, heads = grid(axes), t["v"].shape[0]
    weight = t["dwc_w"][:, None].repeat(heads, 1, 1, 1)
    conv = F.conv2d(heads_first(t["v"], side), weight,
                    t["dwc_b"].repeat(heads), padding=weight.shape[-1] // 2,
                    groups=weight.shape[0])
    return out + tokens(conv, heads)


def focused_linear(axes, t):
    """Han et al. 2023, power 3."""
    scale = F.softplus(t["scale"])[:, None]

    def focus(x):
        x = (F.relu(x) + 1e-6) / scale
        norm = x.square().sum((0, 2), keepdim=True).sqrt()
        x = x ** 3
        return x / x.square().sum((0, 2), keepdim=True).sqrt() * norm

    def run():
        q, k = focus(t["q"]), focus(t["k"] + t["pos"])
        n = k.shape[1]
        z = 1 / (q @ k.mean(1)[:, :, None] + 1e-6)
        kv = (k.transpose(1, 2) * n ** -0.5) @ (t["v"] * n ** -0.5)
        return with_convolution(axes, t, q @ kv * z)
    return run


def sla(axes, t):
    """Guo et al. 2024."""
    def run():
        q, k = F.relu(t["q"]), F.relu(t["k"] + t["pos"])
        z = 1 / (q @ k.sum(1)[:, :, None] + 1e-6)
        return with_convolution(axes, t,
                                q @ (k.transpose(1, 2) @ t["v"]) * z)
    return run


# ---- attention-free -------------------------------------------------------------

def aft_simple(axes, t):
    """sigmoid(q) * sum_j softmax_j(k) v, Zhai et al. 2021."""
    return lambda: torch.sigmoid(t["q"]) * (torch.softmax(t["k"], 1) *
                                            t["v"]).sum(1, keepdim=True)


def aft_full(axes, t):
    def run():
        e = torch.exp(t["w"] - t["w"].amax(-1, keepdim=True))
        b = torch.exp(t["k"] - t["k"].amax(1, keepdim=True))
        return torch.sigmoid(t["q"]) * (e @ (b * t["v"])) / (e @ b)
    return run


def aft_conv(axes, t):
    side, heads = grid(axes), t["v"].shape[0]

    def run():
        w = t["w"]
        mean = w.mean((1, 2), keepdim=True)
        std = w.std((1, 2), keepdim=True, unbiased=True)
        w = t["gamma"][:, None, None] * (w - mean) / (std + 1e-5) \
            + t["beta"][:, None, None]
        e = torch.exp(t["k"] - t["k"].amax(1, keepdim=True))
        x = torch.cat((e * t["v"], e), -1)
        channels = x.shape[-1]
        weight = torch.expm1(w).repeat_interleave(channels, 0)[:, None]
        y = F.conv2d(heads_first(x, side), weight,
                     padding=w.shape[-1] // 2, groups=weight.shape[0])
        y = tokens(y, heads) + x.sum(1, keepdim=True)
        return torch.sigmoid(t["q"]) * y[..., :-1] / y[..., -1:]
    return run


# ---- convolution ------------------------------------------------------------------

def dwconv(axes, t):
    side, heads = grid(axes), t["x"].shape[0]
    weight = t["weight"][:, None]
    return lambda: tokens(F.conv2d(
        heads_first(t["x"], side), weight, t["bias"],
        padding=weight.shape[-1] // 2, groups=weight.shape[0]), heads)


PEERS = {
    "softmax": {"torch.sdpa": sdpa, "torch.flex": flex,
                "torch.matmul": matmul_softmax},
    "na2d": {"torch.na2d_flex": na2d_flex, "torch.na2d_gather": na2d_gather},
    "swin": {"torch.swin_sdpa": swin_sdpa, "torch.swin_matmul": swin},
    "cswin": {"torch.cswin_sdpa": cswin},
    "halo": {"torch.halo_unfold": halo},
    "linear": {"torch.linear_einsum": linear_einsum,
               "torch.linear_matmul": linear_matmul},
    "focused_linear": {"torch.focused_linear": focused_linear},
    "sla": {"torch.sla": sla},
    "aft_full": {"torch.aft_full": aft_full},
    "aft_simple": {"torch.aft_simple": aft_simple},
    "aft_conv": {"torch.aft_conv": aft_conv},
    "dwconv": {"torch.dwconv": dwconv},
}


def tensors(axes):
    """Seeded inputs and parameters for a case."""
    torch.manual_seed(1)
    n = math.prod(grid(axes))
    d, heads = int(axes["head_dim"]), int(axes.get("heads", 1))
    mechanism = axes["mechanism"]
    t = {x: torch.randn(heads, n, d) for x in "qkv"}
    if mechanism == "aft_full":
        t["w"] = torch.randn(n, n)
    if mechanism == "aft_conv":
        k = int(axes["window"])
        t.update(k=torch.randn(heads, n, 1), w=torch.randn(heads, k, k),
                 gamma=torch.rand(heads), beta=torch.rand(heads) / 2)
    if mechanism in ("focused_linear", "sla"):
        k = int(axes.get("conv", 5))
        t.update(pos=torch.randn(heads, n, d), dwc_w=torch.randn(d, k, k),
                 dwc_b=torch.randn(d))
    if mechanism == "cswin":
        t.update(lepe_w=torch.randn(heads * d, 3, 3),
                 lepe_b=torch.randn(heads * d))
    if mechanism == "focused_linear":
        t["scale"] = torch.randn(heads, d)
    if mechanism == "dwconv":
        k = int(axes["window"])
        t = {"x": torch.randn(heads, n, d), "weight": torch.randn(d, k, k),
             "bias": torch.randn(d)}
    return t


def call(peer, axes, t):
    """The pass that the case asks for, as a function of no arguments."""
    module = PEERS[axes["mechanism"]][peer]
    if axes.get("pass") != "backward":
        return module(axes, t)
    names = "qkv"
    with torch.enable_grad():
        t = dict(t, **{x: t[x].clone().requires_grad_() for x in names})
        out = module(axes, t)()
    inputs, grad = [t[x] for x in names], torch.randn_like(out)
    return lambda: torch.autograd.grad(out, inputs, grad, retain_graph=True)

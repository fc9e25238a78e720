"""Calls of operators that multiply matrices, convolve, pool, pad and resize."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from calls import Call, Draw, call, floats, that_run, truths, whole


def _each(texts: Iterable[str], *kinds: Draw) -> tuple[Call, ...]:
    return that_run(call(text, a=a) for text in texts for a in kinds)


_LINE: Final = floats(2, 3, 9)
_IMAGE: Final = floats(2, 3, 7, 6)
_VIDEO: Final = floats(1, 2, 5, 6, 4)
_Q: Final = floats(2, 4, 5, 8)


def _attention(arguments: str, q: Draw = _Q, k: Draw = _Q, **more: Draw) -> Call:
    return call(f"F.scaled_dot_product_attention(a, b, b * 0.5{arguments})", a=q, b=k, **more)


PRODUCTS: Final = {
    f"aten.{name}": calls
    for name, calls in {
        "mm.default": (
            call("a @ b", a=floats(3, 4), b=floats(4, 5)),
            call("a @ b", a=whole(3, 4), b=whole(4, 5)),
            call("a @ b", a=floats(1, 1), b=floats(1, 1)),
        ),
        "bmm.default": (
            call("torch.bmm(a, b)", a=floats(2, 3, 4), b=floats(2, 4, 5)),
            call("torch.bmm(a, b)", a=whole(2, 3, 4), b=whole(2, 4, 5)),
        ),
        "matmul.default": (
            call("a @ b", a=floats(2, 3, 4), b=floats(4, 5)),
            call("a @ b", a=floats(4), b=floats(2, 4, 5)),
            call("a @ b", a=floats(2, 3, 4), b=floats(4)),
            call("a @ b", a=floats(2, 1, 3, 4), b=floats(5, 4, 2)),
            call("a @ b", a=floats(4), b=floats(4)),
        ),
        "mv.default": (call("torch.mv(a, b)", a=floats(3, 4), b=floats(4)),),
        "dot.default": (call("torch.dot(a, b)", a=floats(4), b=floats(4)),),
        "addmm.default": (
            call("torch.addmm(c, a, b)", a=floats(3, 4), b=floats(4, 5), c=floats(5)),
            call("torch.addmm(c, a, b, beta=0.5, alpha=2)", a=floats(3, 4), b=floats(4, 5), c=floats(3, 5)),
        ),
        "baddbmm.default": (
            call("torch.baddbmm(c, a, b, beta=0.5, alpha=2)", a=floats(2, 3, 4), b=floats(2, 4, 5), c=floats(2, 3, 5)),
        ),
        "linear.default": (
            call("F.linear(a, b)", a=floats(2, 3, 4), b=floats(5, 4)),
            call("F.linear(a, b, c)", a=floats(2, 3, 4), b=floats(5, 4), c=floats(5)),
            call("F.linear(a, b, c)", a=floats(4), b=floats(5, 4), c=floats(5)),
        ),
        "einsum.default": (
            call("torch.einsum('bnc,bmc->bnm', a, b)", a=floats(2, 3, 4), b=floats(2, 5, 4)),
            call("torch.einsum('bnc,c->bn', a, b)", a=floats(2, 3, 4), b=floats(4)),
            call("torch.einsum('bnc,bnc->b', a, b)", a=floats(2, 3, 4), b=floats(2, 3, 4)),
            call("torch.einsum('ii->i', a)", a=floats(3, 3)),
            call("torch.einsum('bii,i->bi', a, b)", a=floats(2, 3, 3), b=floats(3)),
            call("torch.einsum('ii', a)", a=floats(3, 3)),
            call("torch.einsum('...ij,...jk->...ik', a, b)", a=floats(2, 1, 3, 4), b=floats(5, 4, 2)),
            call("torch.einsum('ab,bc,cd->ad', a, b, c)", a=floats(2, 3), b=floats(3, 4), c=floats(4, 2)),
        ),
        "outer.default": (call("torch.outer(a, b)", a=floats(3), b=floats(4)),),
        "kron.default": (call("torch.kron(a, b)", a=floats(2, 3), b=floats(3, 2)),),
        "linalg_cross.default": (call("torch.linalg.cross(a, b)", a=floats(2, 3), b=floats(2, 3)),),
        "scaled_dot_product_attention.default": (
            _attention(""),
            _attention(", is_causal=True"),
            _attention(", scale=0.3"),
            _attention(", attn_mask=c", c=truths(2, 1, 5, 5)),
            _attention(", attn_mask=c", c=floats(5, 5)),
            _attention("", floats(4, 5, 8), floats(4, 6, 8)),
            _attention("", floats(5, 8), floats(6, 8)),
            _attention(", enable_gqa=True", floats(2, 4, 5, 8), floats(2, 2, 5, 8)),
            _attention("", floats(2, 4, 3, 8), floats(2, 4, 7, 8)),
        ),
        "_cdist_forward.default": tuple(
            call(f"torch.cdist(a, b{more})", a=floats(2, 3, 4), b=floats(2, 5, 4))
            for more in ("", ", p=1.0", ", p=math.inf", ", p=3.0")
        ),
        "_pdist_forward.default": (call("torch.pdist(a)", a=floats(4, 3)),),
        "cosine_similarity.default": (
            call("F.cosine_similarity(a, b, dim=-1)", a=floats(2, 3, 4), b=floats(2, 3, 4)),
            call("F.cosine_similarity(a[:, :, None], b[:, None], dim=-1)", a=floats(2, 3, 4), b=floats(2, 5, 4)),
        ),
        "pairwise_distance.default": (call("F.pairwise_distance(a, b)", a=floats(3, 4), b=floats(3, 4)),),
        "convolution.default": that_run(
            [
                call("F.conv1d(a, b, c)", a=_LINE, b=floats(4, 3, 3), c=floats(4)),
                call("F.conv1d(a, b, padding='same', dilation=2)", a=_LINE, b=floats(4, 3, 3)),
                call("F.conv2d(a, b, c, stride=2, padding=1)", a=_IMAGE, b=floats(4, 3, 3, 3), c=floats(4)),
                call("F.conv2d(a, b, stride=(1, 2), padding=(2, 0), dilation=(2, 1))", a=_IMAGE, b=floats(4, 3, 3, 2)),
                call("F.conv2d(a, b, c, groups=3)", a=_IMAGE, b=floats(6, 1, 3, 3), c=floats(6)),
                call("F.conv2d(a, b)", a=floats(3, 7, 6), b=floats(4, 3, 3, 3)),
                call("F.conv2d(a, b, padding='same')", a=_IMAGE, b=floats(4, 3, 4, 3)),
                call("F.conv3d(a, b, c, padding=1)", a=_VIDEO, b=floats(3, 2, 3, 3, 3), c=floats(3)),
                call("F.conv3d(a, b, stride=(2, 1, 1), groups=2)", a=_VIDEO, b=floats(4, 1, 3, 2, 2)),
                call("F.conv_transpose1d(a, b, c, stride=2)", a=_LINE, b=floats(3, 4, 3), c=floats(4)),
                call(
                    "F.conv_transpose2d(a, b, c, stride=2, padding=1, output_padding=1)",
                    a=_IMAGE,
                    b=floats(3, 4, 3, 3),
                    c=floats(4),
                ),
                call("F.conv_transpose2d(a, b, groups=3)", a=_IMAGE, b=floats(3, 2, 2, 2)),
                call("F.conv_transpose3d(a, b, stride=2)", a=_VIDEO, b=floats(2, 3, 2, 2, 2)),
            ]
        ),
        "avg_pool1d.default": _each(
            ("F.avg_pool1d(a, 3)", "F.avg_pool1d(a, 3, 2, 1)", "F.avg_pool1d(a, 2, ceil_mode=True)"), _LINE
        ),
        "avg_pool2d.default": _each(
            (
                "F.avg_pool2d(a, 2)",
                "F.avg_pool2d(a, 3, 2, 1)",
                "F.avg_pool2d(a, 3, 2, 1, count_include_pad=False)",
                "F.avg_pool2d(a, 2, ceil_mode=True)",
                "F.avg_pool2d(a, 3, 2, 1, ceil_mode=True, count_include_pad=False)",
                "F.avg_pool2d(a, (2, 3), divisor_override=5)",
            ),
            _IMAGE,
            floats(3, 7, 6),
        ),
        "avg_pool3d.default": _each(("F.avg_pool3d(a, 2)", "F.avg_pool3d(a, (1, 2, 2), padding=(0, 1, 1))"), _VIDEO),
        "max_pool1d.default": _each(("F.max_pool1d(a, 3)", "F.max_pool1d(a, 3, 2, 1, ceil_mode=True)"), _LINE),
        "max_pool2d_with_indices.default": _each(
            (
                "F.max_pool2d(a, 2)",
                "F.max_pool2d(a, 3, 2, 1)",
                "F.max_pool2d(a, 2, ceil_mode=True)",
                "F.max_pool2d(a, 2, 1, dilation=2)",
                "F.max_pool2d(a, 2, return_indices=True)",
            ),
            _IMAGE,
            floats(3, 7, 6),
        ),
        "max_pool3d_with_indices.default": _each(
            ("F.max_pool3d(a, 2)", "F.max_pool3d(a, (1, 2, 2), padding=(0, 1, 1))"), _VIDEO
        ),
        "adaptive_avg_pool1d.default": _each(
            ("F.adaptive_avg_pool1d(a, 3)", "F.adaptive_avg_pool1d(a, 4)", "F.adaptive_avg_pool1d(a, 1)"), _LINE
        ),
        "_adaptive_avg_pool2d.default": _each(
            (
                "F.adaptive_avg_pool2d(a, 1)",
                "F.adaptive_avg_pool2d(a, (3, 2))",
                "F.adaptive_avg_pool2d(a, (None, 4))",
                "F.adaptive_avg_pool2d(a, (9, 8))",
            ),
            _IMAGE,
        ),
        "_adaptive_avg_pool3d.default": _each(
            ("F.adaptive_avg_pool3d(a, 1)", "F.adaptive_avg_pool3d(a, (2, 3, 2))"), _VIDEO
        ),
        "adaptive_max_pool2d.default": _each(
            ("F.adaptive_max_pool2d(a, 1)", "F.adaptive_max_pool2d(a, (3, 2))"), _IMAGE
        ),
        "im2col.default": _each(("F.unfold(a, 2)", "F.unfold(a, (3, 2), padding=1, stride=2)"), _IMAGE),
        "col2im.default": _each(("F.fold(a, (4, 4), 2, stride=2)", "F.fold(a, (3, 3), 2)"), floats(2, 12, 4)),
        "constant_pad_nd.default": (
            *_each(
                (
                    "F.pad(a, (1, 2))",
                    "F.pad(a, (0, 1, 2, 0), value=1.5)",
                    "F.pad(a, (-1, 1))",
                    "F.pad(a, (0, 0, -1, -1, 1, 0))",
                    "F.pad(a, (0, 0))",
                ),
                floats(2, 3, 4),
                whole(2, 3, 4),
            ),
            call("F.pad(a, (1, 1), value=True)", a=truths(2, 3)),
            call("F.pad(a, (1, 0, 0, 0, 1, 1), value=-math.inf)", a=_IMAGE),
        ),
        "reflection_pad1d.default": _each(("F.pad(a, (2, 1), 'reflect')",), _LINE, floats(3, 9)),
        "reflection_pad2d.default": _each(("F.pad(a, (2, 1, 0, 3), 'reflect')",), _IMAGE, floats(3, 7, 6)),
        "reflection_pad3d.default": _each(("F.pad(a, (2, 1, 0, 3, 1, 1), 'reflect')",), _VIDEO),
        "replication_pad1d.default": _each(("F.pad(a, (2, 1), 'replicate')",), _LINE),
        "replication_pad2d.default": _each(("F.pad(a, (2, 1, 0, 3), 'replicate')",), _IMAGE, floats(3, 7, 6)),
        "replication_pad3d.default": _each(("F.pad(a, (2, 1, 0, 3, 1, 1), 'replicate')",), _VIDEO),
        "pad.default": _each(("F.pad(a, (2, 1), 'circular')",), _LINE)
        + _each(("F.pad(a, (2, 1, 1, 3), 'circular')",), _IMAGE),
        "pixel_shuffle.default": _each(("F.pixel_shuffle(a, 2)",), floats(2, 8, 3, 4)),
        "pixel_unshuffle.default": _each(("F.pixel_unshuffle(a, 2)",), floats(2, 3, 4, 6)),
        "channel_shuffle.default": _each(("F.channel_shuffle(a, 2)",), floats(2, 4, 3, 3)),
        "upsample_nearest1d.vec": _each(("F.interpolate(a, scale_factor=2)", "F.interpolate(a, size=5)"), _LINE),
        "upsample_nearest2d.vec": _each(
            (
                "F.interpolate(a, scale_factor=2)",
                "F.interpolate(a, size=(5, 9))",
                "F.interpolate(a, scale_factor=(1.5, 2.5))",
            ),
            _IMAGE,
        ),
        "upsample_nearest3d.vec": _each(
            ("F.interpolate(a, scale_factor=2)", "F.interpolate(a, size=(5, 9, 3))"), _VIDEO
        ),
        "_upsample_nearest_exact2d.vec": _each(
            (
                "F.interpolate(a, scale_factor=2, mode='nearest-exact')",
                "F.interpolate(a, size=(5, 9), mode='nearest-exact')",
            ),
            _IMAGE,
        ),
        "upsample_linear1d.vec": _each(
            (
                "F.interpolate(a, scale_factor=2, mode='linear')",
                "F.interpolate(a, size=5, mode='linear', align_corners=True)",
            ),
            _LINE,
        ),
        "upsample_bilinear2d.vec": _each(
            (
                "F.interpolate(a, scale_factor=2, mode='bilinear')",
                "F.interpolate(a, size=(5, 9), mode='bilinear')",
                "F.interpolate(a, size=(5, 9), mode='bilinear', align_corners=True)",
                "F.interpolate(a, scale_factor=(1.5, 0.5), mode='bilinear')",
                "F.interpolate(a, scale_factor=1.7, mode='bilinear', recompute_scale_factor=True)",
            ),
            _IMAGE,
        ),
        "_upsample_bilinear2d_aa.vec": _each(
            ("F.interpolate(a, size=(4, 3), mode='bilinear', antialias=True)",), _IMAGE
        ),
        "upsample_bicubic2d.vec": _each(
            (
                "F.interpolate(a, scale_factor=2, mode='bicubic')",
                "F.interpolate(a, size=(5, 9), mode='bicubic', align_corners=True)",
            ),
            _IMAGE,
        ),
        "_upsample_bicubic2d_aa.vec": _each(("F.interpolate(a, size=(4, 3), mode='bicubic', antialias=True)",), _IMAGE),
        "upsample_trilinear3d.vec": _each(
            (
                "F.interpolate(a, scale_factor=2, mode='trilinear')",
                "F.interpolate(a, size=(3, 4, 7), mode='trilinear', align_corners=True)",
            ),
            _VIDEO,
        ),
        "grid_sampler_2d.default": tuple(
            call(
                f"F.grid_sample(a, b, mode='{mode}', padding_mode='{pad}', align_corners={corners})",
                a=_IMAGE,
                b=floats(2, 4, 5, 2, low=-1.3, high=1.3),
            )
            for mode, pad, corners in (
                ("bilinear", "zeros", False),
                ("bilinear", "border", True),
                ("nearest", "zeros", True),
                ("bilinear", "reflection", False),
                ("bicubic", "zeros", False),
            )
        ),
        "affine_grid_generator.default": (
            call("F.affine_grid(a, (2, 3, 4, 5), align_corners=False)", a=floats(2, 2, 3)),
        ),
        "_fft_r2c.default": (
            call("torch.view_as_real(torch.fft.rfft(a))", a=floats(2, 8)),
            call("torch.fft.rfft2(a).abs()", a=floats(2, 4, 6)),
        ),
        "_fft_c2r.default": (call("torch.fft.irfft(torch.fft.rfft(a) * 2, n=8)", a=floats(2, 8)),),
        "view_as_complex.default": (
            call(
                "torch.view_as_real(torch.view_as_complex(a) * torch.view_as_complex(b))",
                a=floats(3, 4, 2),
                b=floats(4, 2),
            ),
        ),
        "polar.default": (call("torch.view_as_real(torch.polar(a, b))", a=floats(3, low=0.1), b=floats(3)),),
        "lstm.input": (
            call(
                "torch.lstm(a, (b, b), [c[:, :3], c[:, 3:], c[:, 0], c[:, 1]], True, 1, 0.0, False, False, True)",
                a=floats(2, 4, 3),
                b=floats(1, 2, 3),
                c=floats(12, 6),
            ),
        ),
        "gru.input": (
            call(
                "torch.gru(a, b, [c[:, :3], c[:, 3:], c[:, 0], c[:, 1]], True, 1, 0.0, False, False, True)",
                a=floats(2, 4, 3),
                b=floats(1, 2, 3),
                c=floats(9, 6),
            ),
        ),
    }.items()
}
"""By operator, its calls."""

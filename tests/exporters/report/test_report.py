"""The page of a report: what stands on it, that it is self-contained, and that regions are drawn right."""

import base64
import io
import math
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from tm_export.exporters.capture.capture import capture
from tm_export.exporters.merging.raise_merges import raise_merges
from tm_export.exporters.record import units
from tm_export.exporters.record.records import ExportReport, MergeSite, ParityRecord, PlacementRecord, StageRecord
from tm_export.exporters.report.charts import token_chart
from tm_export.exporters.report.page import Picture, render, render_pictures
from tm_export.exporters.report.pictures import patch_labels, region_pictures
from tm_export.exporters.report.regions import OUTLINE, draw_regions
from tm_export.models.tinychart.components import build_vision_tower
from tm_export.models.tinychart.config import VisionTowerConfig

HOSTILE = """"><script>alert('x')</script><img src=http://evil.example/a.png>&amp;{{ 7 * 7 }}"""


def site(index: int, before: int, after: int, **changes: object) -> MergeSite:
    values: dict[str, object] = {
        "component": "vit",
        "variant": "merged",
        "source": f"vit.py:{40 + index}: x = merge(x)",
        "kind": "merge",
        "tokens_before": before,
        "tokens_after": after,
        "form": "onehot",
        "reason": f"cheapest at site {index}",
        "costs_ns": {"gather": 412_000.0, "onehot": 215_300.0},
        "macs_saved": 1_000_000 * (index + 1),
        "share_saved": 0.01 * (index + 1),
    }
    return MergeSite.model_validate(values | changes)


def parity(engine: str, *, passed: bool = True, psnr_db: float | None = 118.25) -> ParityRecord:
    return ParityRecord(
        component="vit",
        block="00_all",
        variant="merged",
        inputs="example",
        engine=engine,
        output="logits",
        max_abs_error=4.1e-6,
        relative_error=4.5e-7,
        psnr_db=psnr_db,
        decisions=1152,
        decisions_agreeing=1150,
        decisions_tied=2,
        passed=passed,
        gate="more than 70 dB",
    )


def report(**changes: object) -> ExportReport:
    values: dict[str, object] = {
        "model": "vit_tome.py:build",
        "target": "executorch",
        "options": {"precision": None, "backend": "xnnpack", "seed": 7},
        "merges": tuple(site(i, 197 - 13 * i, 184 - 13 * i) for i in range(12)),
        "parity": (parity("rewrite", psnr_db=None), parity("executorch")),
        "placement": (
            PlacementRecord(
                component="vit",
                block="00_all",
                variant="merged",
                regions=2,
                operators={"linear": 72, "bmm": 24, "topk": 12, "gather": 9},
                outside={"topk": 12, "gather": 7},
            ),
        ),
        "stages": tuple(
            StageRecord(component="vit", variant="merged", stage=stage, seconds=s, peak_rss_bytes=rss << 20)
            for stage, s, rss in [("capture", 2.1, 612), ("emit", 9.4, 1536), ("verify", 3.02, 980)]
        ),
        "total_seconds": 31.2,
        "total_bytes": 88_412_233,
    }
    return ExportReport.model_validate(values | changes)


EMPTY = report(merges=(), parity=(), placement=(), stages=(), options={}, total_bytes=0)


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, and the text that is read."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}))
        if tag not in {"meta", "link", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts))


def test_page_names_every_record() -> None:
    text = Page(render(report())).text
    for merge_site in report().merges:
        assert merge_site.source in text
        assert merge_site.reason in text
        assert f"{merge_site.tokens_before} → {merge_site.tokens_after}" in text
    for expected in (
        "vit_tome.py:build for executorch ✓ passed",
        "Size84.3 MiB",
        "Export time31.2 s",
        "Peak RSS1.5 GiB",
        "Saved by merging78 MMAC",
        "Lowest PSNR118.2 dB",
        "197 tokens in, 41 out, after 12 sites",
        "onehot 215 µsgather 412 µs",
        "∞ (equal)",
        "4.10e-06",
        "1150 of 1152, 2 tied",
        "more than 70 dB",
        "2 regions; 19 of 117 operators outside",
        "linear72",
        "topk12 outside",
        "gather7 outside",
        "gather2",
        "emit vit / merged",
        "9.40 s",
        "980 MiB",
        "backendxnnpack",
        "precisionthe target's default",
        "seed7",
    ):
        assert expected in text, expected


def test_page_lists_failures_first() -> None:
    failed = report(parity=(parity("executorch"), parity("onnxruntime", passed=False, psnr_db=31.0)))
    text = Page(render(failed)).text
    assert "executorch ✗ failed" in text
    assert "1 of 2 comparisons failed" in text
    failure = "onnxruntime, output logits: 31.0 dB; the gate is more than 70 dB"
    assert text.index(failure) < text.index("197 tokens in, 41 out")


def test_page_of_an_empty_report() -> None:
    text = Page(render(EMPTY)).text
    assert "executorch not verified" in text
    assert "No tokens merge in this model." in text
    assert "Nothing was compared." in text


def test_page_is_the_same_for_the_same_report() -> None:
    copy = ExportReport.model_validate_json(report().model_dump_json())
    assert render(copy) == render(report())


def hostile_report() -> ExportReport:
    hostile_site = site(0, 10, 5, component=HOSTILE, source=HOSTILE, kind=HOSTILE, form=HOSTILE, reason=HOSTILE)
    bad = parity(HOSTILE, passed=False).model_copy(update={"output": HOSTILE, "gate": HOSTILE})
    place = PlacementRecord(
        component=HOSTILE,
        block=HOSTILE,
        variant=HOSTILE,
        regions=1,
        operators={HOSTILE: 3},
        outside={HOSTILE: 2},
    )
    stage = StageRecord(component=HOSTILE, variant=HOSTILE, stage=HOSTILE, seconds=1.0, peak_rss_bytes=1)
    return report(
        model=HOSTILE,
        target=HOSTILE,
        options={HOSTILE: HOSTILE, "nested": [HOSTILE]},
        merges=(hostile_site.model_copy(update={"costs_ns": {HOSTILE: 1.0}}),),
        parity=(bad,),
        placement=(place,),
        stages=(stage,),
    )


@pytest.mark.parametrize(
    "page",
    [
        render(hostile_report(), (Picture(HOSTILE, HOSTILE, b"png"),)),
        render_pictures(HOSTILE, HOSTILE, (Picture(HOSTILE, HOSTILE, b"png"),)),
    ],
)
def test_page_shows_hostile_text_as_text(page: str) -> None:
    parsed = Page(page)
    assert not {tag for tag, _ in parsed.elements} & {"script", "iframe", "object", "form", "a"}
    assert HOSTILE in parsed.text
    assert not [name for _, attributes in parsed.elements for name in attributes if name.startswith("on")]


def test_page_asks_for_nothing_else() -> None:
    page = render(hostile_report(), (Picture("a", "b", b"png"),))
    fetching = {"src", "href", "srcset", "action", "data", "poster", "xlink:href", "background"}
    fetched = [value for _, attributes in Page(page).elements for name, value in attributes.items() if name in fetching]
    assert fetched and all(value.startswith("data:") for value in fetched)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert "default-src 'none'" in page


def test_pictures_are_embedded() -> None:
    png = draw_regions(np.zeros((4, 4, 3), np.uint8), np.arange(4).reshape(2, 2), 2)
    for page in (
        render(report(), (Picture("t", "c", png),)),
        render_pictures("title", "lead", (Picture("t", "c", png),)),
    ):
        (source,) = [attributes["src"] for tag, attributes in Page(page).elements if tag == "img"]
        assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == png


def percent(attributes: dict[str, str], name: str) -> float:
    return float(attributes[name].removesuffix("%"))


def test_token_chart_draws_levels_to_scale() -> None:
    sites = [site(0, 200, 150), site(1, 150, 50, kind="prune"), site(2, 50, 200, kind="unmerge")]
    elements = Page(str(token_chart(sites))).elements
    circles = [attributes for tag, attributes in elements if tag == "circle"]
    assert [percent(circle, "cy") for circle in circles] == [25.0, 75.0, 0.0]
    assert [percent(circle, "cx") for circle in circles] == [25.0, 50.0, 75.0]
    assert [circle["class"] for circle in circles] == ["site merge", "site prune", "site unmerge"]
    areas = [attributes for tag, attributes in elements if attributes.get("class") == "area"]
    assert math.isclose(sum(percent(area, "width") for area in areas), 100.0, abs_tol=0.05)


def test_token_chart_marks_a_site_on_another_stream() -> None:
    def jumps(sites: list[MergeSite]) -> int:
        return sum(attributes.get("class") == "jump" for _, attributes in Page(str(token_chart(sites))).elements)

    assert jumps([site(0, 200, 100), site(1, 100, 50)]) == 0
    assert jumps([site(0, 200, 100), site(1, 300, 50)]) == 1


@given(largest=st.integers(1, 10**7), others=st.lists(st.integers(1, 10**7), max_size=4))
@settings(max_examples=40, deadline=None)
def test_token_chart_stays_within_its_frame(largest: int, others: list[int]) -> None:
    levels = [largest, *others, 1]
    sites = [site(i, before, after) for i, (before, after) in enumerate(pairwise(levels))]
    elements = Page(str(token_chart(sites))).elements
    heights = [percent(a, name) for _, a in elements for name in ("cy", "y", "y1", "y2") if name in a]
    assert min(heights) >= 0 and max(heights) <= 100
    assert sum(attributes.get("class") == "grid" for _, attributes in elements) <= 6


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (units.in_bytes(0), "0 B"),
        (units.in_bytes(1023), "1023 B"),
        (units.in_bytes(1024), "1 KiB"),
        (units.in_bytes(1_610_612_736), "1.5 GiB"),
        (units.in_bytes(2**20 - 1), "1 MiB"),
        (units.in_macs(999), "999 MAC"),
        (units.in_macs(60_980_000_000), "61 GMAC"),
        (units.in_macs(-1_500_000), "-1.5 MMAC"),
        (units.in_nanoseconds(41_200.0), "41.2 µs"),
        (units.in_seconds(0.419), "0.42 s"),
        (units.in_seconds(119.96), "120.0 s"),
        (units.in_seconds(125.4), "2 min 5 s"),
    ],
)
def test_units(shown: str, expected: str) -> None:
    assert shown == expected


def opened(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)))


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_draw_regions_agrees_with_brute_force(data: st.DataObject) -> None:
    h, w, patch = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(2, 4)))
    labels = np.array(data.draw(st.lists(st.integers(-3, 4), min_size=h * w, max_size=h * w))).reshape(h, w)
    seed = data.draw(st.integers(0, 2**16))
    image = np.random.default_rng(seed).integers(0, 255, (h * patch + 1, w * patch, 3), dtype=np.uint8)
    drawn = opened(draw_regions(image, labels, patch))

    assert drawn.shape == (h * patch, w * patch, 3)
    cells = {(i, j): labels[i, j] for i in range(h) for j in range(w)}
    for y in range(h * patch):
        for x in range(w * patch):
            here = (y // patch, x // patch)
            members = [cell for cell, label in cells.items() if label == cells[here]]
            before = [(max(y - 1, 0) // patch, here[1]), (here[0], max(x - 1, 0) // patch)]
            outlined = any(
                cells[cell] != cells[here] and (len(members) > 1 or list(cells.values()).count(cells[cell]) > 1)
                for cell in before
            )
            pixels = [image[i * patch : (i + 1) * patch, j * patch : (j + 1) * patch] for i, j in members]
            expected = OUTLINE if outlined else np.rint(np.mean(pixels, axis=(0, 1, 2)))
            assert np.array_equal(drawn[y, x], expected), (y, x)


def test_draw_regions_gives_the_same_bytes_whatever_groups_are_called() -> None:
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    labels = np.array([[0, 1], [0, 2]])
    assert draw_regions(image, labels, 4) == draw_regions(image, 90 - 7 * labels, 4)


def test_draw_regions_refuses_images_that_do_not_fit() -> None:
    labels = np.zeros((2, 2), int)
    with pytest.raises(ValueError, match="2 by 2 patches of 4 pixels need an image of 8 by 8, not 8 by 7"):
        draw_regions(np.zeros((8, 7, 3), np.uint8), labels, 4)
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\], not float32 \[8, 8, 3\]"):
        draw_regions(np.zeros((8, 8, 3), np.float32), labels, 4)


def test_patch_labels_leave_a_class_token_out() -> None:
    square, wide = torch.zeros(3, 15, 14), torch.zeros(1, 8, 12)
    labels, patch = patch_labels(square, torch.arange(10))
    assert labels.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]] and patch == 4
    labels, patch = patch_labels(wide, torch.arange(6))
    assert labels.tolist() == [[0, 1, 2], [3, 4, 5]] and patch == 4
    with pytest.raises(ValueError, match="12 tokens are neither a grid of 15 by 14 pixels"):
        patch_labels(square, torch.arange(12))


def test_region_pictures_show_what_the_tower_merged() -> None:
    config = VisionTowerConfig(hidden_size=32, intermediate_size=32, num_layers=3, num_heads=2, image_size=56, tome_r=2)
    torch.manual_seed(0)
    tower = build_vision_tower(config)
    pixels = torch.rand(2, 3, 56, 56) * 2 - 1
    pictures = region_pictures(raise_merges(capture(tower, (pixels,)), 0), (pixels,))

    assert [picture.title for picture in pictures] == [
        "Image 1: input",
        "Image 1: merged tokens",
        "Image 2: input",
        "Image 2: merged tokens",
    ]
    assert "4 by 4 patches of 14 pixels" in pictures[0].caption
    assert f"16 patches in {tower(pixels).shape[1]} tokens" in pictures[1].caption
    low, high = pixels[0].min(), pixels[0].max()
    expected = ((pixels[0] - low) / (high - low) * 255).permute(1, 2, 0).detach().numpy()
    assert np.abs(opened(pictures[0].png) - expected).max() <= 0.51
    assert (opened(pictures[1].png) == OUTLINE).all(axis=2).any()


@pytest.mark.parametrize("inputs", [(torch.zeros(1, 4),), (torch.zeros(1, 3, 8, 4),)], ids=["vectors", "no merge"])
def test_region_pictures_are_none_without_merged_images(inputs: tuple[torch.Tensor, ...]) -> None:
    assert region_pictures(raise_merges(capture(nn.Linear(4, 4), inputs), 0), inputs) == ()

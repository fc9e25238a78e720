"""`tm-run video`: the files that it writes, what it prints, what it refuses, and what is left when interrupted."""

import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.support.chain_bundles import make_chain
from tests.support.video_bundles import VIDEO, make_video_bundle
from tm_export.runtime.apps.tokenizer_file import read_tokenizer
from tm_export.runtime.apps.videos import generate as generating
from tm_export.runtime.apps.videos.contact_sheet import ContactSheet
from tm_export.runtime.apps.videos.generate import generate
from tm_export.runtime.apps.videos.options import VideoOptions, sampling_of
from tm_export.runtime.apps.videos.tokenize import tokenize
from tm_export.runtime.cli.run import main
from tm_export.runtime.engines.base import Array
from tm_export.runtime.engines.onnx_runtime import OnnxRuntimeEngine
from tm_export.runtime.loading.machinery import Machinery
from tm_export.runtime.manifest import Manifest, read_manifest, write_manifest


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("video") / "bundle"
    make_video_bundle(root)
    return root


def run(*arguments: object) -> int:
    return main(["video", *(str(argument) for argument in arguments)])


def frames_of(path: Path) -> tuple[float, list[Array]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate is not None
        return float(stream.average_rate), [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


def test_the_file_shows_the_frames_that_the_pipeline_makes(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new folder" / "out.mp4"
    how = ["--seed", 5, "--steps", 8, "--guidance", 2, "--merge-steps", 3, "--lpl", 6, "--fps", 12, "--threads", 1]
    assert run(bundle, "--prompt", "a red circle", "-o", out, *how, "--json", "--schedule", "app") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["steps"], answer["evaluations"], answer["merged_evaluations"]) == (8, 6, 3)
    assert answer["text"] == "a red circle" and 0 < answer["leapt_share"] < 1 and answer["loads"] == 6
    assert set(answer["seconds"]) == {"text", "sampling", "windows", "pictures"}

    options = VideoOptions(steps=8, guidance=2, fps=12, merge_steps=3, schedule="app", lpl="6")
    expected: list[Array] = []
    tokens = tokenize("a red circle", read_tokenizer(bundle, VIDEO), VIDEO)
    sampling = sampling_of(options, VIDEO)
    assert sampling.time_shift == VIDEO.app_time_shift
    engine = OnnxRuntimeEngine(threads=1)
    generate(Machinery(bundle, read_manifest(bundle), engine), tokens, sampling, 5, expected.append)
    rate, frames = frames_of(out)
    assert rate == 12 and len(frames) == VIDEO.frames
    for frame, wanted in zip(frames, expected, strict=True):
        assert np.abs(frame.astype(int) - wanted).mean() < 4  # H.264 loses a little

    sheet = np.asarray(Image.open(out.with_suffix(".png")))
    for number, wanted in enumerate(expected):
        left = number * (VIDEO.width + 2)
        assert (sheet[:, left : left + VIDEO.width] == wanted).all()


def test_the_summary_names_the_leap_and_what_was_not_understood(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(bundle, "--prompt", "a red dog moves left left left", "-o", tmp_path / "v.mp4", "--lpl", 4) == 0
    captured = capsys.readouterr()
    assert "the model does not know 'dog'" in captured.err and "its last 2 tokens are left out, 5 fit" in captured.err
    assert "4 network evaluations for 10 steps, 0 of them merged" in captured.out
    assert "leap: 60% of the evaluations saved" in captured.out and "v.mp4" in captured.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", ""], "the prompt is empty"),
        (["--prompt", "a\x07b"], "U+0007 at position 1"),
        (["--prompt", "漢字"], "write it in English"),
        (["--prompt", "a", "--steps", 0], "--steps 0 is out of range: give 1 to 1000"),
        (["--prompt", "a", "--guidance", -1], "--guidance -1 is out of range: give 0 to 100"),
        (["--prompt", "a", "--guidance", "nan"], "--guidance nan is out of range"),
        (["--prompt", "a", "--fps", 0], "--fps 0 is out of range: give 1 to 240"),
        (["--prompt", "a", "--merge-steps", 11], "--merge-steps 11 is out of range: give 0 to 10"),
        (["--prompt", "a", "--lpl", 11], "give 1 to 10"),
        (["--prompt", "a", "--lpl", "sometimes"], "'sometimes' is no rule: give off, dynamic, or a number"),
        (["--prompt", "a", "--lpl", "dynamic", "--lpl-first-step", 10], "give 1 to 9"),
        (["--prompt", "a", "--lpl", "dynamic", "--lpl-plane", "0,4"], "a latent frame of 0 to 3"),
        (["--prompt", "a", "--lpl", "dynamic", "--lpl-plane", "zero"], "give a channel and a latent frame"),
        (["--prompt", "a", "--lpl-patience", 3], "--lpl-patience is for --lpl dynamic, and this is --lpl off"),
        (["--prompt", "a", "--lpl", "dynamic", "--lpl-patience", 0], "give at least 1"),
        (["--prompt", "a", "--lpl", "dynamic", "--lpl-tolerance", 2], "give 0 or more, below 1"),
        (["--prompt", "a", "--lpl", 5, "--lpl-first-step", 3], "--lpl-first-step is for --lpl dynamic"),
        (["--prompt", "a", "-o", "out.avi"], "end it in .mp4"),
        (["--prompt", "a", "--component", "denoiser"], "No such option: --component"),
        (["--lpl", "dynamic"], "Missing option '--prompt'"),
    ],
)
def test_bad_input_is_named_with_what_is_allowed(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[object], message: str
) -> None:
    out = [] if "-o" in arguments else ["-o", tmp_path / "out.mp4"]
    out = out if "--prompt" in arguments else []
    assert run(bundle, *arguments, *out) == 2
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_makes_no_video_or_lacks_a_variant_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = make_chain(tmp_path / "chain")
    assert run(chain.path, "--prompt", "a", "-o", tmp_path / "v.mp4") == 2
    assert "makes no video from a prompt" in capsys.readouterr().err

    root = tmp_path / "bundle"
    manifest = make_video_bundle(root)
    write_manifest(root, without_merged(manifest))
    assert run(root, "--prompt", "a", "-o", tmp_path / "v.mp4") == 0
    assert run(root, "--prompt", "a", "-o", tmp_path / "v.mp4", "--merge-steps", 1) == 2
    assert "merged" in capsys.readouterr().err


def without_merged(manifest: Manifest) -> Manifest:
    def full_alone(component: object) -> object:
        values = component.model_dump(mode="json")  # type: ignore[attr-defined]
        values["variants"] = [each for each in values["variants"] if each["name"] == "full"]
        for block in values["blocks"]:
            block["variants"] = [each for each in block["variants"] if each["name"] == "full"]
        return values

    values = manifest.model_dump(mode="json")
    values["components"] = [full_alone(each) for each in manifest.components]
    return Manifest.model_validate(values)


def test_a_budget_below_what_blocks_need_is_told_before_anything_is_made(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(bundle, "--prompt", "a", "-o", tmp_path / "v.mp4", "--memory-budget", "1MB") == 5
    assert "too small" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("after", "kept"), [(3, 3), (0, 0)])
def test_what_was_decoded_is_kept_when_the_user_interrupts(
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    after: int,
    kept: int,
) -> None:
    monkeypatch.setattr(generating, "decode_pictures", interrupted_after(after))
    out = tmp_path / "v.mp4"
    assert run(bundle, "--prompt", "a red circle", "-o", out) == 130
    message = capsys.readouterr().err
    if kept:
        assert f"the first {kept} of {VIDEO.frames} frames are in {out}" in message
        assert len(frames_of(out)[1]) == kept and out.with_suffix(".png").is_file()
    else:
        assert "nothing is kept" in message and list(tmp_path.iterdir()) == []


def interrupted_after(count: int) -> Callable[..., object]:
    def pictures(*arguments: object) -> object:
        for number, picture in enumerate(DECODE(*arguments)):  # type: ignore[arg-type]
            if number == count:
                raise KeyboardInterrupt
            yield picture

    return pictures


DECODE = generating.decode_pictures


def test_a_contact_sheet_has_rows_of_six(tmp_path: Path) -> None:
    sheet = ContactSheet(100)
    for number in range(100):
        sheet.show(np.full((2, 2, 3), number, np.uint8))
    sheet.save(tmp_path / "s.png")
    picture = np.asarray(Image.open(tmp_path / "s.png"))
    assert picture.shape == (2 * 2 + 2, 6 * 2 + 5 * 2, 3)
    assert picture[0, 0, 0] == 0 and picture[-1, -1, 0] == 99

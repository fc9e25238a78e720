"""The bundle contract: what is accepted, what is refused, and that equal manifests are equal bytes."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tm_export.runtime.apps.charts.contract import ChartQa
from tm_export.runtime.apps.contract import HostContract, contract_in
from tm_export.runtime.apps.videos.contract import TextToVideo
from tm_export.runtime.manifest import (
    BundleError,
    FileEntry,
    Manifest,
    file_sha256,
    manifest_json,
    manifest_schema,
    read_manifest,
    verify_files,
    write_manifest,
)

ROOT = Path(__file__).resolve().parents[3]


def manifest_value(root: Path) -> dict[str, Any]:
    """A valid manifest over real files: one block, two variants, a directory artifact."""
    contents = {
        "net/00_a.mlpackage/Manifest.json": b"{}",
        "net/00_a.mlpackage/Data/weight.bin": bytes(range(256)),
        "golden/in.safetensors": b"in",
        "golden/out.safetensors": b"out",
    }
    for path, content in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    spec = {"name": "x", "dtype": "float16", "shape": [1, 4]}
    function = {"artifact": "net/00_a.mlpackage", "inputs": [spec], "outputs": [spec], "activation_bytes": 16}
    variants = [function | {"name": n, "function": n} for n in ("full", "merged")]
    files = ["net/00_a.mlpackage/Manifest.json", "net/00_a.mlpackage/Data/weight.bin"]
    block = {"name": "a", "variants": variants, "weight_bytes": 256, "files": files}
    calls = [{"block": "a", "reads": ["x"], "writes": ["y"]}]
    ways = [
        {"name": n, "inputs": [spec], "outputs": [spec | {"name": "y"}], "calls": calls} for n in ("full", "merged")
    ]
    golden = {
        "component": "net",
        "variant": "full",
        "inputs": "golden/in.safetensors",
        "outputs": "golden/out.safetensors",
    }
    return {
        "schema_version": 5,
        "model": "tiny",
        "target": "coreml",
        "weights": "seeded",
        "tool_versions": {"torch": "2.13.0", "coremltools": "9.0"},
        "components": [{"name": "net", "blocks": [block], "variants": ways}],
        "files": [
            {"path": path, "bytes": len(content), "sha256": file_sha256(root / path)}
            for path, content in contents.items()
        ],
        "golden": [golden],
        "load_schedule": [{"component": "net", "block": "a"}],
        "host_program": [{"component": "net", "variant": "merged"}],
    }


def write(root: Path, value: Any) -> Path:
    content = value if isinstance(value, str) else json.dumps(value)
    (root / "manifest.json").write_text(content)
    (root / "manifest.sha256").write_text(f"{hashlib.sha256(content.encode()).hexdigest()}  manifest.json\n")
    return root


def test_a_bundle_reads_back_as_written(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path, manifest_value(tmp_path)))
    verify_files(tmp_path, manifest)
    assert manifest.variant("net", "a", "merged").inputs[0].shape == (1, 4)
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    verify_files(tmp_path, manifest)


def test_equal_manifests_are_equal_bytes(tmp_path: Path) -> None:
    value = manifest_value(tmp_path)
    turned = dict(reversed(value.items())) | {"tool_versions": dict(reversed(value["tool_versions"].items()))}
    assert list(turned) != list(value)
    assert manifest_json(Manifest.model_validate(value)) == manifest_json(Manifest.model_validate(turned))


def test_the_committed_schema_is_the_one_of_the_code() -> None:
    committed = (ROOT / "runtime" / "manifest" / "manifest.schema.json").read_bytes()
    assert committed == manifest_schema(), "write manifest_schema() to runtime/manifest/manifest.schema.json"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "schema version None, this tool reads 5"),
        ('{"schema_version": 1}', "schema version 1, this tool reads 5"),
        ('{"schema_version": true}', "schema version True"),
        ('{"schema_version": 5}', "model: Field required"),
        ('{"schema_version": 5, "schema_version": 2}', "given twice: 'schema_version'"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        read_manifest(write(tmp_path, text))
    assert str(tmp_path / "manifest.json") in str(caught.value)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no bundle, or its export was interrupted"):
        read_manifest(tmp_path)


def refused(tmp_path: Path, value: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        read_manifest(write(tmp_path, value))


def test_duplicates_are_refused(tmp_path: Path) -> None:
    for key, path in (
        ("file", ("files",)),
        ("component", ("components",)),
        ("block of component 'net'", ("components", 0, "blocks")),
        ("variant of block 'a'", ("components", 0, "blocks", 0, "variants")),
        ("input of variant 'full'", ("components", 0, "blocks", 0, "variants", 0, "inputs")),
        ("load schedule entry", ("load_schedule",)),
    ):
        value = manifest_value(tmp_path)
        entries: Any = value
        for step in path:
            entries = entries[step]
        entries.append(entries[0])
        refused(tmp_path, value, f"{key} given twice")


def test_dangling_names_are_refused(tmp_path: Path) -> None:
    for key, change, message in (
        ("load_schedule", {"component": "net", "block": "b"}, "'b'; there are: a"),
        (
            "host_program",
            {"component": "net", "variant": "half"},
            "'half'; there are: full, merged",
        ),
    ):
        refused(tmp_path, manifest_value(tmp_path) | {key: [change]}, message)
    value = manifest_value(tmp_path)
    value["components"][0]["blocks"][0]["variants"][0]["artifact"] = "net/01_a.mlpackage"
    refused(tmp_path, value, "artifact 'net/01_a.mlpackage' of block 'a' is not among the files")
    value = manifest_value(tmp_path)
    value["files"] = value["files"][1:]
    refused(tmp_path, value, "file 'net/00_a.mlpackage/Manifest.json' of block 'a' is not among the files")
    value = manifest_value(tmp_path)
    del value["files"][3]
    refused(tmp_path, value, "golden file 'golden/out.safetensors' is not among the files")


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        (("calls",), [{"block": "b", "reads": ["x"], "writes": ["y"]}], "no block of component 'net' is called 'b'"),
        (("calls", 0, "reads"), ["z"], "block 'a' reads value 'z' before anything writes it"),
        (("calls", 0, "reads"), [], "with 0 inputs and 1 outputs, it has 1 and 1"),
        (("calls", 0, "writes"), ["x"], "value 'x' is written twice"),
        (("inputs", 0, "shape"), [1, 5], r"reads 'x' as float16\[1, 4\], it is float16\[1, 5\]"),
        (("inputs", 0, "dtype"), "float32", r"reads 'x' as float16\[1, 4\], it is float32\[1, 4\]"),
        (("outputs", 0, "shape"), [4], r"returns 'y' as float16\[4\], it is float16\[1, 4\]"),
        (("outputs", 0, "name"), "w", "returns value 'w' before anything writes it"),
    ],
)
def test_calls_that_do_not_fit_their_blocks_are_refused(
    place: tuple[Any, ...], change: Any, message: str, tmp_path: Path
) -> None:
    value = json.loads(json.dumps(manifest_value(tmp_path)))  # no part of it in two places
    entry: Any = value["components"][0]["variants"][0]
    for step in place[:-1]:
        entry = entry[step]
    entry[place[-1]] = change
    refused(tmp_path, value, message)


def test_unknown_fields_and_values_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, manifest_value(tmp_path) | {"extra": 1}, "extra")
    refused(tmp_path, manifest_value(tmp_path) | {"target": ""}, "target")
    refused(tmp_path, manifest_value(tmp_path) | {"weights": "made up"}, "weights")


VIDEO: dict[str, Any] = {
    "kind": "video",
    "version": 1,
    "files": {"tokenizer": "golden/in.safetensors"},
    "text_tokens": 300,
    "prompt_suffix": " aesthetic score: 6.5.",
    "cleaning": "open-sora",
    "latent_shape": [1, 4, 20, 32, 32],
    "frames": 68,
    "height": 256,
    "width": 256,
    "window": 5,
    "window_frames": 17,
    "batch_frames": 4,
    "fps": 24,
    "steps": 30,
    "guidance": 7,
    "time_shift": 2.2361,
    "app_time_shift": 1.9365,
}


def test_how_a_video_is_made_reads_back_with_its_counts(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path, manifest_value(tmp_path) | {"host": VIDEO}))
    made = contract_in(manifest, TextToVideo, "no video")
    assert made.model_dump(mode="json") == VIDEO and made.as_host() == manifest.host
    assert (made.windows, made.batches) == (4, 17)  # those of 68 frames in the published app
    with pytest.raises(BundleError, match="no video"):
        contract_in(read_manifest(write(tmp_path, manifest_value(tmp_path))), TextToVideo, "no video")


def test_a_kind_of_host_that_is_not_known_is_kept_as_it_is(tmp_path: Path) -> None:
    host = {"kind": "a game", "version": 3, "files": {}, "levels": [1, 2]}
    manifest = read_manifest(write(tmp_path, manifest_value(tmp_path) | {"host": host}))
    assert manifest.host is not None and manifest.host.model_dump(mode="json") == host
    refused(tmp_path, manifest_value(tmp_path) | {"host": host | {"files": {"map": "no/map"}}}, "map 'no/map' is not")
    refused(tmp_path, manifest_value(tmp_path) | {"host": {"kind": "a game"}}, "version")


@pytest.mark.parametrize("contract", [TextToVideo, ChartQa])
def test_the_committed_schema_of_a_host_is_that_of_its_contract(contract: type[HostContract]) -> None:
    folder = Path(sys.modules[contract.__module__].__file__ or "").parent
    assert json.loads((folder / "contract.schema.json").read_text()) == contract.model_json_schema(mode="serialization")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": {"tokenizer": "host/tokenizer.json"}}, "tokenizer 'host/tokenizer.json' is not among the files"),
        ({"files": {}}, "host"),
        ({"version": 2}, "version"),
        ({"window": 6}, "20 latent frames are not whole windows of 6"),
        ({"frames": 69}, "4 windows of 17 frames are fewer than the video's 69"),
        ({"latent_shape": [2, 4, 20, 32, 32]}, "latent_shape"),
        ({"guidance": -1}, "guidance"),
        ({"time_shift": 0}, "time_shift"),
        ({"cleaning": "lower"}, "cleaning"),
        ({"text_tokens": 1}, "text_tokens"),
    ],
)
def test_how_a_video_is_made_must_be_consistent(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    refused(tmp_path, manifest_value(tmp_path) | {"host": VIDEO | change}, message)


@given(
    st.lists(st.sampled_from(["..", ".", "", "a", "b.bin", "c\\d", "C:", "nul\0"]), min_size=1, max_size=4).map(
        "/".join
    )
)
def test_only_paths_inside_the_bundle_are_accepted(path: str) -> None:
    entry = {"path": path, "bytes": 0, "sha256": "0" * 64}
    parts = path.split("/")
    if all(part in ("a", "b.bin") for part in parts):
        assert FileEntry.model_validate(entry).path == path
    else:
        with pytest.raises(ValueError, match="path"):
            FileEntry.model_validate(entry)


def test_changed_files_are_found(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path, manifest_value(tmp_path)))
    weights = tmp_path / "net/00_a.mlpackage/Data/weight.bin"
    original = weights.read_bytes()
    weights.write_bytes(original[:-1] + b"\x00")
    with pytest.raises(BundleError, match=r"weight.bin has SHA-256 .*export again"):
        verify_files(tmp_path, manifest)
    weights.write_bytes(original[:-1])
    with pytest.raises(BundleError, match=r"weight.bin has 255 bytes, the manifest says 256"):
        verify_files(tmp_path, manifest)
    weights.unlink()
    with pytest.raises(BundleError, match=r"weight.bin is missing"):
        verify_files(tmp_path, manifest)


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sha256"])
@given(data=st.data())
def test_a_manifest_with_any_bit_flipped_is_found(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    bundle = tmp_path_factory.mktemp("bundle")
    manifest = read_manifest(write(bundle, manifest_value(bundle)))
    content = bytearray((bundle / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (bundle / name).write_bytes(content)
    # What was read stays, as if the damage came afterwards: whether it can still be read is another test's matter.
    with pytest.raises(BundleError, match=r"manifest\.json and manifest\.sha256 disagree"):
        verify_files(bundle, manifest)


def test_a_change_that_leaves_the_manifest_valid_is_found(tmp_path: Path) -> None:
    write(tmp_path, manifest_value(tmp_path))
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"activation_bytes": 16', '"activation_bytes": 17'))
    with pytest.raises(BundleError, match="copy both again"):
        verify_files(tmp_path, read_manifest(tmp_path))
    (tmp_path / "manifest.sha256").unlink()
    with pytest.raises(BundleError, match=r"manifest.sha256 cannot be read \(No such file"):
        verify_files(tmp_path, read_manifest(tmp_path))


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="the tool is of GNU coreutils")
def test_sha256sum_checks_the_manifest(tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest.model_validate(manifest_value(tmp_path)))
    subprocess.run(["sha256sum", "--check", "--strict", "manifest.sha256"], cwd=tmp_path, check=True)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path, manifest_value(tmp_path)))
    golden = tmp_path / "golden/in.safetensors"
    golden.unlink()
    golden.symlink_to(golden)
    with pytest.raises(BundleError, match=r"golden/in.safetensors cannot be read"):
        verify_files(tmp_path, manifest)


def test_a_link_out_of_the_bundle_is_refused(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    manifest = read_manifest(write(bundle, manifest_value(bundle)))
    golden = bundle / "golden/in.safetensors"
    outside = tmp_path / "outside"
    golden.rename(outside)
    golden.symlink_to(outside)
    with pytest.raises(BundleError, match="leads outside the bundle"):
        verify_files(bundle, manifest)

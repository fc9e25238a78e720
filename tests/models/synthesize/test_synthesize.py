import errno
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from tm_export.models.checkpoints.tensor_source import StoredSpec, TensorSource, stored_bytes
from tm_export.models.checkpoints.writer import plan_shards
from tm_export.models.ondevice_sora.components import (
    denoiser_component,
    text_encoder_component,
    vae_spatial_component,
    vae_temporal_component,
)
from tm_export.models.ondevice_sora.tiny.sizes import DENOISER, SPATIAL_VAE, TEMPORAL_VAE, TEXT_ENCODER
from tm_export.models.spec.registry import ModelSpec, find_model
from tm_export.models.synthesize.values import PIECE, SyntheticValues
from tm_export.models.synthesize.write import CannotSynthesize, main, published_tensors, synthesize, synthetic_texts

SMALL = ModelSpec(
    name="small",
    description="On-device Sora's networks, tiny, with checkpoints as the published ones have",
    components=(
        text_encoder_component(TEXT_ENCODER),
        denoiser_component(DENOISER),
        vae_temporal_component(TEMPORAL_VAE),
        vae_spatial_component(SPATIAL_VAE),
    ),
)
SHARD = 200_000


def write(out: Path, model: ModelSpec = SMALL, dtype: torch.dtype | None = None, seed: int = 0) -> Path:
    synthesize(published_tensors(model, dtype), out, seed, lambda line: None, max_shard_bytes=SHARD)
    return out


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor, read with safetensors' own reader."""
    found = {}
    for path in sorted(folder.rglob("*.safetensors")):
        found.update(load_file(path))
    return found


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("synthetic") / "small")


@pytest.mark.parametrize("component", SMALL.components, ids=lambda component: component.name)
def test_each_component_loads_its_part_and_stays_in_range(component, checkpoint):
    written = tensors(checkpoint)
    for build in component.variants.values():
        with torch.device("meta"):
            module = build()
        component.load_weights(module, checkpoint)
        for key, tensor in module.state_dict().items():
            assert torch.equal(tensor, written[key])
        with torch.no_grad():
            output = module(*component.example_inputs(0))
        assert 0.01 < output.std() < 100


def test_large_folders_are_in_shards_with_an_index(checkpoint):
    folder = checkpoint / "text_encoder"
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    assert shards[0] == f"model-00001-of-{len(shards):05}.safetensors"
    assert len(shards) > 1
    for name in shards:
        keys = [key for key, shard in index["weight_map"].items() if shard == name]
        held = load_file(folder / name)
        assert set(held) == set(keys)
        assert len(keys) == 1 or sum(tensor.nbytes for tensor in held.values()) <= SHARD
    total = sum(tensor.nbytes for name in shards for tensor in load_file(folder / name).values())
    assert index["metadata"]["total_size"] == total


def test_small_folders_are_one_file(tmp_path):
    model = replace(SMALL, components=SMALL.components[2:])
    synthesize(published_tensors(model, None), tmp_path / "out", 0, lambda line: None)
    assert list(content(tmp_path / "out")) == ["vae/model.safetensors"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_all_tensors_have_the_dtype_asked_for(dtype, tmp_path):
    assert {tensor.dtype for tensor in tensors(write(tmp_path / "out", dtype=dtype)).values()} == {dtype}


def test_the_published_dtype_is_the_default():
    assert {spec.dtype for spec in published_tensors(SMALL, None)["vae"].values()} == {torch.float32}
    tinychart = published_tensors(find_model("tinychart-3b"), None)
    assert {spec.dtype for spec in tinychart["vision_tower"].values()} == {torch.float16}
    assert {spec.dtype for spec in tinychart["llm"].values()} == {torch.float32}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(checkpoint, tmp_path):
    assert content(write(tmp_path / "again")) == content(checkpoint)
    other = tensors(write(tmp_path / "other", seed=1))
    for key, tensor in tensors(checkpoint).items():
        assert not torch.equal(tensor, other[key])


def test_values_depend_on_the_key_and_not_on_what_else_is_written(checkpoint, tmp_path):
    alone = tensors(write(tmp_path / "alone", replace(SMALL, components=SMALL.components[1:2])))
    written = tensors(checkpoint)
    assert alone
    for key, tensor in alone.items():
        assert torch.equal(tensor, written[key])


def test_no_two_tensors_are_equal(checkpoint):
    counts = Counter(tensor.numpy().tobytes() for tensor in tensors(checkpoint).values())
    assert max(counts.values()) == 1


@pytest.fixture(scope="module")
def values() -> SyntheticValues:
    return SyntheticValues(3)


def whole(values: SyntheticValues, key: str, spec: StoredSpec) -> torch.Tensor:
    return torch.cat(list(values.pieces(key, spec))).view(spec.shape)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_large_tensor_is_normal_and_no_rows_are_equal(values, dtype):
    weight = whole(values, "block.weight", StoredSpec((3000, 1000), dtype)).float()
    assert weight.mean().abs() < 1e-4
    assert abs(weight.std() * 1000**0.5 - 1) < 0.01
    assert abs((weight.abs() * 1000**0.5 < 1).float().mean() - 0.6827) < 0.002
    assert len({row.numpy().tobytes() for row in weight}) == 3000
    assert whole(values, "other.weight", StoredSpec((3000, 1000), dtype)).float().sub(weight).std() > 1e-2


@pytest.mark.parametrize(
    ("key", "shape", "mean", "std"),
    [
        ("norm1.weight", (50_000,), 1, 0.1),
        ("fc1.bias", (50_000,), 0, 0.02),
        ("scale", (1, 50_000, 1, 1, 1), 1, 0.1),
        ("shift", (1, 50_000, 1, 1, 1), 0, 0.02),
        ("conv.weight", (100, 20, 3, 3, 3), 0, 540**-0.5),
    ],
)
def test_values_suit_what_the_key_names(values, key, shape, mean, std):
    tensor = whole(values, key, StoredSpec(shape, torch.float32))
    assert abs(tensor.mean() - mean) < std / 30
    assert abs(tensor.std() / std - 1) < 0.03


@given(st.integers(1, 5 * PIECE // 2), st.sampled_from([torch.float16, torch.float32, torch.int64]))
def test_pieces_are_bounded_and_make_the_whole_tensor(values, count, dtype):
    pieces = list(values.pieces("x.weight", StoredSpec((count,), dtype)))
    assert sum(piece.numel() for piece in pieces) == count
    assert all(piece.numel() <= PIECE and piece.dtype == dtype for piece in pieces)


@given(st.lists(st.integers(0, 50), min_size=1), st.integers(1, 100))
def test_shards_hold_every_key_in_order_within_the_bound(sizes, bound):
    specs = {str(number): StoredSpec((size,), torch.int8) for number, size in enumerate(sizes)}
    shards = plan_shards(specs, bound)
    assert [key for shard in shards for key in shard] == list(specs)
    totals = [sum(stored_bytes(specs[key]) for key in shard) for shard in shards]
    assert all(total <= bound or len(shard) == 1 for shard, total in zip(shards, totals, strict=True))
    following = [stored_bytes(specs[shard[0]]) for shard in shards[1:]]
    assert all(total + size > bound for total, size in zip(totals, following, strict=False))


def test_the_published_sizes_have_the_published_numbers_of_parameters():
    folders = published_tensors(find_model("ondevice-sora"), None)
    counts = {
        folder: sum(torch.Size(spec.shape).numel() for spec in specs.values()) for folder, specs in folders.items()
    }
    assert counts["denoiser"] == 1_208_872_772
    assert round(counts["text_encoder"] / 1e9, 3) == 4.762
    assert round(counts["vae"] / 1e6, 1) == 214.8  # 165.3 temporal and 49.5 spatial


def test_the_size_of_the_video_changes_no_tensor():
    assert published_tensors(find_model("ondevice-sora"), None) == published_tensors(
        find_model("ondevice-sora-144p"), None
    )


def assert_refused(out: Path, *words: str) -> None:
    with pytest.raises(CannotSynthesize) as caught:
        write(out)
    for word in words:
        assert word in str(caught.value)


def test_a_folder_that_holds_something_is_refused_and_kept(tmp_path):
    (tmp_path / "precious").write_text("data")
    assert_refused(tmp_path, str(tmp_path), "not an empty folder")
    assert_refused(tmp_path / "precious", "precious", "not an empty folder")
    assert content(tmp_path) == {"precious": b"data"}


def test_an_empty_folder_and_what_a_killed_run_left_are_replaced(checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "half").write_text("half")
    assert content(write(tmp_path / "out")) == content(checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert_refused(tmp_path / "out", "1,000 bytes free", "--dtype")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_run_that_stops_half_way_leaves_nothing(failure, tmp_path, monkeypatch):
    pieces = SyntheticValues.pieces

    def stop_at_the_denoiser(self, key, spec):
        if key == "spatial_blocks.2.mlp.fc1.weight":
            assert any(tmp_path.rglob("*.safetensors"))
            raise failure
        return pieces(self, key, spec)

    monkeypatch.setattr(SyntheticValues, "pieces", stop_at_the_denoiser)
    with pytest.raises(KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else CannotSynthesize) as caught:
        write(tmp_path / "out")
    assert isinstance(failure, KeyboardInterrupt) or "is full" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_model_with_weights_of_its_own_is_refused(capsys, tmp_path):
    assert main(["ondevice-sora-tiny", "--out", str(tmp_path / "out")]) == 2
    assert "choose one that has: ondevice-sora, ondevice-sora-144p, tinychart-3b" in capsys.readouterr().err


def test_an_unknown_model_is_refused(capsys, tmp_path):
    assert main(["ondevice-sra", "--out", str(tmp_path / "out")]) == 2
    assert "did you mean 'ondevice-sora'" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["ondevice-sora"], ["ondevice-sora", "--out", "x", "--dtype", "int3"]])
def test_a_mistaken_command_line_exits_with_two(argv):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "synthesize ondevice-sora --out sora --dtype float16" in " ".join(capsys.readouterr().out.split())


def test_progress_tells_each_file_and_ends_at_the_whole(tmp_path):
    lines: list[str] = []
    folders = published_tensors(SMALL, None)
    synthesize(folders, tmp_path / "out", 0, lines.append, max_shard_bytes=SHARD)
    files = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.safetensors"))
    assert sorted(line.split(":")[0] for line in lines) == files
    assert lines[-1].endswith("0 s left")


def test_a_checkpoint_without_a_components_folder_is_refused(checkpoint, tmp_path):
    partial = tmp_path / "partial"
    shutil.copytree(checkpoint / "vae", partial / "vae")
    encoder = SMALL.components[0]
    with pytest.raises(ValueError, match=r"no folder 'text_encoder'.*DeepFloyd"):
        encoder.load_weights(encoder.variants["full"](), partial)
    spatial = SMALL.components[3]
    assert set(spatial.weights_in(partial, spatial.variants["full"]()).keys()) < set(
        TensorSource.open(partial / "vae").keys()
    )


def test_a_model_that_takes_prompts_gets_a_made_up_tokenizer(tmp_path):
    texts = synthetic_texts(find_model("ondevice-sora"))
    assert list(texts) == ["text_encoder/tokenizer.json"]
    assert list(synthetic_texts(find_model("tinychart-3b"))) == ["llm/tokenizer.json"]
    assert synthetic_texts(SMALL) == {}
    folders = published_tensors(SMALL, None)
    synthesize(folders, tmp_path / "out", 0, lambda line: None, texts=texts)
    video = find_model("ondevice-sora").text_to_video
    assert video.tokenizer(tmp_path / "out") == texts["text_encoder/tokenizer.json"]

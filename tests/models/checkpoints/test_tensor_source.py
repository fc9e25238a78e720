import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tm_export.models.checkpoints.checkpoint import load_weights, open_weights
from tm_export.models.checkpoints.errors import (
    CheckpointNotFound,
    CodeInCheckpoint,
    MissingKeys,
    NotFinite,
    UnreadableCheckpoint,
    WrongTensor,
)
from tm_export.models.checkpoints.tensor_source import StoredSpec, TensorSource
from tm_export.models.spec.registry import find_model

TENSORS = {
    "a.weight": torch.arange(6, dtype=torch.float32).view(2, 3),
    "a.count": torch.tensor(7),
    "b.weight": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "b.mask": torch.tensor([True, False]),
    "c.weight": torch.zeros(0, 4, dtype=torch.float16),
}


def write_shards(folder: Path, form: str) -> None:
    names = {key: f"{form}-{number % 2}" for number, key in enumerate(TENSORS)}
    for name in set(names.values()):
        shard = {key: TENSORS[key] for key in TENSORS if names[key] == name}
        save_file(shard, folder / name) if form.endswith("safetensors") else torch.save(shard, folder / name)
    (folder / f"{form}.index.json").write_text(json.dumps({"weight_map": names}))


def write(form: str, folder: Path) -> Path:
    match form:
        case "file":
            save_file(TENSORS, folder / "weights.safetensors")
            return folder / "weights.safetensors"
        case "torch file":
            torch.save(TENSORS, folder / "weights.pt")
            return folder / "weights.pt"
        case "old torch file":
            torch.save(TENSORS, folder / "weights.pt", _use_new_zipfile_serialization=False)
            return folder / "weights.pt"
        case "folder":
            save_file(TENSORS, folder / "model.safetensors")
        case "torch folder":
            torch.save(TENSORS, folder / "pytorch_model.bin")
        case "torch shards":
            write_shards(folder, "pytorch_model.bin")
        case _:
            for number in (0, 1):
                keys = list(TENSORS)[number::2]
                save_file({key: TENSORS[key] for key in keys}, folder / f"model-{number}.safetensors")
            names = {key: f"model-{number % 2}.safetensors" for number, key in enumerate(TENSORS)}
            (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return folder


@pytest.mark.parametrize(
    "form", ["file", "torch file", "old torch file", "folder", "torch folder", "shards", "torch shards"]
)
def test_each_form_gives_keys_specs_and_tensors(form, tmp_path):
    source = TensorSource.open(write(form, tmp_path))
    assert set(source.keys()) == set(TENSORS)
    for key, tensor in TENSORS.items():
        assert source.spec(key) == StoredSpec(tuple(tensor.shape), tensor.dtype)
        assert torch.equal(source.read(key), tensor)


def sparse_safetensors(path: Path, tensors: dict[str, list[int]]) -> None:
    """A file of zeros that takes no room on the disk."""
    entries, end = {}, 0
    for key, shape in tensors.items():
        begin, end = end, end + 4 * torch.Size(shape).numel()
        entries[key] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + end)


def test_a_checkpoint_larger_than_memory_opens_and_gives_a_small_tensor(tmp_path):
    path = tmp_path / "huge.safetensors"
    sparse_safetensors(path, {"huge": [2**20, 2**17], "small": [3]})
    source = TensorSource.open(path)
    assert source.spec("huge").shape == (2**20, 2**17)
    assert source.read("small").tolist() == [0, 0, 0]


def test_a_tensor_at_an_odd_place_is_read(tmp_path):
    entries = {
        "first": {"dtype": "I8", "shape": [3], "data_offsets": [0, 3]},
        "second": {"dtype": "F32", "shape": [2], "data_offsets": [3, 11]},
    }
    header, second = json.dumps(entries).encode(), torch.tensor([1.5, -3.25])
    data = bytes([1, 2, 255]) + second.numpy().tobytes()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
    source = TensorSource.open(tmp_path / "w.safetensors")
    assert source.read("first").tolist() == [1, 2, -1]
    assert torch.equal(source.read("second"), second)
    assert source.read("second").data_ptr() % 4 == 0


def is_mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def test_a_tensor_is_mapped_and_gives_its_memory_back(tmp_path):
    path = tmp_path / "weights.safetensors"
    sparse_safetensors(path, {"large": [2**24]})
    source = TensorSource.open(path)
    assert not is_mapped(path)
    tensor = source.read("large")
    assert is_mapped(path)
    assert tensor.sum() == 0
    del tensor
    assert not is_mapped(path)


def refused(path: Path, error: type[ValueError]) -> str:
    with pytest.raises(error) as caught:
        TensorSource.open(path)
    return str(caught.value)


@pytest.mark.parametrize("form", ["shards", "torch shards"])
def test_a_missing_shard_is_named(form, tmp_path):
    write(form, tmp_path)
    shard = sorted(path for path in tmp_path.iterdir() if "index" not in path.name)[0]
    shard.unlink()
    assert shard.name in refused(tmp_path, CheckpointNotFound)


@pytest.mark.parametrize("form", ["shards", "torch shards"])
def test_a_truncated_shard_is_named_before_anything_is_read(form, tmp_path):
    write(form, tmp_path)
    shard = sorted(path for path in tmp_path.iterdir() if "index" not in path.name)[1]
    shard.write_bytes(shard.read_bytes()[:-1])
    message = refused(tmp_path, UnreadableCheckpoint)
    assert shard.name in message
    assert "truncated" in message


def test_a_shard_without_a_listed_key_is_refused(tmp_path):
    write("shards", tmp_path)
    save_file({"b.mask": TENSORS["b.mask"]}, tmp_path / "model-1.safetensors")
    assert "a.count" in refused(tmp_path, MissingKeys)


def test_a_dtype_that_is_not_read_is_named(tmp_path):
    save_file({"x": torch.zeros(4).to(torch.float8_e4m3fn)}, tmp_path / "w.safetensors")
    message = refused(tmp_path / "w.safetensors", UnreadableCheckpoint)
    assert "x is stored as F8_E4M3" in message


def test_a_header_that_claims_more_than_the_file_has_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    sparse_safetensors(path, {"x": [1000]})
    os.truncate(path, path.stat().st_size - 4)
    assert "truncated" in refused(path, UnreadableCheckpoint)


def test_no_checkpoint_and_an_empty_folder_are_refused(tmp_path):
    assert "does not exist" in refused(tmp_path / "nowhere", CheckpointNotFound)
    assert "pytorch_model.bin" in refused(tmp_path, CheckpointNotFound)


def test_code_in_a_shard_is_refused(tmp_path):
    write("torch shards", tmp_path)
    torch.save({"a.weight": Path("x")}, tmp_path / "pytorch_model.bin-0")
    refused(tmp_path, CodeInCheckpoint)


def test_a_file_that_is_damaged_after_it_was_opened_is_refused(tmp_path):
    path = write("file", tmp_path)
    source = TensorSource.open(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UnreadableCheckpoint, match=r"weights\.safetensors"):
        source.read("a.weight")


def linear_checkpoint(folder: Path, weight: Tensor) -> Path:
    save_file({"w": weight, "bias": torch.ones(2)}, folder / "model.safetensors")
    return folder


def test_weights_are_read_by_the_modules_keys_in_their_stored_dtype(tmp_path):
    weight = torch.arange(6, dtype=torch.float16).view(3, 2)
    with torch.device("meta"):
        module = nn.Linear(3, 2)
    weights = open_weights(
        module,
        linear_checkpoint(tmp_path, weight),
        rename=lambda key: "weight" if key == "w" else key,
        adapt={"weight": lambda tensor: tensor.T},
    )
    assert weights.keys() == ("weight", "bias")
    assert torch.equal(weights.read("weight"), weight.T)
    assert module.weight.is_meta


def test_weights_of_the_largest_tower_can_be_sent_to_another_process(tmp_path):
    component = next(each for each in find_model("tinychart-3b").components if each.name == "vision_tower")
    with torch.device("meta"):
        tower = component.variants["merged"]()
    (tmp_path / "vision_tower").mkdir()
    sparse_safetensors(
        tmp_path / "vision_tower" / "model.safetensors",
        {key: list(tensor.shape) for key, tensor in tower.state_dict().items()},
    )
    sent = pickle.dumps(component.weights_in(tmp_path, tower))
    assert len(sent) < 100_000
    assert not pickle.loads(sent).read("vision_model.post_layernorm.bias").any()


def test_shapes_are_checked_before_anything_is_read(tmp_path):
    path = tmp_path / "huge.safetensors"
    sparse_safetensors(path, {"weight": [2**20, 2**17], "bias": [2]})
    with pytest.raises(WrongTensor, match=r"\[1048576, 131072\], the model needs \[2, 3\]"):
        open_weights(nn.Linear(3, 2), path)


def test_numbers_that_are_not_finite_are_found_when_they_are_read(tmp_path):
    weights = open_weights(
        nn.Linear(3, 2),
        linear_checkpoint(tmp_path, torch.tensor([[1.0, torch.nan, 0.0]] * 2)),
        rename=lambda key: "weight" if key == "w" else key,
    )
    assert torch.equal(weights.read("bias"), torch.ones(2))
    with pytest.raises(NotFinite, match="weight"):
        weights.read("weight")


def test_of_two_keys_with_one_name_the_first_is_read(tmp_path):
    save_file({"a": torch.zeros(1, 2), "b": torch.ones(1, 2)}, tmp_path / "model.safetensors")
    module = nn.Embedding(1, 2)
    load_weights(module, tmp_path, rename=lambda key: "weight")
    assert module.weight.tolist() == [[0, 0]]

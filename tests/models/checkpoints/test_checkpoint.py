import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tm_export.models.checkpoints import checkpoint
from tm_export.models.checkpoints.checkpoint import load_weights


def small_module() -> nn.Module:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return module


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


@pytest.fixture
def source() -> dict[str, torch.Tensor]:
    return tensors_of(small_module())


def write_shards(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    weight_map = {}
    for number, key in enumerate(tensors):
        weight_map[key] = f"model-{number % 2}.safetensors"
    for name in set(weight_map.values()):
        save_file({key: tensors[key] for key in tensors if weight_map[key] == name}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def write(form: str, folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    if form == "safetensors file":
        save_file(tensors, folder / "weights.safetensors")
        return folder / "weights.safetensors"
    if form == "torch file":
        torch.save(tensors, folder / "weights.bin")
        return folder / "weights.bin"
    if form == "folder":
        save_file(tensors, folder / "model.safetensors")
    else:
        write_shards(folder, tensors)
    return folder


@pytest.mark.parametrize("form", ["safetensors file", "torch file", "folder", "shards"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_each_form_of_checkpoint_loads_onto_each_device(form, device, source, tmp_path):
    with torch.device(device):
        module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    load_weights(module, write(form, tmp_path, source))
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor, source[key])
    assert module[0].weight.requires_grad


def test_half_precision_weights_take_the_modules_dtype(source, tmp_path):
    half = {key: value.half() if value.is_floating_point() else value for key, value in source.items()}
    module = small_module()
    load_weights(module, write("safetensors file", tmp_path, half))
    assert module[0].weight.dtype == torch.float32
    assert torch.equal(module[0].weight, half["0.weight"].float())


def test_rename_drops_and_adapt_changes(source, tmp_path):
    renamed = {f"model.{key}": value for key, value in source.items()}
    renamed["head.weight"] = torch.ones(1)
    module = small_module()
    load_weights(
        module,
        write("safetensors file", tmp_path, renamed),
        rename=lambda key: None if key.startswith("head") else key.removeprefix("model."),
        adapt={"0.bias": lambda tensor: 2 * tensor},
    )
    assert torch.equal(module[0].weight, source["0.weight"])
    assert torch.equal(module[0].bias, 2 * source["0.bias"])


def assert_refused(path: Path, error: type[ValueError], *words: str) -> None:
    """Loading fails with one line that holds the words, and the module stays as it was."""
    module = small_module()
    before = tensors_of(module)
    with pytest.raises(error) as caught:
        load_weights(module, path)
    message = str(caught.value)
    for word in (path.name, *words):
        assert word in message
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[key])


def test_a_missing_key_is_named(source, tmp_path):
    del source["0.bias"]
    assert_refused(write("safetensors file", tmp_path, source), checkpoint.MissingKeys, "0.bias", "complete")


def test_many_missing_keys_are_counted(source, tmp_path):
    path = write("safetensors file", tmp_path, {"0.bias": source["0.bias"]})
    assert_refused(path, checkpoint.MissingKeys, "0.weight", "1.running_var and 1 more")


def test_an_extra_key_is_named(source, tmp_path):
    source["2.weight"] = torch.ones(1)
    assert_refused(write("torch file", tmp_path, source), checkpoint.UnexpectedKeys, "2.weight", "belongs")


def test_a_wrong_shape_is_named_with_both_shapes(source, tmp_path):
    source["0.weight"] = torch.ones(2, 4)
    path = write("safetensors file", tmp_path, source)
    assert_refused(path, checkpoint.WrongTensor, "0.weight", "[2, 4]", "[2, 3]")


def test_integers_in_place_of_weights_are_refused(source, tmp_path):
    source["0.weight"] = torch.ones(2, 3, dtype=torch.int8)
    path = write("safetensors file", tmp_path, source)
    assert_refused(path, checkpoint.WrongTensor, "0.weight", "int8", "float32")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("key", ["0.weight", "1.running_mean"])
def test_nan_and_infinity_are_refused(bad, key, source, tmp_path):
    source[key].view(-1)[1] = bad
    assert_refused(write("safetensors file", tmp_path, source), checkpoint.NotFinite, key)


@pytest.mark.parametrize("form", ["safetensors file", "torch file"])
@pytest.mark.parametrize("kept", [0, 4, 0.5, 0.99])
def test_a_truncated_file_is_refused(form, kept, source, tmp_path):
    path = write(form, tmp_path, source)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(checkpoint.CheckpointError) as caught:
        load_weights(small_module(), path)
    assert path.name in str(caught.value)


def test_a_truncated_safetensors_file_says_so(source, tmp_path):
    path = write("safetensors file", tmp_path, source)
    path.write_bytes(path.read_bytes()[:-8])
    assert_refused(path, checkpoint.UnreadableCheckpoint, "truncated", "download it again")


class TouchesAFile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_with_code_is_refused_and_not_run(save, source, tmp_path):
    trace = tmp_path / "code-ran"
    path = tmp_path / "weights.pt"
    save({**source, "extra": TouchesAFile(trace)}, path)
    assert_refused(path, checkpoint.CodeInCheckpoint, "code", "safetensors")
    assert not trace.exists()


def test_a_torch_file_of_something_else_is_refused(source, tmp_path):
    torch.save({"state_dict": source, "epoch": 3}, tmp_path / "weights.pt")
    assert_refused(tmp_path / "weights.pt", checkpoint.UnreadableCheckpoint, "state_dict")


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    assert_refused(tmp_path / "nowhere", checkpoint.CheckpointNotFound, "does not exist")


def test_an_empty_folder_is_refused(tmp_path):
    assert_refused(tmp_path, checkpoint.CheckpointNotFound, "model.safetensors", "index.json")


def test_a_missing_shard_is_named(source, tmp_path):
    write("shards", tmp_path, source)
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(checkpoint.CheckpointNotFound, match=r"model-1\.safetensors"):
        load_weights(small_module(), tmp_path)


def test_a_shard_that_lacks_a_listed_key_is_refused(source, tmp_path):
    write("shards", tmp_path, source)
    save_file({"0.bias": source["0.bias"]}, tmp_path / "model-1.safetensors")
    with pytest.raises(checkpoint.MissingKeys, match=r"index\.json"):
        load_weights(small_module(), tmp_path)


@pytest.mark.parametrize("index", ["not json", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 1}}'])
def test_a_damaged_index_is_refused(index, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(checkpoint.UnreadableCheckpoint, match=r"index\.json"):
        load_weights(small_module(), tmp_path)


def test_an_index_cannot_reach_outside_its_folder(source, tmp_path):
    save_file(source, tmp_path / "outside.safetensors")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    index = {"weight_map": dict.fromkeys(source, "../outside.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(checkpoint.UnreadableCheckpoint, match="outside"):
        load_weights(small_module(), folder)


@pytest.mark.parametrize("content", [b"some text\n", b"\x00" * 100])
def test_a_file_that_is_no_checkpoint_is_refused(content, tmp_path):
    for name in ("weights.bin", "weights.safetensors"):
        (tmp_path / name).write_bytes(content)
        assert_refused(tmp_path / name, checkpoint.CheckpointError)

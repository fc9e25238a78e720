"""TinyChart's checkpoint: every published key is consumed once, by the network that it is for; and its tokenizer."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from tm_export.models.checkpoints.checkpoint import assign_weights
from tm_export.models.checkpoints.errors import MissingKeys, TokenizerMissing, UnexpectedKeys, WrongTensor
from tm_export.models.spec.registry import find_model
from tm_export.models.synthesize.write import published_tensors
from tm_export.models.tinychart.components import connector_component, llm_component
from tm_export.models.tinychart.config import LanguageModelConfig
from tm_export.models.tinychart.tokenizer import (
    ADDED,
    MERGES,
    PHI_STOP,
    TEXT_END,
    TOKENIZER,
    VOCABULARY,
    synthetic_tokenizer,
    tokenizer_of_phi,
)

SMALL = LanguageModelConfig(
    vocab_size=30, hidden_size=12, intermediate_size=20, num_layers=2, num_heads=2, rotary_channels=2, visual_size=8
)


def published_keys(layers: int) -> dict[str, list[str]]:
    """models.md G.4, written out."""
    layer = [
        f"{name}.{kind}"
        for name in (
            *("input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.dense"),
            *("mlp.fc1", "mlp.fc2"),
        )
        for kind in ("weight", "bias")
    ]
    llm = [f"model.layers.{i}.{name}" for i in range(layers) for name in layer]
    ends = ["model.embed_tokens.weight", "model.final_layernorm.weight", "model.final_layernorm.bias", "lm_head.weight"]
    connector = [f"model.mm_projector.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")]
    return {"llm": sorted(llm + ends), "connector": sorted(connector)}


def test_a_full_size_checkpoint_has_the_published_keys_and_shapes():
    folders = published_tensors(find_model("tinychart-3b"), None)
    keys = published_keys(32)
    assert sorted(folders["llm"]) == sorted(keys["llm"] + keys["connector"])
    shapes = {key: spec.shape for key, spec in folders["llm"].items()}
    assert shapes["model.embed_tokens.weight"] == shapes["lm_head.weight"] == (51200, 2560)
    assert shapes["model.layers.31.mlp.fc1.weight"] == (10240, 2560)
    assert shapes["model.layers.0.self_attn.dense.weight"] == (2560, 2560)
    assert shapes["model.mm_projector.0.weight"] == (2560, 1152)
    total = sum(torch.Size(shape).numel() for shape in shapes.values())
    assert total == 2_779_632_640 + 9_507_840
    tower = folders["vision_tower"]
    assert sum(torch.Size(spec.shape).numel() for spec in tower.values()) == 400_267_168
    assert tower["vision_model.embeddings.position_embedding.weight"].shape == (2916, 1152)


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """A small one, in two shards with their index, with the copy of the vision tower that nobody reads."""
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = {"model.vision_tower.vision_tower.vision_model.post_layernorm.bias": torch.ones(3)}
    for component in (llm_component(SMALL), connector_component(SMALL)):
        prefix = component.published.prefix
        for key, value in next(iter(component.variants.values()))().state_dict().items():
            tensors[prefix + key] = torch.randn(value.shape, generator=generator)
    folder = tmp_path / "llm"
    write(folder, tensors)
    return tmp_path, tensors


def write(folder: Path, tensors: dict[str, Tensor]) -> None:
    folder.mkdir(exist_ok=True)
    keys = sorted(tensors)
    shards = {"a.safetensors": keys[::2], "b.safetensors": keys[1::2]}
    for name, own in shards.items():
        save_file({key: tensors[key] for key in own}, folder / name)
    places = {key: name for name, own in shards.items() for key in own}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def test_each_key_is_consumed_once(checkpoint):
    path, tensors = checkpoint
    consumed: list[str] = []
    for component in (llm_component(SMALL), connector_component(SMALL)):
        module = next(iter(component.variants.values()))()
        weights = component.weights_in(path, module)
        assign_weights(module, weights)
        for key, value in module.state_dict().items():
            published = component.published.prefix + key
            assert torch.equal(value, tensors[published])
            consumed.append(published)
    assert sorted(consumed) == sorted(key for key in tensors if "vision_tower" not in key)


@pytest.mark.parametrize(
    ("spoil", "error", "named"),
    [
        (lambda t: t.pop("lm_head.weight"), MissingKeys, "lm_head.weight"),
        (lambda t: t.update({"lm_head.bias": torch.zeros(30)}), UnexpectedKeys, "lm_head.bias"),
        (lambda t: t.update({"model.layers.2.mlp.fc1.bias": torch.zeros(20)}), UnexpectedKeys, "layers.2.mlp.fc1.bias"),
        (lambda t: t.update({"model.embed_tokens.weight": torch.zeros(31, 12)}), WrongTensor, "embed_tokens"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(checkpoint, spoil, error, named):
    path, tensors = checkpoint
    spoil(tensors)
    write(path / "llm", tensors)
    component = llm_component(SMALL)
    with pytest.raises(error, match=named):
        component.weights_in(path, component.variants["decode"]())


def test_a_connector_of_another_width_is_refused(checkpoint):
    path, _ = checkpoint
    component = connector_component(replace(SMALL, visual_size=9))
    with pytest.raises(WrongTensor, match=r"mm_projector|0\.weight"):
        component.weights_in(path, component.variants["full"]())


def small_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["what is the sum of the two largest bars"] * 20, trainer)
    return tokenizer


def test_the_published_files_make_the_tokenizer(tmp_path):
    tokenizer = small_tokenizer()
    tokenizer.model.save(str(tmp_path))
    size = tokenizer.get_vocab_size()
    added = {"<step>": size + 1, "    ": size}
    (tmp_path / ADDED).write_text(json.dumps(added))
    made = Tokenizer.from_str(tokenizer_of_phi(tmp_path))
    text = "what is the sum?\n<step>    Answer=Ä</step>"
    assert {token: made.token_to_id(token) for token in added} == added
    assert made.decode(made.encode(text).ids) == text
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in ("    ", "<step>")])
    assert made.encode(text).ids == tokenizer.encode(text).ids
    # A ready one is taken as it is.
    tokenizer.save(str(tmp_path / TOKENIZER))
    assert Tokenizer.from_str(tokenizer_of_phi(tmp_path)).encode(text).ids == tokenizer.encode(text).ids


def test_a_made_up_tokenizer_knows_every_text_and_the_published_stop():
    tokenizer = Tokenizer.from_str(synthetic_tokenizer())
    text = "Wie viel? 3 % … ☃"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.token_to_id(TEXT_END) == PHI_STOP


@pytest.mark.parametrize("spoil", ["nothing there", "no merges", "no json", "no vocabulary in it"])
def test_a_tokenizer_that_cannot_be_read_is_refused(tmp_path, spoil):
    if spoil != "nothing there":
        small_tokenizer().model.save(str(tmp_path))
    if spoil == "no merges":
        (tmp_path / MERGES).unlink()
    if spoil == "no json":
        (tmp_path / TOKENIZER).write_text("{")
    if spoil == "no vocabulary in it":
        (tmp_path / VOCABULARY).write_text("[1, 2]")
    with pytest.raises(TokenizerMissing, match=r"has no tokenizer: put|cannot be read"):
        tokenizer_of_phi(tmp_path)

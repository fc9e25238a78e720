import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import save_file
from torch import nn

from tm_export.models.ondevice_sora.config import SpatialVaeConfig, TemporalVaeConfig
from tm_export.models.ondevice_sora.network.denoiser import Denoiser, GuidedDenoiser
from tm_export.models.ondevice_sora.network.spatial_encoder import SpatialEncoder
from tm_export.models.ondevice_sora.network.spatial_vae import VaeSpatial
from tm_export.models.ondevice_sora.network.temporal_encoder import TemporalEncoder
from tm_export.models.ondevice_sora.network.temporal_vae import VaeTemporal
from tm_export.models.ondevice_sora.network.text_encoder import TextEncoder
from tm_export.models.ondevice_sora.tiny.captions import all_captions, training_captions, words
from tm_export.models.ondevice_sora.tiny.sizes import DENOISER, SPATIAL_VAE, TEMPORAL_VAE, TEXT_ENCODER
from tm_export.models.ondevice_sora.tiny.words import build_tokenizer, encode_texts
from tm_export.models.spec.trained import trained
from tm_export.models.training.ondevice_sora import denoiser_stage, vae_stages
from tm_export.models.training.ondevice_sora.denoiser_stage import TextToLatent
from tm_export.models.training.ondevice_sora.publish import trained_networks
from tm_export.models.training.ondevice_sora.vae_stages import SpatialAutoencoder, TemporalAutoencoder
from tm_export.models.training.results import write_networks
from tm_export.models.training.stage import Losses, Stage, run_stage

SPATIAL = SpatialVaeConfig(channels=(8, 16, 24, 24), groups=4, frames=2, height=5, width=6)


def test_spatial_encoder_equals_diffusers():
    torch.manual_seed(0)
    module = SpatialEncoder(SPATIAL).eval()
    reference = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=SPATIAL.channels,
        layers_per_block=SPATIAL.blocks_per_stage - 1,
        latent_channels=4,
        norm_num_groups=SPATIAL.groups,
    ).eval()
    encoder_keys = {key for key in reference.state_dict() if key.startswith(("encoder.", "quant_conv."))}
    assert set(module.state_dict()) == encoder_keys
    reference.load_state_dict({**reference.state_dict(), **module.state_dict()})
    pictures = torch.randn(2, 3, 40, 48)
    with torch.no_grad():
        mean, log_variance = module(pictures)
        expected = reference.encode(pictures).latent_dist
    torch.testing.assert_close(mean, expected.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(log_variance, expected.logvar, rtol=1e-4, atol=1e-5)


def test_the_temporal_encoder_is_causal_and_makes_five_frames_of_seventeen():
    torch.manual_seed(0)
    config = TemporalVaeConfig(channels=(4, 4, 4, 8), blocks_per_stage=1, groups=1, height=3, width=2)
    module = TemporalEncoder(config).eval()
    for part in module.modules():
        if isinstance(part, nn.GroupNorm):  # it sees all frames, so that only without it can causality be seen
            part.forward = nn.Identity().forward
    window = torch.randn(1, 4, 17, 3, 2)
    changed = window.clone()
    changed[:, :, 9:] = 0
    with torch.no_grad():
        first, second = module(window)[0], module(changed)[0]
    assert first.shape == (1, 4, 5, 3, 2)
    # The window's frame 0 makes latent 0, and frames 1..4, 5..8, ... the next ones.
    assert torch.equal(first[:, :, :3], second[:, :, :3])
    assert not torch.allclose(first[:, :, 3:], second[:, :, 3:])


def test_the_tokenizer_knows_every_word_and_ends_each_prompt():
    tokenizer = build_tokenizer()
    assert tokenizer.get_vocab_size() == len(words()) + 3 <= TEXT_ENCODER.vocab_size
    ids, mask = encode_texts(tokenizer, ["A Red circle dances"], 8)
    assert [tokenizer.id_to_token(number) for number in ids[0, :5].tolist()] == ["a", "red", "circle", "<unk>", "</s>"]
    assert ids[0, 3:].tolist() == [2, 1, 0, 0, 0] and mask[0].tolist() == [1] * 5 + [0] * 3
    ids, _ = encode_texts(tokenizer, [caption.text for caption in all_captions()], TEXT_ENCODER.text_tokens)
    assert not (ids == 2).any() and ((ids == 1).sum(dim=1) == 1).all()


def spatial_case() -> tuple[nn.Module, Losses]:
    model = vae_stages.SpatialAutoencoder()
    pictures = vae_stages.random_pictures(training_captions(), 4, torch.Generator().manual_seed(1))
    return model, lambda generator: vae_stages.spatial_losses(model, pictures, generator)


def temporal_case() -> tuple[nn.Module, Losses]:
    model = vae_stages.TemporalAutoencoder()
    windows = torch.randn(2, 4, TEMPORAL_VAE.frames_out, 8, 8)
    return model, lambda generator: vae_stages.temporal_losses(model, windows, generator)


def denoiser_case() -> tuple[nn.Module, Losses]:
    model, merged = denoiser_stage.TextToLatent(), Denoiser(DENOISER, "merged")
    ids, mask = encode_texts(build_tokenizer(), ["a red circle moves left"], TEXT_ENCODER.text_tokens)
    data = denoiser_stage.CaptionedLatents(torch.randn(1, 4, 6, 8, 8), ids, mask)
    return model, lambda generator: denoiser_stage.flow_losses(
        model, merged, data, denoiser_stage.FOR_MERGING, generator
    )


@pytest.mark.parametrize("case", [spatial_case, temporal_case, denoiser_case])
def test_a_few_steps_lower_the_loss_of_a_fixed_batch(case, tmp_path):
    torch.manual_seed(0)
    model, losses = case()

    def now() -> float:
        return float(losses(torch.Generator().manual_seed(9))["loss"].detach())

    before = now()
    stage = Stage("case", model, lambda _: losses(torch.Generator().manual_seed(9)), 6, 1e-2, ema_decay=0.1)
    assert run_stage(stage, tmp_path)
    assert now() < before


def small_stage() -> Stage:
    torch.manual_seed(0)
    model = nn.Linear(3, 3)

    def losses(generator: torch.Generator) -> Losses:
        x = torch.randn(8, 3, generator=generator)
        return {"loss": (model(x) - x.flip(1)).square().mean()}

    return Stage("small", model, losses, steps=60, learning_rate=1e-2, seed=3)


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    straight = small_stage()
    assert run_stage(straight, whole)
    assert not run_stage(small_stage(), parts, stop_after=23)
    resumed = small_stage()
    assert run_stage(resumed, parts)
    for key, tensor in straight.module.state_dict().items():
        assert torch.equal(tensor, resumed.module.state_dict()[key])
    assert steps_logged(parts) == steps_logged(whole) == [50, 60]


def steps_logged(work: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (work / "log.jsonl").read_text().splitlines()]


def test_a_loss_that_is_not_finite_stops_the_stage(tmp_path):
    stage = small_stage()
    broken = replace(stage, losses=lambda generator: {"loss": stage.losses(generator)["loss"] * float("nan")})
    with pytest.raises(FloatingPointError, match="'small': the gradient of step 0 is nan"):
        run_stage(broken, tmp_path)


def test_the_merged_variant_runs_with_the_trained_weights():
    torch.manual_seed(0)
    model, merged = denoiser_stage.TextToLatent(), Denoiser(DENOISER, "merged")
    nn.init.normal_(model.denoiser.get_parameter("final_layer.linear.weight"))
    ids, mask = encode_texts(build_tokenizer(), ["a red circle moves left"], TEXT_ENCODER.text_tokens)
    inputs = torch.randn(1, 4, 6, 8, 8), torch.tensor([0.5]), ids, mask, torch.tensor([False])
    shared = model.velocity(merged, *inputs)
    merged.load_state_dict(model.denoiser.state_dict())
    assert torch.equal(shared, model.velocity(merged, *inputs))
    assert not torch.allclose(shared, model(*inputs))


def test_published_weights_are_what_the_stages_trained(tmp_path):
    torch.manual_seed(0)
    spatial, temporal, flow = SpatialAutoencoder(), TemporalAutoencoder(), TextToLatent()
    torch.nn.init.normal_(flow.denoiser.get_parameter("final_layer.linear.weight"), std=0.1)  # it begins as zeros
    torch.nn.init.normal_(flow.null_text_LD)
    for name, module in (("spatial_vae", spatial), ("temporal_vae", temporal), ("merging", flow)):
        torch.save({"mean": module.state_dict()}, tmp_path / f"{name}.pt")
    moments = {"scale": torch.rand(1, 4, 1, 1, 1) + 0.5, "shift": torch.randn(1, 4, 1, 1, 1)}
    save_file(moments, tmp_path / "latent_scale.safetensors")
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n')
    out = tmp_path / "out"
    total = write_networks(trained_networks(tmp_path), tmp_path, out)
    assert total < 8_000_000 and (out / "training_log.jsonl").read_text() == '{"step": 1}\n'

    x, t, fps = torch.randn(1, 4, 6, 8, 8), torch.tensor([691.0]), torch.tensor([8.0])
    ids, mask = encode_texts(build_tokenizer(), ["a red circle moves left"], 16)
    with torch.no_grad():
        states = trained(lambda: TextEncoder(TEXT_ENCODER), out / "text_encoder.safetensors")(ids, mask)
        rows = trained(lambda: GuidedDenoiser(DENOISER, "full"), out / "denoiser.safetensors")(x, t, states, mask, fps)
        for row, dropped in ((rows[:1], False), (rows[1:], True)):
            expected = flow(x, t / 1000, ids, mask, torch.tensor([dropped]))
            torch.testing.assert_close(row[:, :4], expected, rtol=1e-2, atol=1e-2)  # 16 bits
        z = torch.randn(1, 4, 3, 8, 8)
        window = trained(lambda: VaeTemporal(TEMPORAL_VAE), out / "vae_temporal.safetensors")(z)
        expected = temporal.decoder(z * moments["scale"] + moments["shift"])
        torch.testing.assert_close(window, expected, rtol=1e-2, atol=1e-2)
        frames = torch.randn(6, 4, 8, 8)
        pictures = trained(lambda: VaeSpatial(SPATIAL_VAE), out / "vae_spatial.safetensors")(frames)
        torch.testing.assert_close(pictures, spatial.decoder(frames), rtol=1e-2, atol=1e-2)


def test_weights_that_the_repository_does_not_take_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tm_export.models.training.results.MOST_BYTES", 10)
    with pytest.raises(ValueError, match="take 18 bytes, and 10 are allowed"):
        write_networks({"a": {"b": torch.ones(9)}}, tmp_path, tmp_path / "out")

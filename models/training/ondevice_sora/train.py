"""Train `ondevice-sora-tiny`: `python -m tm_export.models.training.ondevice_sora.train --work DIR`.

Stopped and started again with the same folder, it goes on from its last checkpoint.
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tm_export.models.ondevice_sora.network.denoiser import Denoiser
from tm_export.models.ondevice_sora.tiny.captions import training_captions
from tm_export.models.ondevice_sora.tiny.sizes import DENOISER, TEXT_ENCODER
from tm_export.models.ondevice_sora.tiny.words import build_tokenizer, encode_texts
from tm_export.models.training.ondevice_sora import denoiser_stage, vae_stages
from tm_export.models.training.ondevice_sora.synthetic_videos import draw_video
from tm_export.models.training.stage import Losses, Stage, run_stage

VIDEOS = 3600
NO_BACKGROUND = 7  # the caption of every seventh video leaves the background open
PICTURES, WINDOWS = 32, 16


def train_spatial(work: Path, device: torch.device, steps: int) -> vae_stages.SpatialAutoencoder:
    """Train the spatial VAE, or load it if it is done."""
    torch.manual_seed(0)
    # Convolutions with few channels are nearly twice as fast so.
    model = vae_stages.SpatialAutoencoder().to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    captions = training_captions()

    def losses(generator: torch.Generator) -> Losses:
        pictures = vae_stages.random_pictures(captions, PICTURES, generator).to(
            device, memory_format=torch.channels_last
        )
        return vae_stages.spatial_losses(model, pictures, generator)

    run_stage(Stage("spatial_vae", model, losses, steps, learning_rate=2e-3, ema_decay=0.99, seed=1), work)
    return model


def draw_latents(work: Path, model: vae_stages.SpatialAutoencoder, device: torch.device) -> dict[str, torch.Tensor]:
    """Return spatial latents [N, 4, 18, 8, 8] of new videos, with ids and masks of their captions; cached in `work`."""
    path = work / "spatial_latents.safetensors"
    if not path.is_file():
        generator = torch.Generator().manual_seed(2)
        captions = training_captions()
        shown = [captions[number % len(captions)] for number in range(VIDEOS)]
        latents = [vae_stages.encode_pictures(model, draw_video(caption, generator).to(device)) for caption in shown]
        # The passes over all captions leave the background open for different ones, since 7 divides no pass.
        texts = [
            caption.text_without_background if number % NO_BACKGROUND == 0 else caption.text
            for number, caption in enumerate(shown)
        ]
        ids, mask = encode_texts(build_tokenizer(), texts, TEXT_ENCODER.text_tokens)
        save_file({"latents": torch.stack(latents).cpu().contiguous(), "ids": ids, "mask": mask}, path)
    return {name: tensor.to(device) for name, tensor in load_file(path).items()}


def train_temporal(
    work: Path, device: torch.device, latents: torch.Tensor, steps: int
) -> vae_stages.TemporalAutoencoder:
    """Train the temporal VAE, or load it if it is done."""
    torch.manual_seed(0)
    model = vae_stages.TemporalAutoencoder().to(device)

    def losses(generator: torch.Generator) -> Losses:
        return vae_stages.temporal_losses(model, vae_stages.random_windows(latents, WINDOWS, generator), generator)

    run_stage(Stage("temporal_vae", model, losses, steps, learning_rate=2e-3, ema_decay=0.99, seed=3), work)
    return model


def train_denoiser(
    work: Path, device: torch.device, data: denoiser_stage.CaptionedLatents, steps: int, merging_steps: int
) -> denoiser_stage.TextToLatent:
    """Train text encoder and denoiser, then go on mostly with merged tokens; or load them if they are done."""
    torch.manual_seed(0)
    model = denoiser_stage.TextToLatent().to(device)
    merged = Denoiser(DENOISER, "merged").to(device)

    def losses(mix: denoiser_stage.Mix, generator: torch.Generator) -> Losses:
        return denoiser_stage.flow_losses(model, merged, data, mix, generator)

    first = partial(losses, denoiser_stage.FROM_NOTHING)
    run_stage(Stage("denoiser", model, first, steps, learning_rate=1e-3, seed=4), work)
    second = partial(losses, denoiser_stage.FOR_MERGING)
    run_stage(Stage("merging", model, second, merging_steps, learning_rate=7e-4, seed=5), work)
    return model


def main() -> None:
    """Run all stages."""
    parser = argparse.ArgumentParser(description="Train ondevice-sora-tiny on synthetic videos.")
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints and log; gone on with if there")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--spatial-steps", type=int, default=1500)
    parser.add_argument("--temporal-steps", type=int, default=1000)
    parser.add_argument("--denoiser-steps", type=int, default=6500)
    parser.add_argument("--merging-steps", type=int, default=3000)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    spatial = train_spatial(options.work, device, options.spatial_steps)
    videos = draw_latents(options.work, spatial, device)
    temporal = train_temporal(options.work, device, videos["latents"], options.temporal_steps)
    latents = torch.cat([vae_stages.encode_windows(temporal, part) for part in torch.split(videos["latents"], 100)])
    scale = latents.std(dim=(0, 2, 3, 4), keepdim=True)
    shift = latents.mean(dim=(0, 2, 3, 4), keepdim=True)
    save_file({"scale": scale.cpu(), "shift": shift.cpu()}, options.work / "latent_scale.safetensors")
    data = denoiser_stage.CaptionedLatents((latents - shift) / scale, videos["ids"], videos["mask"])
    train_denoiser(options.work, device, data, options.denoiser_steps, options.merging_steps)


if __name__ == "__main__":
    main()

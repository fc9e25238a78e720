"""Sample videos of held-out captions from a folder of `train.py`, and count how many the detector reads right.

    python -m tm_export.models.training.ondevice_sora.evaluate --work DIR --sheet sheet.png

Legend: B videos, C channels, T latent frames, H rows, W columns.
"""

import argparse
from pathlib import Path
from typing import Final

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from tm_export.models.ondevice_sora.network.denoiser import Denoiser
from tm_export.models.ondevice_sora.network.sampler import shifted_time, time_shift
from tm_export.models.ondevice_sora.tiny.captions import held_out_captions
from tm_export.models.ondevice_sora.tiny.sizes import DENOISER, TEMPORAL_VAE, TEXT_ENCODER
from tm_export.models.ondevice_sora.tiny.words import build_tokenizer, encode_texts
from tm_export.models.training.ondevice_sora.denoiser_stage import TextToLatent
from tm_export.models.training.ondevice_sora.detector import Reading, read_video
from tm_export.models.training.ondevice_sora.vae_stages import SpatialAutoencoder, TemporalAutoencoder

STEPS: Final = 30
GUIDANCE: Final = 3.0


def sampling_times(steps: int) -> list[float]:
    """Return the times 1..0 of the steps' ends, shifted for the video's size (On-device Sora's schedule), then 0."""
    shift = time_shift(DENOISER, DENOISER.frames)
    step, count, factor = (torch.as_tensor(value, dtype=torch.float64) for value in (range(steps + 1), steps, shift))
    times: list[float] = shifted_time(step, count, factor).tolist()
    return times


@torch.no_grad()
def sample_latents(
    model: TextToLatent, texts: list[str], seed: int, *, leap_after: int = STEPS, merge_steps: int = 0
) -> Tensor:
    """Return latents [B, 4, T, H, W] at unit scale, by Euler steps with guidance.

    Args:
        model: trained.
        texts: the prompts.
        seed: of the noise.
        leap_after: the step, counted from 1, that leaps to time 0.
        merge_steps: so many first steps run the merged variant.
    """
    ids, mask = encode_texts(build_tokenizer(), texts, TEXT_ENCODER.text_tokens)
    merged = Denoiser(DENOISER, "merged")
    size = (len(texts), DENOISER.in_channels, DENOISER.frames, DENOISER.height, DENOISER.width)
    x = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    times = sampling_times(STEPS)
    dropped = torch.arange(2 * len(texts)) >= len(texts)
    for step in range(leap_after):
        denoiser = merged if step < merge_steps else model.denoiser
        time_B = torch.full((2 * len(texts),), times[step])
        both = model.velocity(denoiser, x.repeat(2, 1, 1, 1, 1), time_B, ids.repeat(2, 1), mask.repeat(2, 1), dropped)
        with_text, without = both.chunk(2)
        until = 0.0 if step == leap_after - 1 else times[step + 1]
        x = x + (without + GUIDANCE * (with_text - without)) * (times[step] - until)
    return x


@torch.no_grad()
def decode(spatial: SpatialAutoencoder, temporal: TemporalAutoencoder, latent_CTHW: Tensor) -> Tensor:
    """Return the video [3, 18, 64, 64] of one latent, which has the temporal encoder's own scale."""
    windows = torch.split(latent_CTHW[None], TEMPORAL_VAE.frames, dim=2)
    frames = torch.cat([temporal.decoder(window) for window in windows], dim=2)[0]
    pictures: Tensor = spatial.decoder(frames.transpose(0, 1))
    return pictures.transpose(0, 1).clamp(-1, 1)


def contact_sheet(videos: list[Tensor], every: int = 3) -> Image.Image:
    """Return every third frame of each video, a video to a row."""
    rows = [torch.cat(list(video[:, ::every].unbind(dim=1)), dim=2) for video in videos]
    pixels = ((torch.cat(rows, dim=1) + 1) * 127.5).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def load_mean(module: nn.Module, path: Path) -> None:
    """Load the running mean of the weights from a stage's checkpoint."""
    module.load_state_dict(torch.load(path, weights_only=True, map_location="cpu")["mean"])
    module.eval()


def main() -> None:
    """Print the share of right readings for full sampling, a leap, merging on half the steps, and both."""
    parser = argparse.ArgumentParser(description="Caption fidelity of a trained ondevice-sora-tiny.")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, required=True, help="PNG of the first videos of full sampling")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    spatial, temporal, model = SpatialAutoencoder(), TemporalAutoencoder(), TextToLatent()
    for module, name in ((spatial, "spatial_vae"), (temporal, "temporal_vae"), (model, "merging")):
        load_mean(module, options.work / f"{name}.pt")
    moments = load_file(options.work / "latent_scale.safetensors")
    captions = held_out_captions()
    texts = [caption.text for caption in captions]
    ways = {"full": {}, "leap": {"leap_after": 16}, "merged": {"merge_steps": 15}}
    for name, options_of in {**ways, "both": ways["leap"] | ways["merged"]}.items():
        latents = sample_latents(model, texts, seed=0, **options_of) * moments["scale"] + moments["shift"]
        videos = [decode(spatial, temporal, latent) for latent in latents]
        readings = [read_video(video.numpy()) for video in videos]
        truths = [Reading(caption.colour, caption.shape, caption.motion) for caption in captions]
        pairs = list(zip(readings, truths, strict=True))
        print(name, sum(reading == truth for reading, truth in pairs), "of", len(pairs), end=" right: ")
        for part in ("colour", "shape", "motion"):
            print(part, sum(getattr(reading, part) == getattr(truth, part) for reading, truth in pairs), end=" ")
        print(flush=True)
        if name == "full":
            contact_sheet(videos[::10]).save(options.sheet)


if __name__ == "__main__":
    main()

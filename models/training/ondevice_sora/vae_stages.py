"""The two stages that train the VAE: pictures to latents and back, then windows of latents along time and back.

Source: Kingma and Welling, "Auto-Encoding Variational Bayes", arXiv 1312.6114, section 3.

Legend: N videos, F frames, B batch, C channels, T frames, H rows, W columns.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tm_export.models.ondevice_sora.network.spatial_encoder import SpatialEncoder
from tm_export.models.ondevice_sora.network.spatial_vae import VaeSpatial
from tm_export.models.ondevice_sora.network.temporal_encoder import TemporalEncoder
from tm_export.models.ondevice_sora.network.temporal_vae import VaeTemporal
from tm_export.models.ondevice_sora.tiny.captions import Caption
from tm_export.models.ondevice_sora.tiny.sizes import SPATIAL_VAE, TEMPORAL_VAE
from tm_export.models.training.ondevice_sora.synthetic_videos import draw_video
from tm_export.models.training.stage import Losses

PRIOR_WEIGHT = 2e-5
TEMPORAL_PRIOR_WEIGHT = 1e-4
SHAPE_WEIGHT = 5.0


class SpatialAutoencoder(nn.Module):
    """Encoder and decoder of pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = SpatialEncoder(SPATIAL_VAE)
        self.decoder = VaeSpatial(SPATIAL_VAE)


class TemporalAutoencoder(nn.Module):
    """Encoder and decoder of one window of spatial latents."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = TemporalEncoder(TEMPORAL_VAE)
        self.decoder = VaeTemporal(TEMPORAL_VAE)


def spatial_losses(model: SpatialAutoencoder, pictures_FCHW: Tensor, generator: torch.Generator) -> Losses:
    """Return the losses of pictures that are encoded, sampled and decoded."""
    mean, log_variance = model.encoder(pictures_FCHW)
    latents = sample(mean, log_variance, generator) * SPATIAL_VAE.latent_scale
    error = model.decoder(latents) - pictures_FCHW
    # The background is most of a picture, and every corner is background: unweighted, colours of shapes come late.
    is_shape_F1HW = (pictures_FCHW - pictures_FCHW[:, :, :1, :1]).abs().amax(dim=1, keepdim=True) > 0.05
    weight_F1HW = torch.where(is_shape_F1HW, SHAPE_WEIGHT, 1.0)
    weighted = (weight_F1HW * (error.square() + 0.2 * error.abs())).mean()
    squared, prior = error.square().mean(), divergence(mean, log_variance)
    return {"loss": weighted + PRIOR_WEIGHT * prior, "squared": squared, "prior": prior}


def temporal_losses(model: TemporalAutoencoder, windows_BCTHW: Tensor, generator: torch.Generator) -> Losses:
    """Return the losses of windows of spatial latents that are encoded, sampled and decoded."""
    mean, log_variance = model.encoder(windows_BCTHW)
    error = model.decoder(sample(mean, log_variance, generator)) - windows_BCTHW
    squared, prior = error.square().mean(), divergence(mean, log_variance)
    return {"loss": squared + TEMPORAL_PRIOR_WEIGHT * prior, "squared": squared, "prior": prior}


def sample(mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
    """Return a sample of the posterior."""
    noise = torch.randn(mean.shape, generator=generator).to(mean.device)
    return mean + (0.5 * log_variance.clamp(-20, 10)).exp() * noise


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence of the posterior from a unit normal, in nats per latent number."""
    log_variance = log_variance.clamp(-20, 10)
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


def random_pictures(
    captions: Sequence[Caption], count: int, generator: torch.Generator, *, per_video: int = 4
) -> Tensor:
    """Return `count` pictures [F, 3, H, W], a few from each of some new videos."""
    pictures = []
    for number in torch.randint(len(captions), (count // per_video,), generator=generator).tolist():
        video_CTHW = draw_video(captions[number], generator)
        frames = torch.randperm(video_CTHW.shape[1], generator=generator)[:per_video]
        pictures.append(video_CTHW[:, frames].transpose(0, 1))
    return torch.cat(pictures)


def random_windows(latents_NCTHW: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` windows [B, 4, 9, H, W] of cached spatial latents, each beginning at any frame."""
    length = TEMPORAL_VAE.frames_out
    videos = torch.randint(len(latents_NCTHW), (count,), generator=generator)
    starts = torch.randint(latents_NCTHW.shape[2] - length + 1, (count,), generator=generator)
    pairs = zip(videos.tolist(), starts.tolist(), strict=True)
    return torch.stack([latents_NCTHW[video, :, start : start + length] for video, start in pairs])


@torch.no_grad()
def encode_pictures(model: SpatialAutoencoder, video_CTHW: Tensor) -> Tensor:
    """Return the means [4, T, H/8, W/8] of a video's spatial latents."""
    mean, _ = model.encoder(video_CTHW.transpose(0, 1))
    latents: Tensor = mean.transpose(0, 1) * SPATIAL_VAE.latent_scale
    return latents


@torch.no_grad()
def encode_windows(model: TemporalAutoencoder, latents_NCTHW: Tensor) -> Tensor:
    """Return the means [N, 4, 6, H, W] of the latents of videos' windows, not yet scaled."""
    windows = torch.split(latents_NCTHW, TEMPORAL_VAE.frames_out, dim=2)
    return torch.cat([model.encoder(window)[0] for window in windows], dim=2)

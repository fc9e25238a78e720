import torch
from torch.nn import functional as F

from tm_export.models.ondevice_sora.tiny.captions import (
    all_captions,
    held_out_captions,
    training_captions,
    words,
)
from tm_export.models.training.ondevice_sora.detector import Reading, read_video
from tm_export.models.training.ondevice_sora.synthetic_videos import draw_video


def draw_all(seed: int) -> list[tuple[Reading, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [(Reading(c.colour, c.shape, c.motion), draw_video(c, generator)) for c in all_captions()]


def share_read(videos: list[tuple[Reading, torch.Tensor]]) -> float:
    return sum(read_video(video.numpy()) == truth for truth, video in videos) / len(videos)


def test_the_grammar_has_480_captions_and_holds_out_120_whose_words_are_all_trained():
    texts = [caption.text for caption in all_captions()]
    trained, held_out = {c.text for c in training_captions()}, {c.text for c in held_out_captions()}
    assert len(texts) == len(set(texts)) == 480
    assert len(held_out) == 120 and not trained & held_out and trained | held_out == set(texts)
    assert {word for text in trained for word in text.split()} == set(words())
    without = {c.text_without_background for c in training_captions()}
    assert not without & {c.text_without_background for c in held_out_captions()}


def test_the_seed_fixes_the_video():
    caption = all_captions()[0]
    first, again, other = (draw_video(caption, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (3, 18, 64, 64) and first.min() >= -1 and first.max() <= 1


def test_the_detector_reads_clean_videos():
    assert share_read(draw_all(3)) >= 0.99


def test_the_detector_reads_noisy_and_blurred_videos():
    generator = torch.Generator().manual_seed(5)
    worn = [
        (
            truth,
            F.avg_pool2d(video, 3, 1, 1, count_include_pad=False) + 0.1 * torch.randn(video.shape, generator=generator),
        )
        for truth, video in draw_all(4)
    ]
    assert share_read(worn) >= 0.95


def test_the_detector_sees_no_motion_in_a_frozen_video_and_nothing_in_an_empty_one():
    for truth, video in draw_all(6)[::40]:
        frozen = video[:, :1].expand_as(video)
        assert read_video(frozen.numpy()) == Reading(truth.colour, truth.shape, None)
        assert read_video(torch.zeros_like(video).numpy()) == Reading(None, None, None)


def test_a_video_backwards_is_read_backwards():
    opposite = {"left": "right", "right": "left", "up": "down", "down": "up", "grows": "shrinks", "shrinks": "grows"}
    for truth, video in draw_all(7)[::7]:
        reading = read_video(video.flip(1).numpy())
        assert reading.motion == opposite.get(truth.motion, truth.motion)

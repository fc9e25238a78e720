"""A bundle's folder is replaced whole, whatever happens on the way."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tm_export.exporters.bundle.staging import Staging, staged
from tm_export.exporters.errors import ConversionRefused, UsageError

OLD = '{"tool_versions": {"tm-export": "0"}, "of": "old"}'
NEW = '{"tool_versions": {"tm-export": "0"}, "of": "new"}'


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "tiny-onnx"


def old_bundle(place: Path) -> None:
    place.mkdir()
    (place / "manifest.json").write_text(OLD)


def hidden(place: Path) -> Path:
    return place.with_name(f".{place.name}.partial")


def finish_a_step(staging: Staging) -> None:
    (staging.bundle / "block").write_bytes(b"finished")
    staging.journal.record("step", [staging.bundle / "block"], "done")


def export(place: Path, error: BaseException | None = None, *, steps: bool = True, resume: bool = True) -> bool:
    """Stage a bundle of one step, or fail with an error; returns whether the step was finished before."""
    with staged(place, force=False, resume=resume) as staging:
        was_finished = staging.journal.recall("step") is not None
        if steps:
            finish_a_step(staging)
        if error is not None:
            raise error
        (staging.bundle / "manifest.json").write_text(NEW)
    return was_finished


def test_second_export_to_the_same_place_is_refused_and_disturbs_nothing(place: Path) -> None:
    with staged(place, force=False, resume=True) as first:
        finish_a_step(first)
        for resume in (True, False):
            with pytest.raises(UsageError, match=r"another export to .*tiny-onnx is running: wait for it, or choose"):
                export(place, resume=resume)
        assert first.journal.recall("step") == "done"
        (first.bundle / "manifest.json").write_text(NEW)
    assert (place / "manifest.json").read_text() == NEW
    assert export(place) is False


def test_exports_to_other_places_go_on_side_by_side(place: Path) -> None:
    with staged(place, force=False, resume=True) as first:
        assert export(place.with_name("tiny-coreml")) is False
        (first.bundle / "manifest.json").write_text(NEW)
    assert sorted(path.name for path in place.parent.iterdir()) == ["tiny-coreml", "tiny-onnx"]


KILLED = """
import os, signal, sys
from pathlib import Path
from tm_export.exporters.bundle.staging import staged

rename, moves = Path.rename, []
def killed(self, target):
    moves.append(self)
    if len(moves) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.rename = killed
with staged(Path(sys.argv[1]), force=False, resume=True) as staging:
    (staging.bundle / "block").write_bytes(b"finished")
    staging.journal.record("step", [staging.bundle / "block"], "done")
    (staging.bundle / "manifest.json").write_text(sys.argv[3])
"""


def export_and_be_killed(place: Path, before_move: int) -> None:
    """An export in a process of its own, which SIGKILL ends just before it moves a folder for the n-th time."""
    command = [sys.executable, "-c", KILLED, str(place), str(before_move), NEW]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


@pytest.mark.parametrize("before_move", [1, 2])
def test_old_bundle_is_there_again_after_a_kill_between_the_two_moves(place: Path, before_move: int) -> None:
    old_bundle(place)
    export_and_be_killed(place, before_move)
    assert place.exists() == (before_move == 1)
    with pytest.raises(KeyboardInterrupt):  # another try, which does not get to the end either
        export(place, KeyboardInterrupt())
    assert (place / "manifest.json").read_text() == OLD
    assert export(place) is True
    assert (place / "manifest.json").read_text() == NEW
    assert list(place.parent.iterdir()) == [place]


def test_kill_before_a_first_bundle_is_moved_into_place_leaves_only_what_can_be_gone_on_with(place: Path) -> None:
    export_and_be_killed(place, 1)
    assert [path.name for path in place.parent.iterdir()] == [hidden(place).name]
    assert export(place) is True
    assert list(place.parent.iterdir()) == [place]


def test_old_bundle_that_was_replaced_is_not_put_back(place: Path) -> None:
    """Killed after the second move, before the first one's folder was removed."""
    place.mkdir()
    (place / "manifest.json").write_text(NEW)
    (hidden(place) / "old").mkdir(parents=True)
    (hidden(place) / "old" / "manifest.json").write_text(OLD)
    with pytest.raises(ValueError):
        export(place, ValueError("a defect"), steps=False)
    assert (place / "manifest.json").read_text() == NEW
    assert list(place.parent.iterdir()) == [place]


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), FULL, ValueError("a defect")], ids=["Ctrl-C", "full", "defect"])
def test_finished_steps_are_kept_for_the_next_try(place: Path, error: BaseException) -> None:
    with pytest.raises(UsageError if error is FULL else type(error)):
        export(place, error)
    assert hidden(place).is_dir()
    assert export(place) is True
    assert list(place.parent.iterdir()) == [place]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), FULL, ValueError("a defect")], ids=["Ctrl-C", "full", "defect"])
def test_nothing_is_kept_if_no_step_is_finished_or_resuming_is_off(place: Path, error: BaseException) -> None:
    for choices in ({"steps": False}, {"resume": False}):
        with pytest.raises(UsageError if error is FULL else type(error)):
            export(place, error, **choices)
        assert list(place.parent.iterdir()) == []


def test_nothing_is_kept_of_a_model_that_is_refused(place: Path) -> None:
    with pytest.raises(ConversionRefused):
        export(place, ConversionRefused("no operator for it"))
    assert list(place.parent.iterdir()) == []


def test_no_resume_begins_anew(place: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        export(place, KeyboardInterrupt())
    assert export(place, resume=False) is False


def test_what_a_killed_export_was_writing_is_removed(place: Path) -> None:
    with pytest.raises(KeyboardInterrupt), staged(place, force=False, resume=True) as staging:
        finish_a_step(staging)
        (staging.scratch / "converting-x").mkdir()
        (staging.scratch / "converting-x" / "half").write_bytes(b"half of it")
        raise KeyboardInterrupt
    with staged(place, force=False, resume=True) as staging:
        assert [path.name for path in staging.scratch.iterdir()] == ["journal"]
        assert staging.journal.recall("step") == "done"


def test_finished_step_whose_file_was_damaged_since_is_done_again(place: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        export(place, KeyboardInterrupt())
    (hidden(place) / "new" / "block").write_bytes(b"finisheD")
    assert export(place) is False

"""A journal remembers what is finished and still whole, and nothing else."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tm_export.exporters.convert.journal import Journal, step_key


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    root = tmp_path / "bundle"
    (root / "model").mkdir(parents=True)
    (root / "model" / "00.onnx").write_bytes(b"graph")
    (root / "model" / "weights").write_bytes(bytes(1000))
    return Journal(tmp_path / "journal", root)


def record(journal: Journal, key: str = "step") -> None:
    journal.record(key, sorted((journal.root / "model").iterdir()), {"names": ["00"]})


def test_finished_step_is_recalled_with_its_note(journal: Journal) -> None:
    assert journal.recall("step") is None
    assert not journal.holds_anything()
    record(journal)
    assert journal.recall("step") == {"names": ["00"]}
    assert journal.recall("another") is None
    assert journal.holds_anything()
    assert Journal(journal.folder, journal.root).recall("step") == {"names": ["00"]}


def test_files_may_move_with_their_root(journal: Journal, tmp_path: Path) -> None:
    record(journal)
    moved = journal.root.rename(tmp_path / "elsewhere")
    assert journal.recall("step") is None
    assert Journal(journal.folder, moved).recall("step") is not None


@pytest.mark.parametrize(
    "content", [b"grapH", b"graph and more", b"", None], ids=["flipped", "longer", "empty", "missing"]
)
def test_step_whose_file_is_not_whole_must_be_done_again(journal: Journal, content: bytes | None) -> None:
    record(journal)
    artifact = journal.root / "model" / "00.onnx"
    artifact.unlink() if content is None else artifact.write_bytes(content)
    assert journal.recall("step") is None
    artifact.write_bytes(b"graph")
    assert journal.recall("step") is not None


@given(cut=st.integers(0, 10_000))
def test_record_that_was_cut_off_counts_for_nothing(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    root = tmp_path_factory.mktemp("bundle")
    (root / "file").write_bytes(b"graph")
    journal = Journal(root / "journal", root)
    journal.record("step", [root / "file"], "done")
    assert journal.recall("step") == "done"
    place = root / "journal" / "step.json"
    content = place.read_bytes()
    place.write_bytes(content[: cut % len(content)])
    assert journal.recall("step") is None


@pytest.mark.parametrize("text", ["[]", "3", '{"files": 3}', '{"files": [{"path": "file"}]}', '{"note": 1}'])
def test_what_is_no_record_counts_for_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "step.json").write_text(text)
    (tmp_path / "file").write_text("")
    assert Journal(tmp_path, tmp_path).recall("step") is None


def test_record_appears_whole_or_not_at_all(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        record(journal)
    monkeypatch.undo()
    assert journal.recall("step") is None
    assert not journal.holds_anything()
    record(journal)
    assert journal.recall("step") is not None


def test_step_that_is_recorded_again_holds_what_was_noted_last(journal: Journal) -> None:
    record(journal)
    journal.record("step", [], "nothing")
    assert journal.recall("step") == "nothing"


PARTS = st.lists(st.one_of(st.integers(), st.text(), st.tuples(st.text(), st.integers())), min_size=1, max_size=4)


@given(PARTS, PARTS)
def test_keys_are_equal_for_equal_parts_alone(one: list[object], other: list[object]) -> None:
    assert step_key(*one) == step_key(*one)
    assert (step_key(*one) == step_key(*other)) == (list(map(repr, one)) == list(map(repr, other)))

"""`tm-run chart`: answer questions about charts, and print how."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from tm_export.runtime.cli.console import Complaints, held_too_much
from tm_export.runtime.cli.options import (
    AsJson,
    BundleFolder,
    Debug,
    EngineName,
    MemoryBudget,
    PrefetchDepth,
    Request,
    Running,
    Seed,
    Threads,
    VerifyFiles,
    budget_of,
)
from tm_export.runtime.errors import OK, USAGE, UsageError

if TYPE_CHECKING:
    from tm_export.runtime.apps.charts.answer import Answered, Wishes
    from tm_export.runtime.apps.charts.batch import Outcome, Row
    from tm_export.runtime.apps.charts.write_text import Written
    from tm_export.runtime.loading.machinery import Machinery


@dataclass(frozen=True)
class Asked:
    """Questions on a command line; the names are those of the options."""

    image: Path
    question: str | None
    questions: Path | None
    answer: str
    temperature: float
    top_p: float
    seed: int
    max_new_tokens: int | None


_CHART, _TEXT = "Charts and questions", "The text that is written"

HELP: Final = """Answer a question about a chart, or many.

[bold]Examples[/bold]

tm-run chart out/tinychart-tiny-onnx --image chart.png --question "What is the sum of the two largest bars?"

tm-run chart out/tinychart-tiny-onnx --image charts --questions questions.csv -o answers.csv
"""


def parse(
    bundle: BundleFolder,
    image: Annotated[Path, typer.Option(help="The picture of a chart, or a folder of them.", rich_help_panel=_CHART)],
    question: Annotated[
        str | None, typer.Option(metavar="TEXT", help="About the picture, or about each.", rich_help_panel=_CHART)
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="CSV: image (in the folder), question, answer if known.", rich_help_panel=_CHART
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write many answers here as CSV.", rich_help_panel=_CHART)
    ] = None,
    answer: Annotated[
        Literal["combined", "program", "direct"],
        typer.Option(help="By a program, directly, or as the question's words suggest.", rich_help_panel=_TEXT),
    ] = "combined",
    temperature: Annotated[
        float, typer.Option(min=0, max=10, help="0 always writes the likeliest token.", rich_help_panel=_TEXT)
    ] = 0.0,
    top_p: Annotated[
        float,
        typer.Option(
            min=0.01, max=1, help="Above temperature 0: the likeliest tokens up to so much.", rich_help_panel=_TEXT
        ),
    ] = 0.7,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Of a text; default: as many as fit.", rich_help_panel=_TEXT)
    ] = None,
    seed: Seed = 0,
    memory_budget: MemoryBudget = "none",
    prefetch_depth: PrefetchDepth = 1,
    threads: Threads = None,
    engine: EngineName = None,
    verify_files: VerifyFiles = True,
    as_json: AsJson = False,
    debug: Debug = False,
) -> Request:
    """What this command line asks for."""
    running = Running(bundle, budget_of(memory_budget), prefetch_depth, threads, engine, verify_files, as_json, debug)
    asked = Asked(
        image=image,
        question=question,
        questions=questions,
        answer=answer,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        max_new_tokens=max_new_tokens,
    )
    return Request(running, partial(answer_asked, asked, out))


def answer_asked(asked: Asked, out: Path | None, machinery: Machinery, complaints: Complaints) -> int:
    """Answers and prints; returns the exit code."""
    from tm_export.runtime.apps.charts.answer import Wishes
    from tm_export.runtime.apps.charts.batch import rows_of_folder
    from tm_export.runtime.apps.charts.chart_reader import contract_of
    from tm_export.runtime.apps.charts.write_text import Choice

    wishes = Wishes(
        mode=asked.answer,  # type: ignore[arg-type]  # the command line offers these alone
        choice=Choice(asked.temperature, asked.top_p, asked.seed),
        max_new_tokens=asked.max_new_tokens,
    )
    contract_of(machinery.manifest)
    if asked.questions is not None:
        rows = _rows_of_file(asked, asked.questions)
    elif asked.question is None:
        raise UsageError("--image needs --question, or --questions for many")
    elif asked.image.is_dir():
        rows = rows_of_folder(asked.image, asked.question)
    elif out is not None:
        raise UsageError(f"--out {out} is for many answers, and this is one: leave it out")
    else:
        return _answer_one(asked.image, asked.question, machinery, wishes, complaints)
    return _answer_many(rows, machinery, wishes, out, complaints)


def _answer_one(image: Path, question: str, machinery: Machinery, wishes: Wishes, complaints: Complaints) -> int:
    from tm_export.runtime.apps.charts.answer import answer_chart
    from tm_export.runtime.apps.charts.chart_reader import contract_of
    from tm_export.runtime.apps.charts.picture import read_picture

    picture = read_picture(image, contract_of(machinery.manifest).canvas)
    for remark in picture.remarks:
        complaints.warn(remark)

    def say(piece: str) -> None:
        if not complaints.as_json:
            print(piece, end="", flush=True)

    answered = answer_chart(machinery, picture, question, wishes, say)
    code, complaint = held_too_much(answered.peak_rss_bytes, machinery.memory_budget)
    return complaints.conclude(code, complaint, _as_json(answered), lambda: _print(answered))


def _print(answered: Answered) -> None:
    from tm_export.runtime.readable import in_bytes, in_milliseconds

    answer, last = answered.answer, answered.answer.written[-1]
    print()
    if answer.reason:
        print(f"no answer by a program: {answer.reason}")
    print(f"answer: {answer.text} ({'by its program' if answer.source == 'program' else 'written directly'})")
    first = in_milliseconds((answered.picture_seconds + answer.written[0].first_seconds) * 1e3)
    print(
        f"first token after {first} (picture {in_milliseconds(answered.picture_seconds * 1e3)}, loads included), then "
        f"{last.tokens_per_second:.1f} tokens/s; {last.prompt_tokens} tokens read, {len(last.ids)} written; "
        f"peak RSS {in_bytes(answered.peak_rss_bytes)}"
    )
    if not last.is_whole:
        print("the text was cut off: allow more with --max-new-tokens, or export for more tokens")


def _as_json(answered: Answered) -> Mapping[str, Any]:
    answer = answered.answer
    return {
        "answer": answer.text,
        "source": answer.source,
        "reason": answer.reason,
        "picture_seconds": answered.picture_seconds,
        "peak_rss_bytes": answered.peak_rss_bytes,
        "written": [_written_as_json(each) for each in answer.written],
    }


def _written_as_json(written: Written) -> Mapping[str, Any]:
    return {
        "text": written.text,
        "is_whole": written.is_whole,
        "prompt_tokens": written.prompt_tokens,
        "tokens": len(written.ids),
        "first_token_seconds": written.first_seconds,
        "tokens_per_second": written.tokens_per_second,
    }


def _rows_of_file(asked: Asked, questions: Path) -> tuple[Row, ...]:
    from tm_export.runtime.apps.charts.batch import read_rows

    if not asked.image.is_dir():
        raise UsageError(f"--image {asked.image} is no folder: --questions needs the one with its pictures")
    if asked.question is not None:
        raise UsageError("--question does not go with --questions: give one of them")
    return read_rows(questions, asked.image)


def _answer_many(
    rows: tuple[Row, ...],
    machinery: Machinery,
    wishes: Wishes,
    out: Path | None,
    complaints: Complaints,
) -> int:
    from tm_export.runtime.apps.charts.answer import answer_many
    from tm_export.runtime.apps.charts.batch import write_outcomes

    def tell(number: int, outcome: Outcome) -> None:
        if not complaints.as_json:
            shown = outcome.answer.text if outcome.answer else f"({outcome.problem})"
            print(f"{number} of {len(rows)}: {outcome.row.image.name}: {outcome.row.question} {shown}", flush=True)

    outcomes = answer_many(machinery, rows, wishes, tell)
    if out is not None:
        try:
            write_outcomes(out, outcomes)
        except OSError as error:
            raise UsageError(f"--out {out} cannot be written ({error.strerror}): name another file") from None
    known = [each.is_right for each in outcomes if each.is_right is not None]
    failed = [each for each in outcomes if each.answer is None]
    code = USAGE if failed else OK
    if complaints.as_json:
        found = {"answers": len(outcomes) - len(failed), "known": len(known), "right": sum(known)}
        rest = {"rows": [_row_as_json(each) for each in outcomes]}
        print(json.dumps({"exit_code": code, **found, **rest}, indent=2))
    else:
        right = f"; {sum(known)} of {len(known)} right by relaxed accuracy" if known else ""
        print(f"{len(outcomes) - len(failed)} of {len(outcomes)} answered{right}")
    if failed:
        complaints.say(f"{len(failed)} of {len(outcomes)} questions have no answer; the first: {failed[0].problem}")
    return code


def _row_as_json(outcome: Outcome) -> Mapping[str, Any]:
    answer = outcome.answer
    return {
        "image": outcome.row.image.name,
        "question": outcome.row.question,
        "answer": answer.text if answer else None,
        "source": answer.source if answer else None,
        "text": answer.written[0].text if answer else None,
        "right": outcome.is_right,
        "problem": outcome.problem,
    }

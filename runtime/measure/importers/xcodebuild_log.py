"""Reads the log of `xcodebuild test`, whose tests call XCTest's `measure`.

A line names the test, the metric and its unit, the average (three decimals), and every value:
`Test Case '-[Target.Class test]' measured [Clock Monotonic Time, s] average: 0.004, relative standard deviation: 17.2%,
values: [0.005643, …], …`. Older toolchains call the clock `Time, seconds`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tm_export.runtime.measure.importers.stated import Stated
from tm_export.runtime.measure.latency_report import (
    Conditions,
    Device,
    EngineInfo,
    Figure,
    LatencyReport,
    Quantity,
    ResourceUse,
    Series,
)
from tm_export.runtime.measure.reading import UnreadableFile, read_text
from tm_export.runtime.measure.report_terms import Build, DeviceKind

_EXPECTED: Final = "a log of xcodebuild test whose tests call measure (with their values)"
_LINE: Final = re.compile(
    r"[Tt]est [Cc]ase '(?P<test>[^']+)' measured \[(?P<metric>[^\]]+), (?P<unit>[^\],]+)\] "
    r"average: (?P<average>[-+.\deE]+), relative standard deviation: [^,]*, values: \[(?P<values>[^\]]*)\]"
)
_MENTION: Final = re.compile(r"\bmeasured \[[^\]]*\]")
_PLATFORM: Final = re.compile(r"platform[=:] ?(?P<platform>[A-Za-z]+(?: Simulator)?)")
# An apostrophe ends a name only where it is a quote: "Anna's iPhone" is a name.
_DEVICE_NAME: Final = re.compile(r"platform[=:][^\n]*?\bname[=:](?P<name>(?:(?! -\w)(?:[^,'\"}\n]|'(?=\w)))+)")
_OS: Final = re.compile(r"platform[=:][^\n]*?\bOS[=:](?P<version>[\d.]+)")
_BUILD: Final = re.compile(r"-configuration (?P<build>Debug|Release)\b")
_TIMES: Final = {"Clock Monotonic Time", "Time", "Wall Clock Time"}
_PEAK: Final = "Memory Peak Physical"
_SECONDS: Final = {"s": 1.0, "seconds": 1.0, "ms": 1e-3}
_BYTES: Final = {"kB": 1000, "KB": 1000, "MB": 1000**2, "B": 1}
_HALF_DIGIT: Final = 0.0006  # averages are printed with three decimals


@dataclass(frozen=True)
class _Measured:
    """One line: a test, a metric, and its values."""

    test: str
    metric: str
    unit: str
    values: tuple[float, ...]


def read(path: Path, stated: Stated) -> tuple[LatencyReport, ...]:
    """One report: each test is a component of it.

    Clock times become series, of loads for tests whose name says load, of runs for all others; peak memory becomes a
    resource use; the averages of other metrics become figures. The device and the build are those of the log's
    `-destination` and `-configuration` where it shows them.

    Raises:
        UnreadableFile: it has no such lines or one is damaged.
    """
    text = read_text(path, _EXPECTED).replace("\\ ", " ")  # a shell's way to write a blank
    measured = [_measured(path, match) for match in _LINE.finditer(text)]
    if len(measured) < len(_MENTION.findall(text)):
        number = next(
            n for n, line in enumerate(text.splitlines(), 1) if _MENTION.search(line) and not _LINE.search(line)
        )
        raise UnreadableFile(f"{path} is damaged in line {number}: it says 'measured', but lists no values")
    if not any(line.metric in _TIMES for line in measured):
        raise UnreadableFile(f"{path} has no line with a measured clock time; name {_EXPECTED}")
    return (
        LatencyReport(
            source="xcodebuild",
            model=path.stem,
            device=_device(text, stated),
            engine=EngineInfo(name="not stated"),
            conditions=Conditions(build=_build(text, stated)),
            series=tuple(_series(path, measured)),
            resources=tuple(_resources(measured)),
            figures=tuple(_figures(measured)),
        ),
    )


def _measured(path: Path, match: re.Match[str]) -> _Measured:
    where = f"{path}: [{match['metric']}, {match['unit']}] of {match['test']}"
    try:
        values = tuple(float(value) for value in match["values"].split(","))
        average = float(match["average"])
    except ValueError:
        raise UnreadableFile(f"{where} has values that are no numbers: [{match['values']}]") from None
    if not all(math.isfinite(value) for value in values):
        raise UnreadableFile(f"{where} has values that are not finite: [{match['values']}]")
    mean = math.fsum(values) / len(values)
    if abs(mean - average) > _HALF_DIGIT:
        raise UnreadableFile(
            f"{where} states the average {average}, its values have {mean:.6f}: the line is damaged; log again"
        )
    # '-[Target.Class test]' is how Objective-C names a method; Swift's own runner writes 'Class.test'.
    test = match["test"].removeprefix("-[").removesuffix("]").removesuffix("()").replace(" ", ".")
    return _Measured(test, match["metric"], match["unit"], values)


def _series(path: Path, measured: list[_Measured]) -> Iterator[Series]:
    taken: set[tuple[str, Quantity]] = set()
    for line in measured:
        if line.metric not in _TIMES:
            continue
        if line.unit not in _SECONDS:
            units = ", ".join(_SECONDS)
            raise UnreadableFile(f"{path}: {line.metric!r} of {line.test} is in {line.unit!r}; known are {units}")
        if min(line.values) < 0:
            raise UnreadableFile(f"{path}: {line.metric!r} of {line.test} is negative: {min(line.values)}")
        quantity: Quantity = "load" if "load" in line.test.rpartition(".")[2].lower() else "run"
        if (line.test, quantity) in taken:
            raise UnreadableFile(f"{path} has the clock time of {line.test} twice; import one run of the tests")
        taken.add((line.test, quantity))
        yield Series.of(quantity, [1e3 * _SECONDS[line.unit] * value for value in line.values], component=line.test)


def _resources(measured: list[_Measured]) -> Iterator[ResourceUse]:
    for line in measured:
        if line.metric == _PEAK and line.unit in _BYTES:
            peak = round(max(0.0, max(line.values)) * _BYTES[line.unit])
            yield ResourceUse(component=line.test, measure="footprint", peak_bytes=peak)


def _figures(measured: list[_Measured]) -> Iterator[Figure]:
    for line in measured:
        if line.metric not in _TIMES and not (line.metric == _PEAK and line.unit in _BYTES):
            mean = math.fsum(line.values) / len(line.values)
            yield Figure(component=line.test, name=f"{line.metric}, mean", value=mean, unit=line.unit)


def _device(text: str, stated: Stated) -> Device:
    platform = _first(_PLATFORM, "platform", text)
    name = _first(_DEVICE_NAME, "name", text)
    return Device(
        name=stated.device or name or "device not stated",
        kind=_kind(platform, name, stated.device_kind),
        os=platform.removesuffix(" Simulator") if platform else None,
        os_version=_first(_OS, "version", text),
    )


def _kind(platform: str | None, name: str | None, stated: DeviceKind) -> DeviceKind:
    if platform is None:
        return stated
    if platform.endswith("Simulator"):
        return "emulator"
    if platform == "macOS":
        return "desktop"
    known: dict[str, DeviceKind] = {"iPhone": "phone", "iPad": "tablet"}
    return next((kind for mark, kind in known.items() if mark in (name or "")), stated)


def _build(text: str, stated: Stated) -> Build:
    builds: dict[str, Build] = {"Debug": "debug", "Release": "release"}
    build = _first(_BUILD, "build", text)
    return builds[build] if build else stated.build


def _first(pattern: re.Pattern[str], group: str, text: str) -> str | None:
    match = pattern.search(text)
    return match[group].strip() or None if match else None

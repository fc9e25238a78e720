"""The words that reports, importers and the command line share; nothing is imported, so that `--help` is quick."""

from __future__ import annotations

from typing import Literal

DeviceKind = Literal["phone", "tablet", "desktop", "emulator", "unknown"]
Build = Literal["release", "debug", "unknown"]
PageCache = Literal["dropped", "kept", "unknown"]
ImportFormat = Literal["executorch", "ort", "xcodebuild", "ai-hub"]

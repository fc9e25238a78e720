"""What this machine is and how it stands: the device and the conditions of a desktop report."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from tm_export.runtime.measure.latency_report import Conditions, Device
from tm_export.runtime.measure.report_terms import Build

_STAT = Path("/proc/stat")
_SHORTEST_S = 0.5  # the kernel counts in steps of 10 ms
_CPUINFO = Path("/proc/cpuinfo")
_PRODUCT = Path("/sys/class/dmi/id/product_name")
_SUPPLIES = Path("/sys/class/power_supply")


def this_device() -> Device:
    """This desktop, by its product's name (never its network name), CPU, cores and memory."""
    system = {"Darwin": "macOS"}.get(platform.system(), platform.system())
    return Device(
        name=_product() or f"{system} computer ({platform.machine()})",
        kind="desktop",
        os=system,
        os_version=platform.mac_ver()[0] if system == "macOS" else platform.release(),
        cpu=_cpu(),
        cores=os.cpu_count(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        virtual_machine=_is_virtual(),
    )


def present_conditions() -> Conditions:
    """The conditions now, before anything is measured."""
    return Conditions(
        build=_build(),
        date=datetime.now(UTC).replace(microsecond=0),
        power=_power(),
        load_average=round(os.getloadavg()[0], 2),
    )


def storage_bytes_read() -> int | None:
    """What this process has made the OS read from storage so far (Linux: read_bytes of /proc/self/io), or None."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("read_bytes:")), None)


class OtherLoad:
    """How many cores other processes keep busy, and a virtual machine's host takes away, from when it is made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._busy = _busy_seconds()
        self._own = time.process_time()

    def cores(self) -> float | None:
        """The mean since then; None where the OS does not tell, or too short a time has passed to tell."""
        elapsed = time.perf_counter() - self._start
        busy = _busy_seconds()
        if self._busy is None or busy is None or elapsed < _SHORTEST_S:
            return None
        others = (busy - self._busy) - (time.process_time() - self._own)
        return round(max(0.0, others / elapsed), 2)


def _busy_seconds() -> float | None:
    """The time that all cores have been busy since the system started (Linux: /proc/stat)."""
    if not _STAT.exists():
        return None
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = map(int, _STAT.read_text().split()[1:9])
    return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")


def _build() -> Build:
    """Engines come as release wheels; an interpreter built for debugging slows what lies between them."""
    return "debug" if hasattr(sys, "gettotalrefcount") else "release"


def _product() -> str | None:
    if platform.system() == "Darwin":
        return _sysctl("hw.model")
    return _PRODUCT.read_text().strip() or None if _PRODUCT.exists() else None


def _cpu() -> str | None:
    if platform.system() == "Darwin":
        return _sysctl("machdep.cpu.brand_string")
    return _cpuinfo("model name") or platform.processor() or None


def _is_virtual() -> bool | None:
    flags = _cpuinfo("flags")
    return None if flags is None else "hypervisor" in flags.split()


def _cpuinfo(key: str) -> str | None:
    if not _CPUINFO.exists():
        return None
    for line in _CPUINFO.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip() or None
    return None


def _power() -> Literal["external", "battery", "unknown"]:
    supplies = sorted(_SUPPLIES.iterdir()) if _SUPPLIES.exists() else []
    if any(_read(supply / "online") == "1" for supply in supplies):
        return "external"
    return "battery" if any(_read(supply / "status") == "Discharging" for supply in supplies) else "unknown"


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _sysctl(name: str) -> str | None:
    done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None

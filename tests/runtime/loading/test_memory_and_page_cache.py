"""Watching memory, dropping the page cache, and noticing other work: held to what this test itself does."""

import mmap
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from tests.support.waiting import wait_until
from tm_export.runtime.loading.memory import MemorySampler, sample_memory
from tm_export.runtime.measure.machine import OtherLoad, present_conditions, storage_bytes_read, this_device
from tm_export.runtime.measure.page_cache import cached_bytes, drop_page_cache

MB = 10**6
linux_only = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux's /proc and page cache")


@linux_only
def test_anonymous_memory_is_seen_as_such() -> None:
    with MemorySampler() as sampler:
        before = sampler.samples[0]
        block = np.ones(64 * MB, np.uint8)
        held = sample_memory()
        wait_until(lambda: sampler.samples[-1].time_ns > held.time_ns)
        del block
    assert held.anonymous_bytes - before.anonymous_bytes == pytest.approx(64 * MB, rel=0.1)
    assert held.rss_bytes == held.anonymous_bytes + held.file_backed_bytes
    assert sampler.peak_rss_bytes() - before.rss_bytes == pytest.approx(64 * MB, rel=0.1)
    assert max(sample.rss_bytes for sample in sampler.samples) - before.rss_bytes > 50 * MB
    times = [sample.time_ns for sample in sampler.samples]
    assert times == sorted(times) and len(times) > 3


@linux_only
def test_the_pages_of_a_mapped_file_are_seen_as_such(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(32 * MB))
    before = sample_memory()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[offset] for offset in range(0, 32 * MB, mmap.PAGESIZE)) > 0
        held = sample_memory()
    assert held.file_backed_bytes - before.file_backed_bytes == pytest.approx(32 * MB, rel=0.1)
    assert abs(held.anonymous_bytes - before.anonymous_bytes) < 4 * MB


@linux_only
def test_a_peak_between_two_samples_is_not_lost() -> None:
    with MemorySampler(interval_s=60) as sampler:
        before = sampler.samples[0].rss_bytes
        with mmap.mmap(-1, 64 * MB) as taken:  # not of an allocator, which may have as much left over
            for offset in range(0, 64 * MB, mmap.PAGESIZE):
                taken[offset] = 1
        assert len(sampler.samples) == 1
        assert sampler.peak_rss_bytes() - before == pytest.approx(64 * MB, rel=0.1)
    with MemorySampler(interval_s=60) as sampler:  # an earlier peak is not this one's
        assert sampler.peak_rss_bytes() - before < 32 * MB


@linux_only
def test_dropped_files_are_read_from_storage_again(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(8 * MB))
    assert cached_bytes(path) == 8 * MB
    assert drop_page_cache([path]) == "dropped"
    assert cached_bytes(path) == 0
    before = storage_bytes_read()
    path.read_bytes()
    after = storage_bytes_read()
    assert cached_bytes(path) == 8 * MB
    assert before is not None and after is not None
    assert after - before == pytest.approx(8 * MB, rel=0.05)


@linux_only
def test_files_that_cannot_be_dropped_are_not_called_cold(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(MB))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[::4096]) > 0  # pages that a process has mapped stay
        assert drop_page_cache([path]) == "kept"
    assert drop_page_cache([path]) == "dropped"


@linux_only
def test_an_empty_file_has_nothing_to_drop(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert drop_page_cache([tmp_path / "empty"]) == "dropped"


def burn() -> None:
    while True:
        pass


@linux_only
def test_work_of_another_process_is_noticed() -> None:
    other = multiprocessing.get_context("fork").Process(target=burn)
    load = OtherLoad()
    other.start()
    try:
        wait_until(lambda: (load.cores() or 0) > 0.3)
    finally:
        other.kill()
        other.join()
    assert OtherLoad().cores() is None  # too short a time


def test_this_device_is_a_desktop_without_its_network_name() -> None:
    device = this_device()
    assert device.kind == "desktop" and device.os and device.cores == os.cpu_count()
    assert os.uname().nodename not in device.name.split()
    assert device.memory_bytes is not None and device.memory_bytes > 10**9
    assert present_conditions().build == "release"

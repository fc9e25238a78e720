"""What every export of a merging model must come to."""

from collections import Counter

from tm_export.exporters.record.records import ExportReport


def require_verified(report: ExportReport, target: str) -> None:
    """Every artifact computes what PyTorch does, merges merge, and XNNPACK's delegate is cut at merges alone."""
    engines = {record.engine for record in report.parity}
    assert len(engines) >= 2 and "rewrite" in engines
    for record in report.parity:
        assert record.passed, record
        assert record.relative_error <= 1e-4, record
    merged = [site for site in report.merges if site.variant == "merged"]
    assert merged and all(site.tokens_after < site.tokens_before for site in merged if site.kind == "merge")
    if target == "executorch":
        merging = {site.component for site in merged}
        regions: Counter[str] = Counter()
        for each in report.placement:
            if each.component in merging:
                regions[each.variant] += each.regions
        merges = sum(site.kind == "merge" for site in merged)
        assert regions["merged"] <= regions["full"] + merges

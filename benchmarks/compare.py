"""What became faster or slower since an older run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from .results import Measurement, Results
from .tables import MODE_NAMES, Table, duration

LEAST = 0.1  # a smaller change than this part says nothing on a machine that does other things, too


class Change(NamedTuple):
    """One measurement, then and now."""

    old: Measurement
    new: Measurement

    @property
    def factor(self) -> float:
        """How many times as long it takes now; NaN if one of the two has no time."""
        return self.new.seconds / self.old.seconds

    @property
    def matters(self) -> bool:
        """Whether it changed by more than both spreads together, and more than `LEAST`; or in its status."""
        if self.old.status != self.new.status:
            return True
        noise = max(LEAST, 2 * (self.old.spread + self.new.spread))
        return self.new.status == "ok" and not 1 / (1 + noise) <= self.factor <= 1 + noise

    @property
    def verdict(self) -> str:
        """In words.

        Examples
        --------
        >>> m = Measurement("rnn", "6x3x10x20", "float32", 1, "cpu", "floor", "forward", "ok", samples=(1.0, 1.0))
        >>> Change(m, m._replace(samples=(2.0, 2.0))).verdict
        '2.00 times slower'
        """
        if self.old.status != self.new.status:
            return f"was {self.old.status}, is {'WRONG' if self.new.status == 'wrong' else self.new.status}"
        if self.factor > 1:
            return f"{self.factor:.2f} times slower"
        return f"{1 / self.factor:.2f} times faster"


def changes(old: Results, new: Results) -> list[Change]:
    """All that is in both, in the new run's order."""
    before = {m.key: m for m in old.measurements}
    return [Change(before[m.key], m) for m in new.measurements if m.key in before]


def table(found: list[Change]) -> Table:
    """What changed, the slowest first; changes of status before all."""
    rows = [
        [
            c.new.contestant,
            MODE_NAMES[c.new.mode],
            c.new.setting.label,
            duration(c.old.seconds) if c.old.status == "ok" else c.old.status,
            duration(c.new.seconds) if c.new.status == "ok" else c.new.status,
            c.verdict,
        ]
        for c in sorted(found, key=lambda c: (c.old.status == c.new.status, -c.factor if c.factor == c.factor else 0))
        if c.matters
    ]
    title = f"{len(found)} measurements compared, {len(rows)} changed beyond the noise"
    return Table(title, ["contestant", "mode", "setting", "old", "new", ""], rows, labels=3)


def different_machines(old: Results, new: Results) -> Iterator[str]:
    """What of the environment differs, so that times may differ for that reason."""
    for key in ("cpu", "cores", "system", "python", "device"):
        a, b = old.environment.get(key), new.environment.get(key)
        if a != b:
            yield f"{key} was {a}, is {b}"
    a_versions, b_versions = _versions(old), _versions(new)
    for package in sorted(a_versions.keys() & b_versions.keys()):
        if a_versions[package] != b_versions[package]:
            yield f"{package} was {a_versions[package]}, is {b_versions[package]}"


def _versions(results: Results) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for process in results.processes:
        found |= process.get("versions", {})
        for library in process.get("libraries", []):
            if "architecture" in library:
                found[f"{library['internal_api']} core"] = library["architecture"]
    return found

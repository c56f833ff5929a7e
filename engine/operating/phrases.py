"""How names, durations, sizes, numbers and shards are written for people, on any terminal."""

from collections.abc import Iterable


def describe_shards(shards: Iterable[int]) -> str:
    """Shards as `0-3,8`, which `--shards` reads."""
    runs: list[list[int]] = []
    for shard in sorted(shards):
        if runs and runs[-1][-1] == shard - 1:
            runs[-1][1:] = [shard]
        else:
            runs.append([shard])
    return ",".join("-".join(map(str, run)) for run in runs)


def describe_seconds(seconds: float) -> str:
    """A duration in the unit that one would say it in."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"


def describe_latency(seconds: float) -> str:
    """A short time in milliseconds, a long one as one would say it."""
    return f"{seconds * 1000:.0f} ms" if seconds < 2 else describe_seconds(seconds)


def describe_bytes(size: float) -> str:
    """A size in the unit that one would say it in."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def printable(text: str) -> str:
    """The text with what would steer a terminal written out: escapes, newlines, bidi marks."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def describe_count(number: int, thing: str, things: str | None = None) -> str:
    """So many things; `things` where they are no `thing` with an s."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"

"""Instants and spans as a person reads them."""

from datetime import datetime, timedelta


def parse_instant(text: str) -> datetime:
    """Read an instant in RFC 3339; what is finer than a microsecond is dropped."""
    return datetime.fromisoformat(text)


def format_instant(at: datetime) -> str:
    """`20 Jul 2020 01:07:44 UTC`"""
    return at.strftime("%d %b %Y %H:%M:%S %Z")


def format_duration(span: timedelta) -> str:
    """`42s`, `3m26s`, `1h0m0s`: whole seconds."""
    minutes, seconds = divmod(max(0, int(span.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def format_short_duration(span: timedelta) -> str:
    """`20.123s`, `1m2.5s`, `15ms`: down to the millisecond."""
    milliseconds = span // timedelta(milliseconds=1)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "<1ms"
    minutes, milliseconds = divmod(milliseconds, 60_000)
    seconds = f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"


def format_age(span: timedelta) -> str:
    """`5s`, `3m`, `47h`, `2d`: the largest unit alone."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 60 * 60:
        return f"{seconds // 60}m"
    if seconds < 48 * 60 * 60:
        return f"{seconds // 3600}h"
    return f"{seconds // 86400}d"


def format_rate(per_second: float) -> str:
    """`5.2 batches/s`, `1.5 batches/min`"""
    return f"{per_second:.1f} batches/s" if per_second >= 1 else f"{60 * per_second:.1f} batches/min"

"""What a station tells the operator: frames, with what lies behind them."""

import asyncio
from collections.abc import Iterable

from cortex.domain.frame import Message

Told = Message | asyncio.Future[Iterable[Message]]
"""What is told, be it that it is not known yet: what is told after it waits for that."""

"""Requests from a process of its own: many connections that each send the next when the last is answered.

    python -m benchmarks.http_load ADDRESS SECONDS CONNECTIONS PAUSE_SECONDS (GET PATH | POST PATH BODY)

It prints how long each answer took, in seconds, as a JSON array.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from benchmarks.connection import Connection
from benchmarks.options import ROOT


class HttpLoad:
    """A load that has begun; the times are there at its end."""

    def __init__(self, address: str, seconds: float, connections: int, pause_seconds: float, *request: str) -> None:
        numbers = [str(number) for number in (seconds, connections, pause_seconds)]
        command = [sys.executable, "-m", "benchmarks.http_load", address, *numbers, *request]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def times(self) -> list[float]:
        """Wait for its end; give the seconds of each answer."""
        output, _ = self._process.communicate()
        times: list[float] = json.loads(output)
        return times


def send_requests(connection: Connection, until: float, pause_seconds: float, request: Sequence[str]) -> list[float]:
    """Send one after the other until an instant."""
    method, path, *rest = request
    times = []
    while (began_at := time.perf_counter()) < until:
        if method == "GET":
            connection.get(path)
        else:
            connection.post(path, rest[0].encode())
        times.append(time.perf_counter() - began_at)
        time.sleep(pause_seconds)
    return times


def main() -> None:
    """Send what the arguments say."""
    address, seconds, connections, pause_seconds, *request = sys.argv[1:]
    until, times = time.perf_counter() + float(seconds), list[float]()

    def one() -> None:
        connection = Connection(address)
        times.extend(send_requests(connection, until, float(pause_seconds), request))
        connection.close()

    threads = [threading.Thread(target=one) for _ in range(int(connections))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(times))


if __name__ == "__main__":
    main()

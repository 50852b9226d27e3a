"""The leanest client that the standard library has: what is timed over HTTP goes through it, ours and the baseline."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit


class Connection:
    """One connection that stays open."""

    def __init__(self, address: str, timeout_seconds: float = 600) -> None:
        self._http = http.client.HTTPConnection(urlsplit(address).netloc, timeout=timeout_seconds)

    def post(self, path: str, body: bytes) -> dict[str, Any]:
        """Send JSON; give what is answered."""
        answer: dict[str, Any] = json.loads(self.post_for_text(path, body))
        return answer

    def post_for_text(self, path: str, body: bytes) -> bytes:
        """Send JSON; give the text that is answered."""
        self._http.request("POST", path, body, {"Content-Type": "application/json"})
        return self._answer()

    def get(self, path: str) -> dict[str, Any]:
        """Ask for JSON; again where the server has meanwhile closed a connection that was idle."""
        try:
            text = self._get(path)
        except http.client.RemoteDisconnected:
            text = self._get(path)
        answer: dict[str, Any] = json.loads(text)
        return answer

    def _get(self, path: str) -> bytes:
        self._http.request("GET", path)
        return self._answer()

    def stream(self, path: str) -> http.client.HTTPResponse:
        """Ask for something long, to be read to its end."""
        self._http.request("GET", path)
        response = self._http.getresponse()
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{path} was answered with {response.status}: {response.read()[:300]!r}")
        return response

    def _answer(self) -> bytes:
        response = self._http.getresponse()
        text = response.read()
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"the answer was {response.status}: {text[:300]!r}")
        return text

    def close(self) -> None:
        """Close it."""
        self._http.close()

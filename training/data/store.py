"""Every answer of a teacher, kept under its request: no run pays twice for what has arrived."""

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any


class Store:
    """One SQLite file; several processes may share it, and a killed one leaves it whole."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS answers (request TEXT PRIMARY KEY, body TEXT)")

    def get(self, request: dict[str, Any]) -> str | None:
        """The answer's JSON, or None if this very request was never answered."""
        row = self._db.execute("SELECT body FROM answers WHERE request = ?", (_key(request),))
        found: tuple[str] | None = row.fetchone()
        return found and found[0]

    def put(self, request: dict[str, Any], body: str) -> None:
        """Keep an answer; it is on its way to the disk when this returns."""
        self._db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (_key(request), body))

    def close(self) -> None:
        self._db.close()


def _key(request: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()

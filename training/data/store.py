"""Each answer of a teacher and verdict of the sandbox, kept: no run pays twice for what arrived."""

import sqlite3
from pathlib import Path
from threading import Lock
from time import sleep

from magicoder.errors import UsageError


class Store:
    """One SQLite file; threads and processes may share it, and a killed one leaves it whole.

    An answer is on its way to the disk when `put` returns: it outlives the process, and a power cut
    can take back only the last few. A second process that writes is waited for.

    Raises:
        UsageError: the file cannot be made, or is something else.
    """

    def __init__(self, path: Path) -> None:
        self._lock = Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open(path)
        except (OSError, sqlite3.DatabaseError) as error:
            raise UsageError(
                f"{path} cannot keep answers ({error}): name another store, or move it away"
            ) from None

    def _open(self, path: Path) -> None:
        self._db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        # Here alone SQLite does not wait for another process that makes the same file
        for patience in range(200, -1, -1):
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or not patience:
                    raise
                sleep(0.05)
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS answer"
            " (key TEXT PRIMARY KEY, max_tokens INTEGER, cut INTEGER, body TEXT)"
        )
        self._db.execute("CREATE TABLE IF NOT EXISTS verdict (key TEXT PRIMARY KEY, json TEXT)")

    def get(self, key: str, max_tokens: int) -> str | None:
        """The answer's JSON, or None if it never came, or was cut at fewer tokens than now."""
        return self._one(
            "SELECT body FROM answer WHERE key = ? AND NOT (cut AND max_tokens < ?)",
            key,
            max_tokens,
        )

    def put(self, key: str, body: str, *, max_tokens: int, cut: bool) -> None:
        """Keep an answer, `cut` or not at `max_tokens`; a later one with fewer doesn't undo it."""
        with self._lock:
            self._db.execute(
                "INSERT INTO answer VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET"
                " max_tokens = excluded.max_tokens, cut = excluded.cut, body = excluded.body"
                " WHERE answer.cut AND excluded.max_tokens > answer.max_tokens",
                (key, max_tokens, cut, body),
            )

    def verdict(self, key: str) -> str | None:
        """The JSON that was kept under `key`, or None."""
        return self._one("SELECT json FROM verdict WHERE key = ?", key)

    def keep_verdict(self, key: str, json: str) -> None:
        """Keep what is known about `key`, for this run and the next."""
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO verdict VALUES (?, ?)", (key, json))

    def close(self) -> None:
        self._db.close()

    def _one(self, query: str, *values: str | int) -> str | None:
        with self._lock:
            found: tuple[str] | None = self._db.execute(query, values).fetchone()
        return found and found[0]

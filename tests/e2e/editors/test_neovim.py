"""Real Neovims with the plugin, on the real server: 0.12, and 0.10 with the plugin's ghost text."""

import ast
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import pyte
import pytest

pytestmark = pytest.mark.e2e

T = TypeVar("T")
ROOT = Path(__file__).parents[3]
PLUGIN = ROOT / "editors" / "neovim"
EDITORS = ROOT / "build" / "editors"
ROWS, COLUMNS = 14, 68
AREA = "import math\n\n\ndef area(radius):\n    return\n\n\nprint(area(2))\n"


class Neovim:
    """One Neovim with the plugin, driven over its RPC by its own command line."""

    def __init__(self, version: str, folder: Path, init: str) -> None:
        self.folder = folder
        self.terminal = pyte.Screen(COLUMNS, ROWS)
        self.program = str(EDITORS / f"nvim-{version}" / "nvim")
        self.socket = str(folder / "nvim.sock")
        config = folder / "init.lua"
        config.write_text(f"vim.opt.runtimepath:prepend({json.dumps(str(PLUGIN))})\n{init}\n")
        home = {name: str(folder / name) for name in ("XDG_STATE_HOME", "XDG_DATA_HOME")}
        self.process = subprocess.Popen(
            [self.program, "--headless", "--clean", "--listen", self.socket, "-u", str(config)],
            cwd=folder,
            env={**os.environ, **home},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait(lambda: Path(self.socket).exists())

    def _remote(self, *arguments: str) -> str:
        command = [self.program, "--clean", "--server", self.socket, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout or done.stderr  # 0.10 answers on standard error

    def lua(self, expression: str) -> Any:
        """The value of a Lua expression."""
        quoted = expression.replace("'", "''")
        return json.loads(self._remote("--remote-expr", f"json_encode(luaeval('{quoted}'))"))

    def run(self, code: str) -> None:
        """Run Lua statements."""
        self.lua(f"(function() {code} end)()")

    def keys(self, keys: str) -> None:
        """Type keys, written as in a mapping; does not wait for what they do."""
        self._remote("--remote-send", keys)

    def edit(self, name: str, text: str) -> None:
        """Open a file with this text, and wait for the language server."""
        path = self.folder / name
        path.write_text(text)
        self.run(f"vim.cmd.edit({json.dumps(str(path))})")
        wait(lambda: self.lua("#vim.lsp.get_clients({ bufnr = 0 }) > 0"))

    def ready(self) -> None:
        """Wait until the language server has found the model."""
        wait(lambda: self.lua("require('magicoder').status()") == "smollm2-135m")

    @property
    def lines(self) -> list[str]:
        """The text of the current buffer."""
        lines: list[str] = self.lua("vim.api.nvim_buf_get_lines(0, 0, -1, false)")
        return lines

    @property
    def ghost(self) -> str:
        """The ghost text on the screen, read from the marks that draw it."""
        text: str = self.lua(
            """(function()
              local lines = {}
              for _, name in ipairs({ "nvim.lsp.inline_completion", "magicoder" }) do
                local space = vim.api.nvim_create_namespace(name)
                local all = { details = true }
                for _, mark in ipairs(vim.api.nvim_buf_get_extmarks(0, space, 0, -1, all)) do
                  lines[#lines + 1] = mark[4].virt_text[1][1]
                  for _, line in ipairs(mark[4].virt_lines or {}) do
                    lines[#lines + 1] = line[1][1]
                  end
                end
              end
              return table.concat(lines, "\\n")
            end)()"""
        )
        return text

    def suggested(self, keys: str) -> str:
        """Type keys, and wait until ghost text is shown; gives it."""
        self.keys(keys)
        return wait(lambda: self.ghost)

    def health(self) -> str:
        """What :checkhealth magicoder says."""
        self.run("vim.cmd('checkhealth magicoder')")
        wait(lambda: any("keys" in line or "ERROR" in line for line in self.lines))
        return "\n".join(self.lines)

    def attach(self) -> None:
        """Show it in a terminal: without one nothing is painted and no question is asked."""
        screen, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        subprocess.Popen(
            [self.program, "--server", self.socket, "--remote-ui"],
            env={**os.environ, "TERM": "xterm-256color"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)

        stream = pyte.ByteStream(self.terminal)

        def drain() -> None:
            with suppress(OSError):  # its end
                while written := os.read(screen, 65536):
                    # What asks the terminal something, the emulator would show as text.
                    stream.feed(re.sub(rb"\x1b(P.*?\x1b\\\\|\[[?>=][^a-z]*[pu])", b"", written))
            os.close(screen)

        threading.Thread(target=drain, daemon=True).start()
        wait(lambda: self.lua("#vim.api.nvim_list_uis()") > 0)

    def close(self) -> None:
        """End it, and with it the language server and the terminal."""
        self.process.terminate()
        self.process.wait(10)


def wait(ready: Callable[[], T], seconds: float = 30) -> T:
    """What `ready` gives as soon as it is true."""
    until = time.monotonic() + seconds
    while not (result := ready()):
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.02)
    return result


def setup(base_url: str, more: str = "") -> str:
    """What a user's init.lua says."""
    command = json.dumps([sys.executable, "-m", "magicoder", "lsp"])[1:-1]
    return (
        f"require('magicoder').setup({{ cmd = {{ {command} }}, base_url = '{base_url}', {more} }})"
    )


Start = Callable[..., Neovim]


@pytest.fixture
def start(needs: Callable[..., None], tmp_path: Path) -> Iterator[Start]:
    """Start a Neovim of a version with an init.lua."""
    started: list[Neovim] = []

    def starter(version: str, init: str) -> Neovim:
        needs(str(EDITORS / f"nvim-{version}" / "nvim"))
        started.append(Neovim(version, tmp_path, init))
        return started[-1]

    yield starter
    for neovim in started:
        neovim.close()


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, Neovim]]:
    """One Neovim of each version, for the tests that need no init.lua of their own."""
    neovims: dict[str, Neovim] = {}
    yield neovims
    for neovim in neovims.values():
        neovim.close()


@pytest.fixture(params=["0.12", "0.10"])
def neovim(
    request: pytest.FixtureRequest,
    server: Any,
    needs: Callable[..., None],
    running: dict[str, Neovim],
    tmp_path_factory: pytest.TempPathFactory,
) -> Neovim:
    """Each Neovim, set up for the real server, with no file open."""
    version = request.param
    needs(str(EDITORS / f"nvim-{version}" / "nvim"))
    if version not in running:
        folder = tmp_path_factory.mktemp(f"nvim-{version}")
        running[version] = Neovim(version, folder, setup(server.base_url, "keep_log = true"))
    neovim = running[version]
    neovim.keys("<C-\\><C-n>")
    neovim.run("vim.cmd('silent! %bwipeout!') require('magicoder').enable(true)")
    return neovim


def test_ghost_text_is_shown_and_accepted(neovim: Neovim) -> None:
    neovim.edit("a.py", AREA)
    neovim.ready()
    ghost = neovim.suggested("5GA ")
    assert neovim.lines == AREA.replace("return", "return ").splitlines()
    neovim.keys("<Tab>")
    after = AREA.replace("return", f"return {ghost}")
    wait(lambda: neovim.lines == after.splitlines())
    ast.parse(after)
    assert neovim.ghost == ""
    neovim.keys("<Esc>u")
    wait(lambda: neovim.lines[4].strip() == "return")
    neovim.run("vim.cmd('bwipeout!')")
    kept = neovim.folder / "XDG_STATE_HOME" / "magicoder" / "lsp" / "kept.jsonl"
    records = wait(lambda: kept.exists() and list(map(json.loads, kept.open())))
    accepted = records[-1]["accepted"], records[-1]["accepted_characters"]
    assert accepted == ("whole", len(ghost))


def test_a_word_then_the_rest(neovim: Neovim) -> None:
    neovim.edit("a.py", AREA)
    neovim.ready()
    ghost = neovim.suggested("5GA ")
    neovim.keys("<C-Right>")
    wait(lambda: len(neovim.lines[4]) > len("    return "))
    word = neovim.lines[4].removeprefix("    return ")
    assert re.fullmatch(r"\s*(\w+|[^\w\s]+)", word)
    assert word + neovim.ghost == ghost
    neovim.keys("<C-Down>")
    wait(lambda: neovim.lines[4] == "    return " + ghost.split("\n")[0])


def test_typing_what_is_suggested_and_accepting_doubles_nothing(neovim: Neovim) -> None:
    neovim.edit("a.py", AREA)
    neovim.ready()
    ghost = neovim.suggested("5GA ")
    neovim.keys(f"{ghost[0]}<Tab>".replace("<<", "<lt><"))
    wait(lambda: neovim.lines[4] == f"    return {ghost}".split("\n")[0])


def test_typing_something_else_takes_it_away(neovim: Neovim) -> None:
    neovim.edit("a.py", AREA)
    neovim.ready()
    ghost = neovim.suggested("5GA ")
    other = "z" if ghost[0] != "z" else "y"
    neovim.run("vim.bo.expandtab = false")
    neovim.keys(f"{other}<Tab>")
    wait(lambda: neovim.lines[4] == f"    return {other}\t")
    assert ghost not in neovim.ghost


def test_inside_a_line_after_emoji(neovim: Neovim) -> None:
    neovim.edit("a.py", 'def greet(name):\n    print("😀漢字", )\n\n\ngreet("x")\n')
    neovim.ready()
    ghost = neovim.suggested("2G$i")
    neovim.keys("<Tab>")
    wait(lambda: neovim.lines[1] == f'    print("😀漢字", {ghost})')


def test_dismissed_and_switched_off(neovim: Neovim) -> None:
    neovim.edit("a.py", AREA)
    neovim.ready()
    neovim.suggested("5GA ")
    neovim.keys("<C-]>")
    wait(lambda: not neovim.ghost)
    neovim.run("vim.cmd('Magicoder disable')")
    neovim.keys("<BS> ")
    time.sleep(1)
    assert neovim.ghost == ""
    neovim.run("vim.cmd('Magicoder toggle')")
    assert neovim.suggested("<BS> ")


def test_another_suggestion_on_request(neovim: Neovim) -> None:
    neovim.edit("a.py", AREA)
    neovim.ready()
    neovim.suggested("5GA ")
    neovim.keys("<M-]>")
    time.sleep(0.5)
    assert wait(lambda: neovim.ghost)
    assert neovim.lines[4] == "    return "


def test_tab_does_what_it_did(start: Start) -> None:
    neovim = start("0.12", setup("http://127.0.0.1:9/v1"))
    neovim.edit("a.py", "x\n")
    neovim.run("vim.bo.expandtab = false")
    neovim.keys("A<Tab>y")
    wait(lambda: neovim.lines == ["x\ty"])
    neovim.run("vim.keymap.set('i', '<Tab>', function() return 'mine' end, { expr = true })")
    neovim.keys("<Tab>")
    wait(lambda: neovim.lines == ["x\tymine"])


def test_no_keys_where_the_user_wants_none(start: Start) -> None:
    neovim = start("0.12", setup("http://127.0.0.1:9/v1", "keys = false"))
    neovim.edit("a.py", "x\n")
    assert neovim.lua("vim.api.nvim_buf_get_keymap(0, 'i')") == []


def test_the_status_line_names_the_model(neovim: Neovim) -> None:
    neovim.edit("a.py", AREA)
    neovim.ready()


def test_checkhealth_finds_nothing_wrong(neovim: Neovim) -> None:
    neovim.edit("a.py", AREA)
    neovim.ready()
    said = neovim.health()
    assert "ERROR" not in said
    assert "WARNING" not in said
    assert "smollm2-135m served at" in said
    assert "it is ready, with smollm2-135m" in said
    neovim.run("require('magicoder').enable(false)")
    said = neovim.health()
    assert "WARNING" not in said
    assert "ghost text is switched off" in said


def test_checkhealth_names_what_is_missing(start: Start) -> None:
    neovim = start("0.12", "require('magicoder').setup({ cmd = { 'no-such-magicoder', 'lsp' } })")
    said = neovim.health()
    assert "`no-such-magicoder` is not found" in said
    assert "pip install" in said


def test_a_buffer_without_a_name_belongs_to_the_current_folder(neovim: Neovim) -> None:
    (neovim.folder / ".git").mkdir(exist_ok=True)
    neovim.edit("a.py", AREA)
    neovim.run("vim.cmd.enew() vim.bo.filetype = 'python'")
    root = neovim.lua("vim.lsp.get_clients({ bufnr = 0 })[1].config.root_dir")
    assert root == str(neovim.folder)
    neovim.ready()
    ghost = neovim.suggested("idef area(radius):<CR>return ")
    neovim.keys("<Tab>")
    wait(lambda: "\n".join(neovim.lines) == f"def area(radius):\n    return {ghost}")


def test_code_becomes_a_problem(neovim: Neovim) -> None:
    neovim.edit("a.py", "def add(a, b):\n    c = a + b\n    return c\n")
    neovim.run("vim.cmd('%Magicoder problem')")
    wait(lambda: "# Solution" in neovim.lines, 120)
    assert "# Problem Description" in neovim.lines


def test_a_new_document_is_written_by_the_server_that_shows_it(neovim: Neovim) -> None:
    (neovim.folder / ".git").mkdir(exist_ok=True)
    neovim.edit("b.py", "def add(a, b):\n    c = a + b\n    return c\n")
    neovim.ready()
    clients = "vim.tbl_map(function(c) return c.id end, vim.lsp.get_clients({ bufnr = 0 }))"
    before = neovim.lua(clients)
    neovim.run("vim.cmd('%Magicoder explain')")
    wait(lambda: neovim.lua("vim.fn.expand('%:e')") == "md")
    assert neovim.lua(clients) == before
    wait(lambda: "Explaining" not in neovim.lua("require('magicoder').status()"), 120)
    wait(lambda: not neovim.lua("vim.bo.modified"))
    path = Path(neovim.lua("vim.api.nvim_buf_get_name(0)"))
    assert path.read_text().splitlines() == neovim.lines
    assert len(neovim.lines) > 2


def test_a_tool_is_cancelled(neovim: Neovim) -> None:
    neovim.edit("c.py", "def add(a, b):\n    c = a + b\n    return c\n")
    neovim.ready()
    neovim.run("vim.cmd('%Magicoder explain')")
    wait(lambda: "Explaining" in neovim.lua("require('magicoder').status()"))
    neovim.run("vim.cmd('Magicoder cancel')")
    wait(lambda: "Explaining" not in neovim.lua("require('magicoder').status()"), 3)


def test_switched_off_holds_for_files_opened_later(neovim: Neovim) -> None:
    neovim.run("vim.cmd('Magicoder disable')")
    neovim.edit("a.py", AREA)
    wait(lambda: neovim.lua("require('magicoder').status()").endswith("–"))
    neovim.keys("5GA ")
    time.sleep(1.5)
    assert neovim.ghost == ""
    neovim.run("vim.cmd('Magicoder enable')")
    assert neovim.suggested("<BS> ")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("{ cmd = { 'no-such-magicoder' } }", "`no-such-magicoder` is not found"),
        ("{ filetypes = 'python' }", "filetypes must be a list"),
        ("{ keys = { acept = '<Tab>' } }", "keys has no 'acept'"),
    ],
)
def test_setup_tells_what_is_wrong(start: Start, given: str, told: str) -> None:
    note = "vim.notify = function(text) vim.g.told = text end"
    neovim = start("0.12", f"{note} require('magicoder').setup({given})")
    assert told in wait(lambda: neovim.lua("vim.g.told"))


def test_a_server_that_ends_unasked_is_told(start: Start) -> None:
    neovim = start("0.12", setup("http://127.0.0.1:9/v1"))
    neovim.edit("a.py", "x\n")
    [server] = neovim.lua(f"vim.api.nvim_get_proc_children({neovim.process.pid})")
    os.kill(server, signal.SIGKILL)
    wait(lambda: neovim.lua("require('magicoder').status()") == "magicoder ✗")
    neovim.run("vim.cmd.edit()")
    wait(lambda: neovim.lua("#vim.lsp.get_clients({ bufnr = 0 }) > 0"))


@pytest.mark.parametrize("version", ["0.12", "0.10"])
@pytest.mark.parametrize(("answer", "after"), [("n", "x = 1"), ("y", "y = 1")])
def test_an_edit_that_wants_to_be_confirmed_asks(
    start: Start, version: str, answer: str, after: str
) -> None:
    neovim = start(version, setup("http://127.0.0.1:9/v1"))
    neovim.attach()
    neovim.edit("a.py", "x = 1\n")
    neovim.run(
        """local uri = vim.uri_from_bufnr(0)
        local version = vim.lsp.util.buf_versions[vim.api.nvim_get_current_buf()]
        local span = { start = { line = 0, character = 0 }, ["end"] = { line = 0, character = 1 } }
        local change = { range = span, newText = "y", annotationId = "a" }
        local params = { edit = {
          documentChanges = {
            { textDocument = { uri = uri, version = version }, edits = { change } },
          },
          changeAnnotations = { a = { label = "Rename", needsConfirmation = true } },
        } }
        local client = require("magicoder").client()
        vim.schedule(function()
          local apply = client.handlers["workspace/applyEdit"]
          vim.g.answer = apply(nil, params, { client_id = client.id })
        end)"""
    )
    wait(lambda: "Apply?" in "".join(neovim.terminal.display))
    shown = "\n".join(neovim.terminal.display)
    assert "-x = 1" in shown
    assert "+y = 1" in shown
    assert "Rename" in shown
    neovim.keys(answer)
    wait(lambda: neovim.lua("vim.g.answer ~= nil"))
    assert neovim.lua("vim.g.answer") == {"applied": answer == "y"}
    assert neovim.lines == [after]
    assert neovim.lua("#vim.api.nvim_list_wins()") == 1


def test_the_configuration_without_the_plugin(server: Any, start: Start) -> None:
    page = (ROOT / "docs" / "editors.md").read_text()
    [bare] = re.findall(r"```lua\n(vim\.lsp\.config.*?)```", page, re.DOTALL)
    command = json.dumps([sys.executable, "-m", "magicoder", "lsp"])[1:-1]
    bare = bare.replace('"magicoder", "lsp"', command)
    neovim = start("0.12", bare.replace("http://127.0.0.1:8000/v1", server.base_url))
    neovim.edit("a.py", AREA)
    neovim.keys("5GA ")

    def retyped() -> str:  # nothing tells here when the server has found the model
        neovim.keys("<BS> ")
        time.sleep(1)
        return neovim.ghost

    ghost = wait(retyped)
    neovim.keys("<Tab>")
    wait(lambda: neovim.lines[4] == f"    return {ghost}")


def test_a_picture(server: Any, start: Start, needs: Callable[..., None]) -> None:
    needs("chromium")
    look = """
      vim.o.termguicolors, vim.o.background, vim.o.number, vim.o.ruler = true, "dark", true, false
      vim.o.laststatus, vim.o.showmode = 2, false
      vim.o.statusline = " %t%=%{v:lua.require'magicoder'.status()} "
      vim.cmd("syntax on")
    """
    neovim = start("0.12", look + setup(server.base_url))
    neovim.attach()
    neovim.edit("circle.py", AREA)
    neovim.ready()
    ghost = neovim.suggested("5GA ")
    picture = ROOT / "build" / "screenshots" / "neovim-ghost-text.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    wait(lambda: ghost in neovim.terminal.display[4])
    assert neovim.terminal.display[-2].rstrip().endswith("smollm2-135m")
    paint(neovim.terminal, picture)
    assert 2_000 < picture.stat().st_size < 150_000


def paint(screen: pyte.Screen, picture: Path) -> None:
    """A terminal's screen, cell by cell, as a picture."""
    cells = []
    for row in range(screen.lines):
        for col in range(screen.columns):
            cell = screen.buffer[row][col]
            fg, bg = cell.fg, cell.bg
            fg, bg = ("e0e2ea" if fg == "default" else fg), ("14161b" if bg == "default" else bg)
            if cell.reverse or (row, col) == (screen.cursor.y, screen.cursor.x):
                fg, bg = bg, fg
            style = f"color:#{fg};background:#{bg};font-weight:{700 if cell.bold else 400}"
            cells.append(f"<b style='{style}'>{escape(cell.data)}</b>")
    page = picture.with_suffix(".html")
    page.write_text(
        "<meta charset='utf-8'><style>body{margin:0;display:grid;font:16px/20px monospace;"
        f"grid-template-columns:repeat({screen.columns},10px)}}b{{white-space:pre}}</style>"
        + "".join(cells)
    )
    subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            f"--window-size={screen.columns * 10},{screen.lines * 20}",
            f"--screenshot={picture}",
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )

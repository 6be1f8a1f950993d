import { access, constants } from "node:fs/promises";
import { connect } from "node:net";
import { homedir } from "node:os";
import { delimiter, isAbsolute, join } from "node:path";
import { commands, window, workspace } from "vscode";
import type { ServerOptions } from "vscode-languageclient/node";

const WINDOWS = process.platform === "win32";

/** How to reach the language server, or undefined where there is none. */
export async function serverOptions(): Promise<ServerOptions | undefined> {
  const address = workspace.getConfiguration("magicoder").get("server.address", "");
  if (address) return () => dial(address);
  const [command, ...args] = await find();
  return command ? { command, args } : undefined;
}

/** The language server's command, or [] where none is found. A workspace has no say in it. */
export async function find(): Promise<string[]> {
  const set = workspace.getConfiguration("magicoder").get<string[]>("server.command", []);
  if (set.length) return set;
  for (const folder of [...path(), join(homedir(), ".local", "bin"), ...environments()]) {
    const program = join(folder, WINDOWS ? "magicoder.exe" : "magicoder");
    if (await runs(program)) return [program, "lsp"];
  }
  return [];
}

/** Say that there is no language server, and offer a terminal that would install it. */
export async function offerInstall(): Promise<void> {
  const install = "Install...";
  const choose = "Set Its Path";
  const choice = await window.showWarningMessage(
    "Magicoder: the language server (magicoder lsp) was not found.",
    install,
    choose,
  );
  if (choice === choose) {
    await commands.executeCommand("workbench.action.openSettings", "magicoder.server.command");
  }
  if (choice !== install) return;
  const terminal = window.createTerminal("Magicoder");
  terminal.show();
  terminal.sendText(await installCommand(), false); // the user presses Enter
  const start = "Start";
  const told = "Press Enter in the terminal to install Magicoder. When it is done:";
  if ((await window.showInformationMessage(told, start)) === start) {
    await commands.executeCommand("magicoder.restart");
  }
}

async function installCommand(): Promise<string> {
  for (const [program, command] of [
    ["uv", "uv tool install"],
    ["pipx", "pipx install"],
  ] as const) {
    for (const folder of path()) {
      if (await runs(join(folder, WINDOWS ? `${program}.exe` : program))) {
        return `${command} "magicoder[lsp]"`;
      }
    }
  }
  return 'pip install "magicoder[lsp]"';
}

// A relative folder of the PATH would be one of the workspace's.
function path(): string[] {
  return (process.env.PATH ?? "").split(delimiter).filter(isAbsolute);
}

function environments(): string[] {
  if (!workspace.isTrusted) return [];
  return (workspace.workspaceFolders ?? []).flatMap(({ uri }) =>
    [".venv", "venv"].map((name) => join(uri.fsPath, name, WINDOWS ? "Scripts" : "bin")),
  );
}

async function runs(program: string): Promise<boolean> {
  try {
    await access(program, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function dial(
  address: string,
): Promise<{ reader: NodeJS.ReadableStream; writer: NodeJS.WritableStream }> {
  const colon = address.lastIndexOf(":");
  return new Promise((resolve, reject) => {
    const socket = connect(Number(address.slice(colon + 1)), address.slice(0, colon));
    socket.once("connect", () => resolve({ reader: socket, writer: socket }));
    socket.once("error", reject);
  });
}

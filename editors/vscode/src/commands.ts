import { languages, ProcessExecution, Task, TaskScope, tasks, window } from "vscode";
import type { LanguageClient } from "vscode-languageclient/node";
import { find } from "./server";

/** Tools that work on a whole file, and not on the code at the cursor. */
const OF_A_FILE = ["magicoder.verifyProblem", "magicoder.addToDataset", "magicoder.runTests"];

/**
 * The arguments that the server's command needs: those of a code action, completed, or the
 * selection's. Undefined: there is nothing to run it on, or the user thought better of it.
 */
export async function complete(
  client: LanguageClient,
  command: string,
  given: unknown[],
): Promise<unknown[] | undefined> {
  // A code action gives the document as text; the palette gives nothing, and a menu its own.
  const args = typeof given[0] === "string" ? given : atCursor(client, command);
  if (args?.length !== 2) return args;
  if (command === "magicoder.refactor") {
    const instruction = await window.showInputBox({
      title: "Refactor",
      prompt: "What should change in this code?",
    });
    return instruction ? [...args, instruction] : undefined;
  }
  return args;
}

function atCursor(client: LanguageClient, command: string): unknown[] | undefined {
  const editor = window.activeTextEditor;
  if (!editor) {
    window.showInformationMessage("Magicoder: open a file first.");
    return undefined;
  }
  const { document, selection } = editor;
  const convert = client.code2ProtocolConverter;
  const uri = convert.asUri(document.uri);
  if (OF_A_FILE.includes(command)) return [uri];
  const range = convert.asRange(selection);
  if (command !== "magicoder.fix") return [uri, range];
  const here = languages
    .getDiagnostics(document.uri)
    .filter((diagnostic) => diagnostic.range.intersection(selection));
  if (!here.length) {
    window.showInformationMessage("Magicoder: put the cursor on a diagnostic first.");
    return undefined;
  }
  return [uri, range, convert.asDiagnosticsSync(here)];
}

/** `magicoder lsp stats`, in a terminal. */
export async function stats(): Promise<void> {
  const [command, ...args] = await find();
  if (!command) return;
  const run = new ProcessExecution(command, [...args, "stats"]);
  await tasks.executeTask(
    new Task({ type: "magicoder" }, TaskScope.Workspace, "What was kept", "Magicoder", run),
  );
}

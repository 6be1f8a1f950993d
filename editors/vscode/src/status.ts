import {
  ConfigurationTarget,
  commands,
  type Disposable,
  MarkdownString,
  type QuickPickItem,
  StatusBarAlignment,
  ThemeColor,
  window,
  workspace,
} from "vscode";
import { off } from "./settings";

/** What the language server tells by `magicoder/status`. */
export interface State {
  state: "starting" | "ready" | "working" | "failed" | "off";
  model?: string | null;
  message?: string;
}

const ICONS = {
  starting: "loading~spin",
  ready: "wand",
  working: "loading~spin",
  failed: "warning",
  off: "circle-slash",
};

/** The status item: the model and what it does; a click opens the menu. */
export class Status implements Disposable {
  private readonly item = window.createStatusBarItem("magicoder", StatusBarAlignment.Right, 100);
  private readonly listening = window.onDidChangeActiveTextEditor(() => this.show());
  private current: State = { state: "off" };

  constructor() {
    this.item.name = "Magicoder";
    this.item.command = "magicoder.menu";
    this.show();
    this.item.show();
  }

  /** Take what changed; a state without a model keeps the one that is shown. */
  set(change: State): void {
    this.current = { ...change, model: change.model ?? this.current.model };
    this.show();
  }

  show(): void {
    const { state, model, message } = this.current;
    const silent = off(window.activeTextEditor?.document.languageId);
    const shown = silent && (state === "ready" || state === "working") ? "off" : state;
    this.item.text = `$(${ICONS[shown]}) ${model ?? "Magicoder"}`;
    this.item.backgroundColor =
      shown === "failed" ? new ThemeColor("statusBarItem.warningBackground") : undefined;
    const words = { starting: "starting", ready: "ready", working: "writing", failed: "failed" };
    const word = shown === "off" ? "suggests nothing by itself here" : words[shown];
    this.item.tooltip = new MarkdownString(`**Magicoder** ${word}`);
    if (message) this.item.tooltip.appendText(`\n\n${message}`);
  }

  dispose(): void {
    this.listening.dispose();
    this.item.dispose();
  }
}

/** The menu of the status item. */
export async function menu(): Promise<void> {
  const set = workspace.getConfiguration("magicoder");
  const automatic = set.get("automatic", true);
  const disabled = set.get<string[]>("disabledLanguages", []);
  const language = window.activeTextEditor?.document.languageId;
  const items: (QuickPickItem & { run: () => Thenable<unknown> })[] = [
    {
      label: automatic ? "$(circle-slash) Suggest Only When Asked" : "$(wand) Suggest While Typing",
      run: () => set.update("automatic", !automatic, ConfigurationTarget.Global),
    },
  ];
  if (language) {
    const without = disabled.filter((name) => name !== language);
    const on = without.length === disabled.length;
    const changed = on ? [...disabled, language] : without;
    items.push({
      label: on ? `$(circle-slash) Turn Off for ${language}` : `$(wand) Turn On for ${language}`,
      run: () => set.update("disabledLanguages", changed, ConfigurationTarget.Global),
    });
  }
  const command = (label: string, name: string, argument?: string, description?: string) =>
    items.push({ label, description, run: () => commands.executeCommand(name, argument) });
  const open = "workbench.action.openSettings";
  command("$(server) Server Address", open, "magicoder.baseUrl", set.get("baseUrl", ""));
  command("$(key) API Key", "magicoder.setApiKey");
  command("$(graph) What Was Kept", "magicoder.stats");
  command("$(output) Log", "magicoder.log");
  command("$(gear) Settings", open, "@ext:magicoder.magicoder");
  command("$(debug-restart) Restart", "magicoder.restart");
  await (await window.showQuickPick(items, { title: "Magicoder" }))?.run();
}

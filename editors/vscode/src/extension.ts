import { commands, type ExtensionContext, type LogOutputChannel, window, workspace } from "vscode";
import {
  DidChangeConfigurationNotification,
  LanguageClient,
  type LanguageClientOptions,
  RevealOutputChannelOn,
  State as Running,
  type ServerOptions,
  type StaticFeature,
} from "vscode-languageclient/node";
import { complete, stats } from "./commands";
import { offerInstall, serverOptions } from "./server";
import { options } from "./settings";
import { menu, type State, Status } from "./status";

const API_KEY = "magicoder.apiKey";

let session: Session | undefined;

export async function activate(context: ExtensionContext): Promise<void> {
  const log = window.createOutputChannel("Magicoder", { log: true });
  const status = new Status();
  const running = new Session(context, log, status);
  session = running;
  const command = commands.registerCommand;
  context.subscriptions.push(
    log,
    status,
    command("magicoder.menu", menu),
    command("magicoder.stats", stats),
    command("magicoder.log", () => log.show()),
    command("magicoder.restart", () => running.restart()),
    command("magicoder.setApiKey", () => setApiKey(context)),
    context.secrets.onDidChange(({ key }) => key === API_KEY && running.restart()),
    workspace.onDidGrantWorkspaceTrust(() => running.restart()),
    workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration("magicoder.server")) running.restart();
      else if (event.affectsConfiguration("magicoder")) running.configure();
    }),
  );
  await running.restart();
}

export async function deactivate(): Promise<void> {
  await session?.stop();
}

async function setApiKey(context: ExtensionContext): Promise<void> {
  const key = await window.showInputBox({
    title: "Magicoder: the API Key",
    prompt: "The key of the server that serves the model. Empty: forget it.",
    password: true,
  });
  if (key === undefined) return;
  await (key ? context.secrets.store(API_KEY, key) : context.secrets.delete(API_KEY));
}

/** The connection to one language server after another. */
class Session {
  private client: LanguageClient | undefined;
  private apiKey: string | undefined;
  private turn: Promise<void> = Promise.resolve();

  constructor(
    private readonly context: ExtensionContext,
    private readonly log: LogOutputChannel,
    private readonly status: Status,
  ) {}

  /** Stop what runs, and start again with the settings of now. One after the other. */
  restart(): Promise<void> {
    this.turn = this.turn.then(() => this.stopNow()).then(() => this.startNow());
    return this.turn;
  }

  stop(): Promise<void> {
    this.turn = this.turn.then(() => this.stopNow());
    return this.turn;
  }

  /** Tell the server the settings of now. */
  configure(): void {
    this.status.show();
    if (this.client?.state !== Running.Running) return;
    const settings = { magicoder: options(this.apiKey) };
    void this.client.sendNotification(DidChangeConfigurationNotification.type, { settings });
  }

  private async stopNow(): Promise<void> {
    const client = this.client;
    this.client = undefined;
    // A server that does not stop in time has been killed.
    await client?.dispose().catch((error) => this.log.warn(error));
  }

  private async startNow(): Promise<void> {
    this.apiKey = await this.context.secrets.get(API_KEY);
    const server = await serverOptions();
    if (!server) {
      this.status.set({ state: "failed", message: "The language server was not found." });
      void offerInstall();
      return;
    }
    const client = this.build(server);
    this.client = client;
    try {
      await client.start();
    } catch (error) {
      const message = `The language server did not start: ${error}`;
      this.log.error(message);
      this.status.set({ state: "failed", message });
      const show = "Show the Log";
      void window.showErrorMessage(`Magicoder: ${message}`, show).then((choice) => {
        if (choice === show) this.log.show();
      });
    }
  }

  private build(server: ServerOptions): LanguageClient {
    const clientOptions: LanguageClientOptions = {
      documentSelector: [{ scheme: "file" }, { scheme: "untitled" }],
      outputChannel: this.log,
      revealOutputChannelOn: RevealOutputChannelOn.Never,
      initializationOptions: () => options(this.apiKey),
      initializationFailedHandler: () => false, // start() tells of it
      middleware: {
        provideInlineCompletionItems: (document, position, context, token, next) =>
          window.activeTextEditor?.selection.isEmpty === false
            ? []
            : next(document, position, context, token),
        executeCommand: async (command, args, next) => {
          const completed = await complete(client, command, args);
          return completed && next(command, completed);
        },
      },
    };
    const client = new LanguageClient("magicoder", "Magicoder", server, clientOptions);
    client.registerFeature(WANTS_STATUS);
    client.onNotification("magicoder/status", (state: State) => this.status.set(state));
    client.onDidChangeState(({ newState }) => {
      if (this.client !== client) return;
      const state = { [Running.Starting]: "starting", [Running.Running]: "ready" } as const;
      const known = newState === Running.Stopped || newState === Running.StartFailed;
      this.status.set({ state: known ? "failed" : state[newState] });
      void commands.executeCommand("setContext", "magicoder.running", newState === Running.Running);
    });
    return client;
  }
}

const WANTS_STATUS: StaticFeature = {
  fillClientCapabilities: (capabilities) => {
    capabilities.experimental = { ...capabilities.experimental, magicoder: { status: true } };
  },
  initialize: () => {},
  getState: () => ({ kind: "static" }),
  clear: () => {},
};

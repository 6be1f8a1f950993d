import { workspace } from "vscode";

// The settings of package.json, by the names that the language server gives them.
const NAMES = {
  baseUrl: "base_url",
  model: "model",
  maxTokens: "max_tokens",
  automatic: "automatic",
  disabledLanguages: "disabled_languages",
  exclude: "exclude",
  keepLog: "keep_log",
  collectSeeds: "collect_seeds",
} as const;

/** initializationOptions of the language server. What is empty (null) is left to its own settings. */
export function options(apiKey: string | undefined): Record<string, unknown> {
  const set = workspace.getConfiguration("magicoder");
  const given: Record<string, unknown> = { trusted: workspace.isTrusted, api_key: apiKey || null };
  for (const [name, wire] of Object.entries(NAMES)) {
    const value = set.get(name);
    given[wire] = value === "" ? null : value;
  }
  return given;
}

/** Whether nothing is suggested by itself in this language. */
export function off(languageId: string | undefined): boolean {
  const set = workspace.getConfiguration("magicoder");
  const disabled = set.get<string[]>("disabledLanguages", []);
  return !set.get("automatic", true) || (languageId !== undefined && disabled.includes(languageId));
}

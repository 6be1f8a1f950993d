// One window of VS Code in a browser: node vscode.mjs ADDRESS FOLDER, where FOLDER holds
// node_modules. Each line of input is a JSON string, the body of an async function of `page`; each
// line of output is its {value} or {error}.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [address, folder] = process.argv.slice(2);
const { chromium } = createRequire(`${folder}/package.json`)("playwright-core");
const quiet = "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking";
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: `${quiet} disable-component-update disable-sync`.split(" ").map((flag) => `--${flag}`),
});
const page = await browser.newPage({ viewport: { width: 1100, height: 700 } });
page.setDefaultTimeout(30_000);
await page.goto(address);

const Body = (async () => {}).constructor;
for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    answer = { value: (await new Body("page", JSON.parse(line))(page)) ?? null };
  } catch (error) {
    answer = { error: String(error) };
  }
  console.log(JSON.stringify(answer));
}
await browser.close();

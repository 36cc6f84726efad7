// What both commands take, and how they say it.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";

export const COMMON = {
  url: { type: "string", default: process.env.A2A_URL ?? "ws://127.0.0.1:7420" },
  "token-file": { type: "string" },
  encoding: { type: "string", default: "json" },
  state: { type: "string", default: path.join(os.homedir(), ".local", "state", "a2a-node") },
  help: { type: "boolean", short: "h", default: false },
};

export const COMMON_HELP = `  --url URL            Where the coordinator is (A2A_URL).  [ws://127.0.0.1:7420]
  --token-file FILE    The namespace's token, as 'a2a coordinator run --ready-json' names it; else A2A_TOKEN.
  --encoding WORD      json or msgpack.  [json]
  --state DIR          Where secrets and what has to outlast a restart are kept.  [~/.local/state/a2a-node]
  -h, --help           Show this message and exit.`;

/** The options and the words beside them; a mistake ends the process with code 2, help with 0. */
export function optionsOf(options, help) {
  let parsed;
  try {
    parsed = parseArgs({ options: { ...COMMON, ...options }, allowPositionals: true });
    if (!["json", "msgpack"].includes(parsed.values.encoding)) throw new Error("--encoding is json or msgpack");
  } catch (problem) {
    process.stderr.write(`${problem.message}\nTry --help.\n`);
    process.exit(2);
  }
  if (parsed.values.help) {
    process.stdout.write(`${help}\n`);
    process.exit(0);
  }
  return parsed;
}

/** Tokens come in a file or the environment: the arguments of a process can be read by everybody. */
export function tokenOf(values) {
  if (values["token-file"]) return fs.readFileSync(values["token-file"], "utf8").trim();
  return process.env.A2A_TOKEN ?? "";
}

export function number(values, name) {
  const value = Number(values[name]);
  if (Number.isFinite(value) && value >= 0) return value;
  process.stderr.write(`--${name} is a number\n`);
  process.exit(2);
}

/** What agents wrote, for a person's screen: control characters are shown and not obeyed. */
export function shown(text) {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (character) =>
    character === "\n" ? character : `\\u{${character.codePointAt(0).toString(16)}}`,
  );
}

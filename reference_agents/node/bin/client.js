#!/usr/bin/env node
// Delegate, read and control tasks.

import { randomUUID } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import { Client, Doubtful, TaskEnded } from "../client.js";
import { COMMON_HELP, optionsOf, shown, tokenOf } from "../options.js";

const HELP = `Usage: client.js [OPTIONS] COMMAND

Commands:
  find [SKILL]              Who is there, as JSON.
  delegate SKILL [FILE...]  Have it done, wait, and confirm the result, unless something speaks against it; files are
                            its documents.
  get TASK                  A task with its content, as JSON.
  list                      The newest tasks, as JSON.
  watch TASK                Its events, one JSON object a line, until it ends.
  cancel TASK               Want it to end.

Options:
${COMMON_HELP}
  --as PRINCIPAL       Who delegates.  [node-client]
  --text TEXT          A text, as input of the task.
  --json JSON          Data, as input of the task.
  --key KEY            Names the work: the same key and input is the same task.  [a new one]
  --answer TEXT        What to answer where the worker asks something.
  --mode WORD          Of a cancel: coop, kill or skip.  [coop]

Exit codes: 0, 1 refused, 2 usage, 3 the task ended without a result, 4 its result waits for somebody's word.`;

const { values, positionals } = optionsOf(
  {
    as: { type: "string", default: "node-client" },
    text: { type: "string" },
    json: { type: "string" },
    key: { type: "string" },
    answer: { type: "string" },
    mode: { type: "string", default: "coop" },
  },
  HELP,
);
const print = (value) => process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);

function inputOf(files) {
  const parts = files.map((file) => ({ text: fs.readFileSync(file, "utf8"), filename: file.split(path.sep).join("/") }));
  if (values.text !== undefined) parts.push({ text: values.text });
  if (values.json !== undefined) parts.push({ data: JSON.parse(values.json) });
  return parts;
}

const commands = {
  async find(client, [skill]) {
    print(await client.find(skill ? { skill } : {}));
  },
  async delegate(client, [skill, ...files]) {
    client.on("ask", (task, askNo, parts) => {
      const question = parts.map(({ text }) => text).join(" ");
      process.stderr.write(`${task} asks: ${shown(question)}\n`);
      if (values.answer !== undefined) return client.answer(task, askNo, [{ text: values.answer }]);
      process.stderr.write("Answer with --answer and the same --key.\n");
    });
    const { task, created } = await client.delegate(skill, inputOf(files), { key: values.key ?? randomUUID() });
    process.stderr.write(`${task}${created ? "" : " (was there)"}\n`);
    const result = await client.result(task);
    print(result.artifacts);
    if (result.doubts?.length) throw new Doubtful(task, result.doubts);
    await client.accept(result);
  },
  async get(client, [task]) {
    print(await client.get(task));
  },
  async list(client) {
    print((await client.list()).tasks);
  },
  async watch(client, [task]) {
    await client.watch(task, ({ gen, body, payload }) => process.stdout.write(`${JSON.stringify({ gen, ...body, payload })}\n`));
  },
  async cancel(client, [task]) {
    print(await client.cancel(task, { mode: values.mode }));
  },
};

const [command, ...rest] = positionals;
if (!Object.hasOwn(commands, command ?? "") || (rest.length === 0 && !["find", "list"].includes(command))) {
  process.stderr.write(`${HELP}\n`);
  process.exit(2);
}
const client = new Client({
  url: values.url,
  token: tokenOf(values),
  encoding: values.encoding,
  principal: values.as,
  directory: values.state,
});
try {
  await client.start();
  await commands[command](client, rest);
} catch (problem) {
  process.stderr.write(`${shown(problem.message)}\n`);
  if (problem instanceof Doubtful) process.stderr.write("Not confirmed: somebody has to look at it first.\n");
  process.exitCode = problem instanceof TaskEnded ? 3 : problem instanceof Doubtful ? 4 : 1;
} finally {
  await client.close();
}

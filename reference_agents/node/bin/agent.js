#!/usr/bin/env node
// Run the agent until SIGTERM or Ctrl-C.

import { Agent } from "../agent.js";
import { COMMON_HELP, number, optionsOf, shown, tokenOf } from "../options.js";
import { cardOf, KNOWN, SKILLS } from "../skills.js";
import { Store } from "../store.js";

const HELP = `Usage: agent.js [OPTIONS]

An agent with the skills ${Object.keys(SKILLS).join(" and ")}. On SIGTERM or Ctrl-C it takes nothing
new, ends what it can within the grace and hands back the rest. Exit codes: 0 drained, 1 refused or taken over, 2 usage.

Options:
${COMMON_HELP}
  --id ID              The agent's id.  [node-text]
  --skill NAME         Only this skill; may be given again. Those of the conformance suite are there only so.
  --tasks NUMBER       How many tasks at once.  [4]
  --grace SECONDS      How long to let work end when it is asked to stop.  [10]
  --pace MS            Wait so long after each document, to watch it at work.  [0]
  -q, --quiet          Say nothing but problems.`;

const { values } = optionsOf(
  {
    id: { type: "string", default: "node-text" },
    skill: { type: "string", multiple: true, default: Object.keys(SKILLS) },
    tasks: { type: "string", default: "4" },
    grace: { type: "string", default: "10" },
    pace: { type: "string", default: "0" },
    quiet: { type: "boolean", short: "q", default: false },
  },
  HELP,
);
const unknown = values.skill.find((name) => !(name in KNOWN));
if (unknown) {
  process.stderr.write(`there is no skill ${unknown}: ${Object.keys(KNOWN).join(", ")}\n`);
  process.exit(2);
}

const say = (text) => values.quiet || process.stderr.write(`${shown(text)}\n`);
const agent = new Agent({
  url: values.url,
  token: tokenOf(values),
  encoding: values.encoding,
  agentId: values.id,
  store: new Store(values.state, values.id),
  card: cardOf(values.skill),
  skills: values.skill,
  tasks: number(values, "tasks"),
  paceMs: number(values, "pace"),
});

agent.session.on("welcome", ({ namespace, epoch }) => say(`${values.id}: ready (${namespace}, epoch ${epoch})`));
agent.session.on("lost", (reason) => say(`${values.id}: away: ${reason}`));
agent.on("began", ({ task, fence, offer }) => say(`${values.id}: ${task} (fence ${fence}): ${offer.body.spec.skill}`));
agent.on("ended", ({ task, fence }) => say(`${values.id}: ${task} (fence ${fence}): over`));
agent.on("problem", (problem) => process.stderr.write(`${values.id}: ${shown(problem.message)}\n`));
agent.on("over", (reason, code) => {
  if (code !== "closed") process.stderr.write(`${values.id}: ${shown(reason)}\n`);
  process.exitCode = code === "closed" ? 0 : 1;
});
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => agent.drain(number(values, "grace") * 1_000));
agent.start();

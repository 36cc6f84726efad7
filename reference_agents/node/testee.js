// The skills that the conformance suite asks an agent for (spec/v1/conformance.md); nothing else needs them.

import { setTimeout as sleep } from "node:timers/promises";

import { Unfit } from "./documents.js";

/** A failure of which the input says whether another attempt would do better. */
class Asked extends Error {
  constructor(retryable) {
    super("the input says so");
    this.retryable = retryable;
  }
}

/** What is in the first part of a payload: its data, else its text. */
function valueOf(payload) {
  let parts;
  try {
    parts = JSON.parse(payload);
  } catch {
    throw new Unfit("the input is not JSON");
  }
  const part = Array.isArray(parts) ? parts[0] : undefined;
  if (part === null || typeof part !== "object") throw new Unfit("the input is an array of parts");
  return "data" in part ? part.data : part.text;
}

async function work({ payload }) {
  await sleep(valueOf(payload).ms);
  return "done";
}

async function fail({ payload }) {
  throw new Asked(valueOf(payload).retryable);
}

async function ask(context) {
  return valueOf(await context.ask(1, [{ text: valueOf(context.payload).question }]));
}

function skill(id, description, run) {
  const card = { id, name: id, description, tags: ["conformance"], inputModes: ["application/json"] };
  return [id, { run, card: { ...card, outputModes: ["application/json"] } }];
}

export const TESTEE = Object.fromEntries([
  skill("conformance.echo", "Returns its input.", async ({ payload }) => valueOf(payload)),
  skill("conformance.work", "Is at work for so many milliseconds.", work),
  skill("conformance.fail", "Fails, in a way that may be retried or not.", fail),
  skill("conformance.ask", "Asks, and returns the answer.", ask),
]);

// The thread a skill runs in. Heartbeats go out from the main thread, which the work cannot block (spec LEASE-2), and
// work that has to stop is stopped, whatever it is at (LEASE-6).

import { setTimeout as sleep } from "node:timers/promises";
import { parentPort, workerData } from "node:worker_threads";

import { Unfit } from "./documents.js";
import { KNOWN } from "./skills.js";

const { skill, payload, restored, words, paceMs } = workerData;
const waiting = new Map();
let asked = 0;

parentPort.on("message", ({ word, re, value, problem }) => {
  if (word !== undefined) return words.push(word);
  const { resolve, reject } = waiting.get(re);
  waiting.delete(re);
  if (problem === undefined) resolve(value);
  else reject(new Error(problem));
});

/** Have the main thread do something, and wait until it is done. */
function ask(what, args) {
  asked += 1;
  const id = asked;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    parentPort.postMessage({ what, id, ...args });
  });
}

const context = {
  payload,
  restored,
  words() {
    parentPort.postMessage({ what: "looked", steerNo: Math.max(0, ...words.map(({ steerNo = 0 }) => steerNo)) });
    return words.map((word) => word.payload);
  },
  async progress(done, of, note) {
    parentPort.postMessage({ what: "progress", done, of, note });
    if (paceMs > 0) await sleep(paceMs);
  },
  checkpoint: (state) => parentPort.postMessage({ what: "checkpoint", payload: JSON.stringify([{ data: state }]) }),
  ask: (askNo, parts) => ask("ask", { askNo, payload: JSON.stringify(parts) }),
  /** Stream an artifact, one chunk for each item. */
  async artifact(artifactId, items, textOf) {
    for (const [place, item] of items.entries()) {
      const parts = JSON.stringify([{ text: textOf(item) }]);
      await ask("artifact", { artifactId, payload: parts, chunkNo: place, lastChunk: place === items.length - 1 });
    }
  },
};

try {
  const result = await KNOWN[skill].run(context);
  parentPort.postMessage({ what: "completed", result });
} catch (problem) {
  const { message: detail, retryable = false } = problem;
  parentPort.postMessage({ what: "failed", code: problem instanceof Unfit ? "schema" : "error", detail, retryable });
}
parentPort.close();

// A client: an agent without skills, that delegates, answers, confirms, reads and watches.

import { randomBytes } from "node:crypto";
import { EventEmitter } from "node:events";

import { resultHash } from "./canonical.js";
import { ENDS, Session } from "./session.js";
import { Fleeting, principalOf } from "./store.js";

/** A task that did not come to a result. */
export class TaskEnded extends Error {
  constructor(task, { state, reason = "", detail = "" }) {
    super(`${task} ${state}${reason ? ` (${reason})` : ""}${detail ? `: ${detail}` : ""}`);
    Object.assign(this, { task, state, reason, detail });
  }
}

/** A result that was not confirmed: since it was read, something came up that somebody has to look at. */
export class Doubtful extends Error {
  constructor(task, doubts) {
    super(`${task}: ${doubts.join("; ")}`);
    this.doubts = doubts;
  }
}

/** Why a result should not be confirmed unseen: what it relies on has moved (CTX-10), a conflict went against it (CONFLICT-15). */
function doubtsOf({ staleBasis = [], overruled }) {
  const moved = staleBasis.map(({ key, seen, current }) => `it relies on revision ${seen} of ${key}, which was ${current}`);
  return overruled === undefined ? moved : [...moved, `it was overruled by conflict ${overruled}`];
}

/** The parts of a question; one with its text where it has none, for nobody has looked at it on its way (WIRE-5). */
function partsOf(payload) {
  try {
    const parts = JSON.parse(payload);
    if (Array.isArray(parts) && parts.every((part) => part !== null && typeof part === "object")) return parts;
  } catch {
    // It is shown as it came.
  }
  return [{ text: payload }];
}

/** Emits `ask` (task, askNo, parts) where a worker has a question, and `over` (reason, code). */
export class Client extends EventEmitter {
  constructor({ principal, directory, ...settings }) {
    super();
    // Fresh for each process, so that several of one principal do not take the id from each other (ID-3).
    const agentId = `${principalOf(principal)}#${randomBytes(6).toString("hex")}`;
    this.session = new Session({ ...settings, agentId, store: new Fleeting(directory, agentId), credit: { tasks: 0, frames: 256 } });
    this.waiting = new Map(); // by task
    this.asked = new Set(); // questions that were shown: one may be told by the mailbox and by a reading
    this.early = new Map(); // notices that came before the reply that names their task, while one is waited for
    this.delegating = 0; // how many are
    this.session.on("notice", (frame) => this.#notice(frame));
    this.session.on("ended", (reason, code) => this.#over(reason, code));
    this.session.on("problem", (problem) => this.emit("problem", problem));
    this.on("problem", () => {});
  }

  /** Connect; the promise is that of the first welcome. */
  start() {
    return new Promise((resolve, reject) => {
      this.session.once("welcome", resolve);
      this.session.once("ended", (reason) => reject(new Error(reason)));
      this.session.start();
    });
  }

  close() {
    return this.session.close();
  }

  /** Have something done. The same key with the same skill and input is the same task, today and tomorrow (TASK-3). */
  async delegate(skill, parts, { key, spec = {}, ...options }) {
    const payload = JSON.stringify(parts);
    const body = { key, spec: { skill, ...spec }, ...options };
    this.delegating += 1;
    try {
      const { task, body: created } = await this.session.request("task.delegate", { payload, body });
      const before = this.waiting.get(task);
      const entry = before ?? { task, review: null };
      const { resolve, reject } = entry;
      this.#expect(entry);
      if (before) entry.outcome.then(resolve, reject); // who waits since the key was delegated before is told too
      this.waiting.set(task, entry);
      for (const frame of this.early.get(task) ?? []) this.#notice(frame);
      this.early.delete(task);
      if (!created.created) await this.#catchUp(entry);
      return { task, ...created };
    } finally {
      this.delegating -= 1;
      if (this.delegating === 0) this.early.clear(); // what is left is about tasks of others
    }
  }

  /** The result, an array of Artifacts, with what a confirm has to name and what speaks against one; it waits for it. */
  result(task) {
    return this.waiting.get(task).outcome;
  }

  /**
   * Say that the result is good (ACCEPT-5), as it was when it was read (ACCEPT-8); else the promise is rejected with
   * `Doubtful`. One that needed no word has had it already.
   */
  async accept({ task, rev, resultHash, gen, doubts = [], settled }) {
    if (settled) return "completed";
    for (let ifGen = gen; ; ) {
      try {
        const { body } = await this.session.request("task.confirm", { task, body: { rev, resultHash, ifGen } }, { durable: true });
        return body.state;
      } catch (problem) {
        if (problem.code !== "generation_mismatch") throw problem;
        const { view, gen: now } = await this.get(task);
        const since = doubtsOf(view.metadata).filter((doubt) => !doubts.includes(doubt));
        if (since.length > 0) throw new Doubtful(task, since);
        ifGen = now;
      }
    }
  }

  /** Send the result back, for another revision with `rework`. */
  async reject({ task, rev, resultHash }, { rework = false, parts = [], reasonCode = "" } = {}) {
    const body = { rev, resultHash, verdict: "reject", rework, reasonCode };
    const entry = this.waiting.get(task);
    const before = entry?.outcome;
    if (entry && rework) this.#expect(entry);
    const { resolve, reject } = entry ?? {};
    try {
      await this.session.request("task.confirm", { task, payload: JSON.stringify(parts), body }, { durable: true });
    } catch (problem) {
      before?.then(resolve, reject); // it is still the result there is, unless another one came meanwhile
      throw problem;
    }
  }

  answer(task, askNo, parts) {
    return this.session.request("task.answer", { task, payload: JSON.stringify(parts), body: { askNo } });
  }

  async cancel(task, { mode = "coop", reason = "" } = {}) {
    const { body } = await this.session.request("task.cancel", { task, body: { mode, reason } });
    return body;
  }

  async get(task) {
    const { body, payload, gen } = await this.session.request("task.get", { task });
    return { ...body, gen, result: payload === undefined ? undefined : JSON.parse(payload) };
  }

  async list(filter = {}) {
    const { body } = await this.session.request("task.list", { body: filter });
    return body;
  }

  async find(filter = {}) {
    const { body } = await this.session.request("agent.find", { body: { filter } });
    return body.agents;
  }

  /** Every event of a task, from the first to the one that ends it. */
  watch(task, onEvent) {
    return new Promise((resolve, reject) => {
      const told = (frame) => {
        onEvent(frame);
        if (ENDS.has(frame.body.state)) resolve(frame.body.state);
      };
      this.session.watch(task, told, 0, reject).catch(reject);
    });
  }

  /** Have an outcome of the task waited for. */
  #expect(entry) {
    entry.outcome = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
    entry.outcome.catch(() => {});
  }

  #notice(frame) {
    const entry = this.waiting.get(frame.task);
    if (!entry) {
      // Of a task whose `task.created` is still on its way; of others this process knows nothing.
      if (this.delegating > 0) this.early.set(frame.task, [...(this.early.get(frame.task) ?? []), frame]);
      return;
    }
    if (frame.kind === "task.ask") this.#asked(frame.task, frame.body.askNo, frame.payload);
    try {
      if (frame.kind === "task.review") this.#reviewed(entry, frame);
      if (frame.kind === "task.settled") this.#settled(entry, frame);
    } catch (problem) {
      entry.reject(new Error(`${entry.task}: its result is no JSON: ${problem.message}`)); // thrown, it would end the process
    }
  }

  #reviewed(entry, { gen, body: { rev, resultHash: hash, ...told }, payload }) {
    // What is confirmed is what was read: the hash is worked out from these bytes.
    if (resultHash("completed", payload) !== hash) return this.emit("problem", new Error(`${entry.task}: not the result that is named`));
    entry.review = { task: entry.task, rev, resultHash: hash, gen, artifacts: JSON.parse(payload), doubts: doubtsOf(told) };
    entry.resolve({ ...entry.review, settled: false });
  }

  #settled(entry, { body, payload }) {
    if (body.state !== "completed") return entry.reject(new TaskEnded(entry.task, body));
    const artifacts = payload === undefined ? entry.review?.artifacts : JSON.parse(payload);
    const { rev = 0, resultHash: hash } = body;
    if (artifacts !== undefined) return entry.resolve({ task: entry.task, rev, resultHash: hash, artifacts, settled: true });
    this.#catchUp(entry).catch(entry.reject); // the review went to another process
  }

  /** How a task stands that was there before: its review may have gone to the process that delegated it first. */
  async #catchUp(entry) {
    const { body, payload, gen } = await this.session.request("task.get", { task: entry.task });
    const { view, asks = [] } = body;
    const { state, rev = 0, resultHash: hash, reason, detail } = view.metadata;
    const isResult = payload !== undefined && ["reported", "completed"].includes(state);
    if (isResult && resultHash("completed", payload) !== hash) throw new Error(`${entry.task}: not the result that is named`);
    const result = isResult ? JSON.parse(payload) : undefined;
    if (state === "completed") entry.resolve({ task: entry.task, rev, resultHash: hash, artifacts: result, settled: true });
    else if (ENDS.has(state)) entry.reject(new TaskEnded(entry.task, { state, reason, detail }));
    else if (state === "reported") {
      const doubts = doubtsOf(view.metadata);
      entry.resolve({ task: entry.task, rev, resultHash: hash, gen, artifacts: result, doubts, settled: false });
    }
    for (const { askNo, payload: question, answer } of asks) {
      if (answer === undefined && state === "parked") this.#asked(entry.task, askNo, question);
    }
  }

  #asked(task, askNo, payload) {
    const question = `${task}/${askNo}`;
    if (this.asked.has(question)) return;
    this.asked.add(question);
    this.emit("ask", task, askNo, partsOf(payload));
  }

  #over(reason, code) {
    for (const entry of this.waiting.values()) entry.reject(new Error(reason));
    this.emit("over", reason, code);
  }
}

// An agent: takes offers for the skills it has, one attempt each, and lets go of them in good order.

import { EventEmitter } from "node:events";

import { Attempt } from "./attempt.js";
import { Session } from "./session.js";

const REMEMBERED = 10_000; // offers that were seen, so that an offer that comes again begins no second one (MAIL-4)

/** Emits `began` and `ended` (attempt), `problem` (error) and `over` (reason, code), when it will not come back. */
export class Agent extends EventEmitter {
  constructor({ skills, tasks = 4, paceMs = 0, ...settings }) {
    super();
    this.skills = new Set(skills);
    this.paceMs = paceMs;
    this.attempts = new Map(); // by task and fence
    // A report without an answer is the end of its attempt, also where its offer comes once more.
    this.seen = new Set(settings.store.outbox.map(placeOf));
    this.draining = false;
    this.session = new Session({ ...settings, credit: { tasks, frames: 256 }, held: () => this.#held() });
    this.session.on("welcome", (welcome) => this.#welcomed(welcome));
    this.session.on("notice", (frame) => this.#notice(frame));
    this.session.on("problem", (problem) => this.emit("problem", problem));
    this.session.on("ended", (reason, code) => this.#over(reason, code));
  }

  start() {
    this.session.start();
    return this;
  }

  /**
   * Take nothing new, let what is under way end within the grace, and leave: the rest goes to others at once, and that
   * counts against nobody (HELLO-11). A report that finds no coordinator stays in the state file for the next start.
   */
  async drain(graceMs) {
    if (this.draining) return;
    this.draining = true;
    this.session.changeCredit({ ...this.session.credit, tasks: 0 });
    this.session.request("agent.update", { body: { status: "draining" } }).catch(() => {});
    const idle = new Promise((resolve) => (this.idle = resolve));
    if (this.attempts.size > 0) await Promise.race([idle, new Promise((resolve) => setTimeout(resolve, graceMs).unref())]);
    await this.session.close({ drain: true, reason: "drained" });
  }

  /** Attempts at work, and those whose report has no answer yet: nobody else is to be asked for them meanwhile. */
  #held() {
    const begun = [...this.attempts].filter(([, attempt]) => attempt.begun);
    const held = new Map(begun.map(([place, attempt]) => [place, attempt.held]));
    const { outbox = [], proofs = {} } = this.session?.store ?? {};
    for (const { id, kind, task, fence } of outbox) {
      const place = placeOf({ task, fence });
      if (kind === "task.report" && !held.has(place)) held.set(place, { task, fence, proof: proofs[id] });
    }
    return [...held.values()];
  }

  #welcomed({ held = [] }) {
    for (const { task, fence, verdict } of held) {
      const attempt = this.attempts.get(placeOf({ task, fence }));
      if (attempt && !attempt.over) attempt.heldAs(verdict);
    }
  }

  #notice(frame) {
    if (frame.kind === "task.offer") return this.#offered(frame);
    for (const attempt of this.attempts.values()) {
      if (attempt.task !== frame.task) continue;
      if (frame.kind === "task.revoke" && attempt.fence === frame.fence) attempt.revoked(frame.body);
      if (frame.kind === "task.answer") attempt.answered(frame);
      if (frame.kind === "task.steer") attempt.steered(frame);
    }
  }

  async #offered(offer) {
    const { task, fence, body } = offer;
    const place = placeOf(offer);
    if (this.seen.has(place)) return;
    this.#remember(place);
    if (this.draining || !this.skills.has(body.spec.skill)) return this.#handBack(offer);
    const attempt = new Attempt(this.session, offer, { paceMs: this.paceMs, ended: () => this.#ended(place) });
    this.attempts.set(place, attempt); // before it begins: what is said about it may come with the answer to the accept
    // The lease of another may still come back: ask before beginning (OFFER-3).
    if (!body.granted && !(await this.#accepted(offer))) return attempt.abandon();
    if (attempt.over) return;
    attempt.begin();
    this.emit("began", attempt);
  }

  /** Of who drains a grant that is given back counts against nobody, as a decline does (LEASE-7). */
  #handBack({ task, fence, body: { granted } }) {
    const kind = this.draining && granted ? "task.yield" : "task.decline";
    const reason = this.draining ? "busy" : "unsupported";
    this.session.request(kind, { task, fence, body: { reason } }).catch((problem) => this.emit("problem", problem));
  }

  async #accepted({ task, fence }) {
    try {
      await this.session.request("task.accept", { task, fence });
      return true;
    } catch (problem) {
      if (problem.code !== "stale") this.emit("problem", problem);
      return false;
    }
  }

  #remember(place) {
    this.seen.add(place);
    if (this.seen.size > REMEMBERED) this.seen.delete(this.seen.values().next().value);
  }

  #ended(place) {
    this.emit("ended", this.attempts.get(place));
    this.attempts.delete(place);
    if (this.attempts.size === 0) this.idle?.();
  }

  #over(reason, code) {
    for (const attempt of this.attempts.values()) attempt.abandon();
    this.emit("over", reason, code);
  }
}

function placeOf({ task, fence }) {
  return `${task}/${fence}`;
}

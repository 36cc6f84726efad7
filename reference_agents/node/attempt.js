// One attempt at a task, under one fence (spec 9 to 11): its heartbeats, its work in a thread of its own, and how it
// ends. The work is seen by nobody outside, so that it may go on where the lease may have lapsed (LEASE-9): what it comes
// to counts or does not, which the coordinator says.

import { Worker } from "node:worker_threads";

import { canonical, chunksHash, resultHash } from "./canonical.js";
import { Refused } from "./session.js";

const DETAIL_LENGTH = 8_000;

/** The state in a checkpoint; none where it is no array of parts: nobody has looked at it on its way (WIRE-5). */
function leftIn(checkpoint) {
  try {
    return JSON.parse(checkpoint?.payload)[0].data;
  } catch {
    return undefined;
  }
}

export class Attempt {
  /** `ended` is called once, when nothing more will be done under this fence. */
  constructor(session, offer, { paceMs = 0, ended }) {
    const { body } = offer;
    Object.assign(this, { session, task: offer.task, fence: offer.fence, offer, paceMs, ended });
    this.progressNo = 0;
    this.usage = { steps: 0 };
    this.answers = new Map((body.answers ?? []).map(({ askNo, payload }) => [askNo, payload]));
    this.steerNo = 0; // the newest word that the work has looked at (STEER-4)
    this.questions = new Map(); // by number: those that wait for their answer
    this.chunks = new Map(); // by artifact: the payloads streamed so far
    this.checkpoints = 0;
    this.begun = false;
    this.over = false;
  }

  /** What is said of it in a hello (HELLO-6). */
  get held() {
    return { task: this.task, fence: this.fence, progressNo: this.progressNo, proof: this.offer.body.proof };
  }

  begin() {
    const { body } = this.offer;
    this.begun = true;
    this.#heartbeat(); // at once: a grant waits no longer than `offerMs` for its first sign of life (OFFER-6)
    this.beat = setInterval(() => this.#heartbeat(), body.heartbeatMs);
    const words = [...(body.feedback ?? []), ...(body.steers ?? [])];
    const restored = leftIn(body.checkpoint);
    const { paceMs } = this;
    this.worker = new Worker(new URL("./work.js", import.meta.url), {
      workerData: { skill: body.spec.skill, payload: this.offer.payload, restored, words, paceMs },
    });
    this.worker.on("message", (message) => this.#asked(message));
    this.worker.on("error", (problem) => this.#failed("crashed", problem.message, true));
    this.worker.on("exit", () => this.#failed("crashed", "the work ended without a word", true));
  }

  /** The verdict on it in a welcome (HELLO-6). */
  heldAs(verdict) {
    if (verdict !== "keep") this.#stop();
  }

  /** A word of the delegator's (STEER-1); it may be in the offer as well. */
  steered({ payload, body }) {
    this.worker?.postMessage({ word: { steerNo: body.steerNo, payload } });
  }

  answered({ payload, body }) {
    this.answers.set(body.askNo, payload);
    this.questions.get(body.askNo)?.(payload);
    this.questions.delete(body.askNo);
  }

  /** The attempt has lost its authority, or is about to (LEASE-6, LEASE-10). A later word may be sharper than the first. */
  revoked({ reason, mode = "coop", graceMs = 0 }) {
    if (this.over) return;
    if (graceMs === 0 || mode === "skip") return this.#stop();
    if (reason === "cancel") return this.#canceled();
    // What was done is in the checkpoint; the rest is for the next attempt.
    this.#stop(() => this.session.request("task.yield", { ...this.name, body: { reason, usage: this.usage } }));
  }

  /** Say nothing more about it: somebody else has the task, or the agent's id. */
  abandon() {
    this.#stop();
  }

  get name() {
    return { task: this.task, fence: this.fence };
  }

  async #heartbeat() {
    const { progressNo, progressBp, note, usage } = this;
    const body = { progressNo, progressBp, note, usage };
    try {
      const reply = await this.session.request("task.heartbeat", { ...this.name, body }, { volatile: true });
      if (this.over) return;
      if (reply.kind === "task.revoke") return this.revoked(reply.body);
      if (reply.body.directives?.some((directive) => directive.startsWith("cancel:"))) this.#canceled();
    } catch (problem) {
      // Volatile: the next one counts, or the next hello. A fence that was never minted is no fence.
      if (problem instanceof Refused && problem.code === "malformed") this.#stop();
    }
  }

  async #asked({ what, id, ...args }) {
    if (this.over) return;
    if (what === "progress") return this.#progress(args);
    if (what === "looked") return (this.steerNo = args.steerNo);
    if (what === "checkpoint") return this.#checkpoint(args.payload);
    if (what === "completed") return this.#completed(args.result);
    if (what === "failed") return this.#failed(args.code, args.detail, args.retryable);
    try {
      const value = await this[`do_${what}`](args);
      this.worker?.postMessage({ re: id, value });
    } catch (problem) {
      this.worker?.postMessage({ re: id, problem: problem.message });
    }
  }

  #progress({ done, of, note }) {
    this.progressNo += 1;
    this.progressBp = Math.floor((done * 10_000) / of);
    this.note = note.slice(0, 2_000);
    this.usage = { steps: this.usage.steps + 1 };
  }

  /** The newest state goes out when the one before was answered; the work waits for neither. */
  async #checkpoint(payload) {
    this.state = payload;
    if (this.checkpointing) return;
    this.checkpointing = true;
    while (this.state !== undefined && !this.over) {
      const newest = this.state;
      this.state = undefined;
      try {
        const body = { cpNo: this.checkpoints + 1, baseCp: this.checkpoints, format: "documents/1" };
        await this.session.request("task.checkpoint", { ...this.name, payload: newest, body });
        this.checkpoints += 1;
      } catch (problem) {
        // Without it the attempt goes on all the same, and the next one begins further back (CHECK-2).
        this.session.emit("problem", problem);
        if (problem.code === "too_large") return; // and it only grows
      }
    }
    this.checkpointing = false;
  }

  async do_artifact({ artifactId, payload, chunkNo, lastChunk }) {
    const chunks = this.chunks.get(artifactId) ?? [];
    if (chunkNo === 0) chunks.length = 0;
    chunks.push(payload);
    this.chunks.set(artifactId, chunks);
    const digest = lastChunk ? chunksHash(chunks) : undefined;
    const body = { artifactId, chunkNo, append: chunkNo > 0, lastChunk, digest };
    await this.session.request("task.artifact", { ...this.name, payload, body });
  }

  /** Ask the delegator, unless an earlier attempt did and was answered (ASK-2, ASK-7). */
  async do_ask({ askNo, payload }) {
    const answer = new Promise((resolve) => this.questions.set(askNo, resolve));
    if (!this.answers.has(askNo)) {
      await this.session.request("task.ask", { ...this.name, payload, body: { askNo, hold: "hot" } });
    }
    return this.answers.get(askNo) ?? answer;
  }

  #completed(result) {
    const artifacts = [...this.chunks].map(([artifactId, chunks]) => ({ artifactId, digest: chunksHash(chunks) }));
    this.#report("completed", [{ artifactId: "result", name: "result", parts: [{ data: result }] }], undefined, artifacts);
  }

  #canceled() {
    this.#report("canceled", []);
  }

  #failed(code, detail, retryable) {
    this.#report("failed", [], { code, detail: detail.slice(0, DETAIL_LENGTH), retryable });
  }

  /** The last word. It is kept until its verdict has come, over a restart of this process too (RPC-3, REPORT-1). */
  #report(outcome, result, error, artifacts) {
    if (this.over) return;
    this.#stop(async () => {
      try {
        await this.#send(outcome, canonical(result), error, artifacts);
      } catch (problem) {
        if (problem.code !== "too_large") throw problem;
        await this.#send("failed", "[]", { code: "too_large", detail: problem.detail });
      }
    });
  }

  async #send(outcome, payload, error, artifacts) {
    const { usage, steerNo } = this;
    const body = { outcome, resultHash: resultHash(outcome, payload), error, usage, artifacts, steerNo };
    const { body: verdict } = await this.session.request("task.report", { ...this.name, payload, body }, { durable: true, proof: this.offer.body.proof });
    if (verdict.verdict === "invalid" && outcome !== "failed") {
      await this.#send("failed", "[]", { code: "invalid", detail: verdict.reason ?? "" }); // or it would go on for ever
    }
  }

  /** No more heartbeats and no more work; then what is left to say. It is held until that was answered. */
  #stop(lastWord) {
    if (this.over) return;
    this.over = true;
    clearInterval(this.beat);
    this.worker?.terminate();
    this.worker = undefined;
    Promise.resolve(lastWord?.())
      .catch((problem) => this.session.emit("problem", problem))
      .finally(() => this.ended(this));
  }
}

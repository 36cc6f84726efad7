import assert from "node:assert/strict";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import test, { afterEach, beforeEach } from "node:test";

import { resultHash } from "../canonical.js";
import { Client, TaskEnded } from "../client.js";
import { Sockets, turn } from "./socket.js";

let directory;
let client;
let socket;

beforeEach(async () => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "a2a-node-"));
  const sockets = new Sockets();
  client = new Client({ url: "ws://x", principal: "desk", directory, open: sockets.open, random: () => 0 });
  const started = client.start();
  socket = await sockets.next();
  await socket.welcome();
  await started;
});

afterEach(async () => {
  await client.close();
  fs.rmSync(directory, { recursive: true });
});

const RESULT = '[{"artifactId":"result","parts":[{"data":{"words":3}}]}]';
const HASH = resultHash("completed", RESULT);
const review = { kind: "task.review", mseq: 1, task: "main-7", gen: 4, payload: RESULT, body: { rev: 0, resultHash: HASH, agent: "a", confirmMs: 1 } };

async function delegated({ created = true, before = [] } = {}) {
  const task = client.delegate("count_words", [{ text: "a" }], { key: "k" });
  const { id } = await socket.next("task.delegate");
  socket.say(...before, { kind: "task.created", re: id, task: "main-7", gen: 1, body: { created, state: "queued", contextId: "c" } });
  if (created) await task;
  return task;
}

test("a process has an id of its own under its principal, and takes no tasks", async () => {
  const { body } = await socket.next("hello");
  assert.match(body.agentId, /^desk#[0-9a-f]+$/);
  assert.equal(body.credit.tasks, 0);
});

test("a result is read, and confirmed by what was read", async () => {
  await delegated();
  socket.say(review);
  const result = await client.result("main-7");
  assert.deepEqual(result.artifacts, JSON.parse(RESULT));
  const accepted = client.accept(result);
  const { id, task, body } = await socket.next("task.confirm");
  assert.deepEqual([task, body], ["main-7", { rev: 0, resultHash: HASH, ifGen: 4 }]);
  socket.say({ kind: "ok", re: id, body: { state: "completed" } });
  assert.equal(await accepted, "completed");
});

for (const kind of ["task.review", "task.settled"]) {
  test(`a result of a ${kind} that is no JSON is told to who waits for it`, async () => {
    await delegated();
    const [payload, hash] = ["no JSON", resultHash("completed", "no JSON")];
    socket.say({ kind, mseq: 1, task: "main-7", gen: 4, payload, body: { rev: 0, resultHash: hash, agent: "a", state: "completed" } });
    await assert.rejects(client.result("main-7"), /main-7: its result is no JSON/);
  });
}

for (const payload of ["no JSON", "7", "[null]", '"what?"']) {
  test(`a question that is ${payload} is shown as it came`, async () => {
    await delegated();
    const asked = once(client, "ask");
    socket.say({ kind: "task.ask", mseq: 1, task: "main-7", payload, body: { askNo: 1 } });
    assert.deepEqual(await asked, ["main-7", 1, [{ text: payload }]]);
  });
}

test("who waits for a result is told that none comes any more", { timeout: 10_000 }, async () => {
  await delegated();
  socket.say({ kind: "bye", body: { reason: "taken_over" } });
  await assert.rejects(client.result("main-7"), /taken over/);
});

test("a review that comes before the task's name is kept for it", async () => {
  await delegated({ before: [review] });
  assert.equal((await client.result("main-7")).resultHash, HASH);
});

test("who delegates a key twice has its result twice", { timeout: 10_000 }, async () => {
  await delegated();
  const first = client.result("main-7");
  const again = client.delegate("count_words", [{ text: "a" }], { key: "k" });
  const { id } = socket.sent.findLast(({ kind }) => kind === "task.delegate");
  socket.say({ kind: "task.created", re: id, task: "main-7", gen: 1, body: { created: false, state: "leased", contextId: "c" } });
  const { id: read } = await socket.next("task.get");
  socket.say({ kind: "task.found", re: read, task: "main-7", gen: 3, body: { view: { metadata: { state: "leased" } } } });
  await again;
  const second = client.result("main-7");
  socket.say(review);
  assert.equal((await first).resultHash, HASH);
  assert.equal(await second, await first);
});

test("what is told of tasks of others is not kept", async () => {
  socket.say({ ...review, mseq: 1, task: "main-3" });
  assert.equal(client.early.size, 0);
  await delegated({ before: [{ ...review, mseq: 2, task: "main-3" }, { ...review, mseq: 3 }] });
  assert.equal((await client.result("main-7")).resultHash, HASH);
  await turn();
  assert.equal(client.early.size, 0);
});

test("a result that is not the one named is not taken", async () => {
  await delegated();
  const problem = new Promise((resolve) => client.once("problem", resolve));
  socket.say({ ...review, payload: "[]" });
  assert.match((await problem).message, /not the result/);
});

test("a task that needs no word has its result with its end, and is not confirmed", async () => {
  await delegated();
  socket.say({ kind: "task.settled", mseq: 1, task: "main-7", gen: 4, payload: RESULT, body: { state: "completed", resultHash: HASH } });
  const result = await client.result("main-7");
  assert.equal(await client.accept(result), "completed");
  assert.equal(socket.kinds().includes("task.confirm"), false);
});

test("a task that ends otherwise says how", async () => {
  await delegated();
  socket.say({ kind: "task.settled", mseq: 1, task: "main-7", gen: 4, body: { state: "failed", reason: "losses", detail: "d" } });
  await assert.rejects(client.result("main-7"), (problem) => problem instanceof TaskEnded && problem.reason === "losses");
});

test("of a task that was there before is read how it stands", async () => {
  const again = delegated({ created: false });
  const { id } = await socket.next("task.get");
  const metadata = { state: "reported", rev: 1, resultHash: HASH };
  socket.say({ kind: "task.found", re: id, task: "main-7", gen: 4, payload: RESULT, body: { view: { metadata } } });
  await again;
  const { rev, settled } = await client.result("main-7");
  assert.deepEqual([rev, settled], [1, false]);
});

test("of a task that was there before another result than is named is not taken", async () => {
  const again = delegated({ created: false });
  const { id } = await socket.next("task.get");
  const metadata = { state: "reported", rev: 1, resultHash: HASH };
  socket.say({ kind: "task.found", re: id, task: "main-7", gen: 4, payload: "[]", body: { view: { metadata } } });
  await assert.rejects(again, /not the result that is named/);
});

test("what speaks against a result is told with it, from wherever it came", async () => {
  const staleBasis = [{ key: "plan", seen: 1, current: 2 }];
  await delegated();
  socket.say({ ...review, body: { ...review.body, staleBasis } });
  assert.deepEqual((await client.result("main-7")).doubts, ["it relies on revision 1 of plan, which was 2"]);
  const again = client.delegate("count_words", [{ text: "a" }], { key: "k" });
  const { id } = socket.sent.findLast(({ kind }) => kind === "task.delegate");
  socket.say({ kind: "task.created", re: id, task: "main-7", gen: 1, body: { created: false, state: "reported", contextId: "c" } });
  const { id: read } = await socket.next("task.get");
  const metadata = { state: "reported", rev: 0, resultHash: HASH, overruled: "main-k9" };
  socket.say({ kind: "task.found", re: read, task: "main-7", gen: 4, payload: RESULT, body: { view: { metadata } } });
  await again;
  assert.deepEqual((await client.result("main-7")).doubts, ["it was overruled by conflict main-k9"]);
});

test("a question is told once, from wherever it came", async () => {
  const asked = [];
  client.on("ask", (...question) => asked.push(question));
  const question = { kind: "task.ask", mseq: 1, task: "main-7", payload: '[{"text":"Which?"}]', body: { askNo: 1 } };
  const again = delegated({ created: false, before: [question] });
  const { id } = await socket.next("task.get");
  const asks = [{ askNo: 1, payload: question.payload }];
  socket.say({ kind: "task.found", re: id, task: "main-7", gen: 4, body: { view: { metadata: { state: "parked" } }, asks } });
  await again;
  assert.deepEqual(asked, [["main-7", 1, [{ text: "Which?" }]]]);
});

test("after a rejection the next revision is waited for", async () => {
  await delegated();
  socket.say(review);
  const rejected = client.reject(await client.result("main-7"), { rework: true, parts: [{ text: "again" }] });
  const { id, body } = await socket.next("task.confirm");
  assert.deepEqual([body.verdict, body.rework], ["reject", true]);
  socket.say({ kind: "ok", re: id, body: { state: "queued" } }, { ...review, mseq: 2, body: { ...review.body, rev: 1 } });
  await rejected;
  assert.equal((await client.result("main-7")).rev, 1);
});

test("a word names the generation that was seen, and is said again where nothing speaks against the result", async () => {
  await delegated();
  socket.say(review);
  const accepted = client.accept(await client.result("main-7"));
  const { id, body } = await socket.next("task.confirm");
  assert.equal(body.ifGen, review.gen);
  socket.say({ kind: "error", re: id, body: { code: "generation_mismatch", detail: "it has 9", retryable: true } });
  const look = await socket.next("task.get");
  const metadata = { state: "reported", rev: 0, resultHash: HASH };
  socket.say({ kind: "task.found", re: look.id, task: "main-7", gen: 9, payload: RESULT, body: { view: { metadata } } });
  await turn();
  const again = await socket.next("task.confirm");
  assert.equal(again.body.ifGen, 9);
  socket.say({ kind: "ok", re: again.id, body: { state: "completed" } });
  assert.equal(await accepted, "completed");
});

test("a result that was overruled while its word was on the way is not accepted", async () => {
  await delegated();
  socket.say(review);
  const accepted = client.accept(await client.result("main-7"));
  const { id } = await socket.next("task.confirm");
  socket.say({ kind: "error", re: id, body: { code: "generation_mismatch", detail: "it has 9", retryable: true } });
  const look = await socket.next("task.get");
  const metadata = { state: "reported", rev: 0, resultHash: HASH, overruled: "main-k8" };
  socket.say({ kind: "task.found", re: look.id, task: "main-7", gen: 9, payload: RESULT, body: { view: { metadata } } });
  await assert.rejects(accepted, { doubts: ["it was overruled by conflict main-k8"] });
  assert.equal(socket.kinds().filter((kind) => kind === "task.confirm").length, 1);
});

test("a rejection that is refused leaves the result that there is", { timeout: 10_000 }, async () => {
  await delegated();
  socket.say(review);
  const result = await client.result("main-7");
  const rejected = client.reject(result, { rework: true, parts: [{ text: "x".repeat(2_000) }] });
  const waiting = client.result("main-7");
  await assert.rejects(rejected, { code: "too_large" });
  assert.equal(await waiting, result);
  assert.equal(await client.result("main-7"), result);
});

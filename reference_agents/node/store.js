// What a peer keeps on disk: the secret of its principal (spec ID-4), and for an agent its incarnation (ID-5) and the
// requests it has not had an answer to (RPC-3). Its place in the mailbox is kept by the process alone (MAIL-5).

import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

/** The part of an agent id that authority belongs to (ID-2). */
export function principalOf(agentId) {
  return agentId.split("#")[0];
}

function fileName(id) {
  return encodeURIComponent(id).replaceAll(".", "%2E");
}

/** Written beside its place, synced and moved there: after any crash the old text or the new one is there, whole. */
function replaceFile(file, text) {
  const beside = `${file}.${process.pid}.new`;
  const handle = fs.openSync(beside, "w", 0o600);
  try {
    fs.writeFileSync(handle, text);
    fs.fsyncSync(handle);
  } finally {
    fs.closeSync(handle);
  }
  fs.renameSync(beside, file);
  syncDirectory(path.dirname(file));
}

function syncDirectory(directory) {
  const handle = fs.openSync(directory, "r");
  try {
    fs.fsyncSync(handle);
  } finally {
    fs.closeSync(handle);
  }
}

/** The secret of a principal: drawn here, and kept before it is shown. Of two processes that draw it, one wins. */
export function secretOf(directory, agentId) {
  fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
  const file = path.join(directory, `${fileName(principalOf(agentId))}.secret`);
  const drawn = `${file}.${process.pid}.new`;
  if (!fs.existsSync(file)) {
    fs.writeFileSync(drawn, randomBytes(32).toString("base64url"), { mode: 0o600, flush: true });
    try {
      fs.linkSync(drawn, file);
    } catch (problem) {
      if (problem.code !== "EEXIST") throw problem;
    } finally {
      fs.unlinkSync(drawn);
    }
    syncDirectory(directory);
  }
  return fs.readFileSync(file, "utf8");
}

/** The state file of one agent. */
export class Store {
  constructor(directory, agentId) {
    this.secret = secretOf(directory, agentId);
    this.file = path.join(directory, `${fileName(agentId)}.json`);
    const kept = fs.existsSync(this.file) ? JSON.parse(fs.readFileSync(this.file, "utf8")) : {};
    this.incarnation = (kept.incarnation ?? 0) + 1;
    this.outbox = kept.outbox ?? [];
    this.proofs = kept.proofs ?? {}; // by frame id: that of the attempt whose last word it is (HELLO-6)
    this.write();
  }

  write() {
    const { incarnation, outbox, proofs } = this;
    replaceFile(this.file, JSON.stringify({ incarnation, outbox, proofs }));
  }

  keep(frame, proof) {
    this.outbox.push(frame);
    this.proofs[frame.id] = proof;
    this.write();
  }

  drop(id) {
    this.outbox = this.outbox.filter((frame) => frame.id !== id);
    delete this.proofs[id];
    this.write();
  }
}

/** For a process that comes and goes under an id of its own: a secret on disk, and nothing else. */
export class Fleeting {
  constructor(directory, agentId) {
    this.secret = secretOf(directory, agentId);
    this.incarnation = Date.now();
    this.outbox = [];
  }

  keep(frame) {
    this.outbox.push(frame);
  }

  drop(id) {
    this.outbox = this.outbox.filter((frame) => frame.id !== id);
  }
}

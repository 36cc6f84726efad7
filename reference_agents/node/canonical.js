// Canonical JSON (RFC 8785) and the hashes of the protocol (spec WIRE-9, ART-4).

import { createHash } from "node:crypto";

/** The canonical form of a JSON value; throws a TypeError where it has none. */
export function canonical(value) {
  switch (typeof value) {
    case "boolean":
      return String(value);
    case "number":
      if (!Number.isFinite(value)) throw new TypeError(`${value} has no canonical form`);
      return JSON.stringify(value); // what ECMAScript writes is what the RFC asks for
    case "string":
      if (!value.isWellFormed()) throw new TypeError("text with a lone surrogate has no canonical form");
      return JSON.stringify(value);
    case "object":
      if (value === null) return "null";
      if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
      // sort() without a comparison goes by UTF-16 code units, as the RFC does.
      return `{${Object.keys(value)
        .sort()
        .map((key) => `${canonical(key)}:${canonical(value[key])}`)
        .join(",")}}`;
    default:
      throw new TypeError(`a ${typeof value} is no JSON value`);
  }
}

function sha256(...pieces) {
  const hash = createHash("sha256");
  for (const piece of pieces) hash.update(piece, "utf8");
  return hash.digest("hex");
}

/** WIRE-9: the header in canonical form, one line feed, the payload's bytes. */
export function contentHash(header, payload = "") {
  return `sha256:${sha256(canonical(header), "\n", payload)}`;
}

/** REPORT-2: what a report names, and what a confirm means. */
export function resultHash(outcome, payload = "[]") {
  return contentHash({ outcome }, payload);
}

/** ART-4: the bytes of an artifact's chunks in a row, without a header. */
export function chunksHash(payloads) {
  return `sha256:${sha256(...payloads)}`;
}

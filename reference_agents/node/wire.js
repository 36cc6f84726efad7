// Frames and their two encodings (spec 3.1). A frame is an object of an envelope and a `body`; a payload is a string
// of JSON text in either encoding, so that nothing above this file knows which one a connection speaks.

import { Decoder, encode as pack, ExtData } from "@msgpack/msgpack";

export const SUBPROTOCOLS = { json: "a2a.coord+json", msgpack: "a2a.coord+msgpack" };

/** A message that is not of the form the specification gives (WIRE-12): the connection is given up. */
export class Malformed extends Error {}

const MAX_DEPTH = 64; // twice what a peer may send (LIMIT-2): what comes back may be larger (LIMIT-1)
const MAX_NUMBER = Number.MAX_SAFE_INTEGER;
const COUNTERS = ["mseq", "fence", "gen"];

/** One WebSocket message: text for JSON, bytes for MessagePack. */
export function encode(frames, encoding) {
  const list = Array.isArray(frames) ? frames : [frames];
  for (const frame of list) checked(frame, 0, true);
  if (encoding === "json") return list.map((frame) => JSON.stringify(frame)).join("\n");
  return Buffer.concat(list.map((frame) => pack(withBytes(frame), { ignoreUndefined: true })));
}

/** The frames of one WebSocket message, in their order (WIRE-2). */
export function decode(data, encoding) {
  const raw = encoding === "json" ? jsonFrames(data) : packedFrames(data);
  if (raw.length === 0) throw new Malformed("a message without a frame");
  return raw.map(frameOf);
}

function frameOf(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Malformed("a frame is a map");
  const frame = withoutNull(checked(value, 0));
  if (typeof frame.id !== "string" || typeof frame.kind !== "string") throw new Malformed("a frame has an id and a kind");
  for (const name of COUNTERS) {
    if (name in frame && !(Number.isInteger(frame[name]) && frame[name] >= 0 && frame[name] <= MAX_NUMBER)) {
      throw new Malformed(`${name} is an integer from 0 to 2^53 - 1`);
    }
  }
  if ("payload" in frame && typeof frame.payload !== "string") throw new Malformed("a payload is text or bytes");
  frame.body ??= {};
  if (typeof frame.body !== "object" || Array.isArray(frame.body)) throw new Malformed("a body is a map");
  frame.body = withoutNull(frame.body);
  return frame;
}

/** `null` is the same as absent, in the envelope and in a body (WIRE-8). */
function withoutNull(map) {
  return Object.fromEntries(Object.entries(map).filter(([, value]) => value !== null));
}

function jsonFrames(data) {
  const text = typeof data === "string" ? data : utf8(data);
  try {
    return text
      .split("\n")
      .filter((line) => line.trim() !== "")
      .map((line) => JSON.parse(line));
  } catch (problem) {
    throw new Malformed(`not JSON: ${problem.message}`);
  }
}

// The library refuses the key `__proto__`, which another language may well have used in a card or a `spec`. Under this
// name, which no UTF-8 can spell, it gets through and is put back afterwards as an ordinary key.
const STAND_IN = "\ud800__proto__";
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

const keyDecoder = {
  canBeCached: () => true,
  decode(bytes, offset, length) {
    const key = UTF8.decode(bytes.subarray(offset, offset + length));
    return key === "__proto__" ? STAND_IN : key;
  },
};

function textKey(key) {
  if (typeof key !== "string") throw new Malformed("keys of maps are text");
  return key;
}

function packedFrames(data) {
  // 64 bit integers come as BigInt, so that one which a number cannot hold is seen and not rounded.
  const decoder = new Decoder({ useBigInt64: true, keyDecoder, mapKeyConverter: textKey });
  try {
    return [...decoder.decodeMulti(data)];
  } catch (problem) {
    throw new Malformed(`not MessagePack: ${problem.message}`);
  }
}

function utf8(bytes) {
  try {
    return UTF8.decode(bytes);
  } catch {
    throw new Malformed("not UTF-8");
  }
}

/** The value with bytes as text, whole numbers as numbers, and nothing that one of the encodings cannot hold (WIRE-8). */
function checked(value, depth, sending = false) {
  if (depth > MAX_DEPTH) throw new Malformed("nested too deep");
  switch (typeof value) {
    case "number":
      if (!Number.isFinite(value)) throw new Malformed("a number that is none");
      // One without a fraction would be written as an integer that others cannot hold.
      if (sending && Number.isInteger(value) && !Number.isSafeInteger(value)) throw new Malformed("an integer beyond 2^53 - 1");
      return value;
    case "bigint":
      if (value > BigInt(MAX_NUMBER) || value < -BigInt(MAX_NUMBER)) throw new Malformed("an integer beyond 2^53 - 1");
      return Number(value);
    case "string":
      if (!value.isWellFormed()) throw new Malformed("text with a lone surrogate");
      return value;
    case "object":
      if (value === null) return value;
      if (Array.isArray(value)) return value.map((item) => checked(item, depth + 1, sending));
      if (value instanceof Uint8Array) return utf8(value);
      if (value instanceof ExtData || value instanceof Date) throw new Malformed("extension types are not used");
      return checkedMap(value, depth, sending);
    case "undefined":
      if (sending) return value; // left out by both encodings
    // falls through
    case "boolean":
      return value;
    default:
      throw new Malformed(`a ${typeof value} cannot be sent`);
  }
}

function checkedMap(map, depth, sending) {
  const result = {};
  for (const [key, item] of Object.entries(map)) {
    const name = key === STAND_IN ? "__proto__" : key;
    if (!name.isWellFormed()) throw new Malformed("a key with a lone surrogate");
    const value = checked(item, depth + 1, sending);
    Object.defineProperty(result, name, { value, enumerable: true, writable: true, configurable: true });
  }
  return result;
}

/** Fields of type payload are `bin` in MessagePack (WIRE-10). These are the ones that agents and clients send. */
function withBytes(frame) {
  const packed = { ...frame };
  if (frame.payload !== undefined) packed.payload = Buffer.from(frame.payload, "utf8");
  if (frame.kind === "task.ask" && frame.body?.default !== undefined) {
    packed.body = { ...frame.body, default: Buffer.from(frame.body.default, "utf8") };
  }
  return packed;
}

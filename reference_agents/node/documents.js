// What the skills take: documents, out of the parts of a task's input. Whoever reads a payload validates it (WIRE-5).

/** Input that does not fit: another attempt would not change that (REPORT-5). */
export class Unfit extends Error {}

export const DOCUMENTS_SCHEMA = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  type: "object",
  properties: {
    text: { type: "string", description: "One document." },
    name: { type: "string", description: "What it is called." },
    documents: {
      type: "array",
      items: {
        type: "object",
        properties: { name: { type: "string" }, text: { type: "string" } },
        required: ["text"],
      },
    },
  },
};

/** The documents of a payload, an array of Parts: text, a file's bytes, or data that fits the schema above. */
export function documentsOf(payload) {
  let parts;
  try {
    parts = JSON.parse(payload);
  } catch {
    throw new Unfit("the input is not JSON");
  }
  if (!Array.isArray(parts)) throw new Unfit("the input is an array of parts");
  const documents = parts.flatMap(ofPart);
  return documents.map(({ name, text }, place) => ({ name: name || `text ${place + 1}`, text }));
}

function ofPart(part) {
  if (part === null || typeof part !== "object") throw new Unfit("a part is an object");
  if (typeof part.text === "string") return [{ name: part.filename, text: part.text }];
  if (typeof part.raw === "string") return [{ name: part.filename, text: ofBytes(part.raw) }];
  if (typeof part.data === "string") return [{ name: part.filename, text: part.data }];
  if (part.data !== null && typeof part.data === "object") return ofData(part.data);
  throw new Unfit("a part holds text, a file's bytes or data");
}

function ofBytes(raw) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.from(raw, "base64"));
  } catch {
    throw new Unfit("a file that is not UTF-8 text");
  }
}

function ofData(data) {
  const list = data.documents ?? (data.text === undefined ? [] : [data]);
  if (!Array.isArray(list)) throw new Unfit("documents is a list");
  return list.map((document) => {
    const { name, text } = document ?? {};
    if (typeof text !== "string") throw new Unfit("a document has a text");
    if (name !== undefined && typeof name !== "string") throw new Unfit("a document's name is text");
    return { name, text };
  });
}

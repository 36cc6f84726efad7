// The skills: what the card says of them, and how they are done. `context` is what the attempt offers its work:
// `payload`, `restored`, `words()`, `progress`, `artifact`, `checkpoint` and `ask`.

import { DOCUMENTS_SCHEMA, documentsOf, Unfit } from "./documents.js";
import { anchorsOf, FINDINGS_SCHEMA, findingsOf, RULES } from "./lint.js";
import { STATISTICS_SCHEMA, statisticsOf, totalOf } from "./statistics.js";
import { TESTEE } from "./testee.js";

const TEXT_MODES = { inputModes: ["text/plain", "text/markdown", "application/json"], outputModes: ["application/json"] };
const WHICH_TEXT = [{ text: "There is no text in the input. Which text is meant?" }];

/** The documents of the input; where there are none, those of the delegator's answer. */
async function documentsFor(context) {
  const documents = documentsOf(context.payload);
  if (documents.length > 0) return documents;
  const answered = documentsOf(await context.ask(1, WHICH_TEXT));
  if (answered.length === 0) throw new Unfit("neither the input nor the answer has a text");
  return answered;
}

/** One document after the other, each in the checkpoint once it is done: the next attempt begins behind it. */
async function eachOf(documents, context, work) {
  const done = Array.isArray(context.restored?.done) ? context.restored.done : [];
  for (const document of documents.slice(done.length)) {
    done.push(work(document));
    context.checkpoint({ done });
    await context.progress(done.length, documents.length, document.name);
  }
  return done;
}

async function textStatistics(context) {
  const documents = await eachOf(await documentsFor(context), context, statisticsOf);
  return { documents, total: totalOf(documents) };
}

async function markdownLint(context) {
  const documents = await documentsFor(context);
  const anchors = new Map(documents.map(({ name, text }) => [name, anchorsOf(text)]));
  const findings = (await eachOf(documents, context, (document) => findingsOf(document, anchors))).flat();
  const ignored = ignoredRules(context);
  const left = findings.filter(({ rule }) => !ignored.has(rule));
  await context.artifact("report", documents, ({ name }) => reportOf(name, left));
  return { findings: left, documents: documents.length };
}

/** `{"ignore": [rule, ...]}` in the input, in feedback on a revision or in a word said meanwhile. */
function ignoredRules(context) {
  const said = [context.payload, ...context.words()].flatMap(partsOf);
  return new Set(said.flatMap((part) => (Array.isArray(part?.data?.ignore) ? part.data.ignore : [])));
}

/** The parts of a word; none where it cannot be read, as the work is not to fail for that (WIRE-5). */
function partsOf(payload) {
  try {
    return JSON.parse(payload);
  } catch {
    return [];
  }
}

function reportOf(name, findings) {
  const lines = findings.filter((finding) => finding.name === name);
  if (lines.length === 0) return `${name}: nothing\n`;
  return lines.map(({ line, rule, detail }) => `${name}:${line}: ${rule}: ${detail}\n`).join("");
}

export const SKILLS = {
  text_statistics: {
    run: textStatistics,
    card: {
      id: "text_statistics",
      name: "Text statistics",
      description: "Counts words, sentences and lines of texts, how long they take to read, and finds the longest sentences.",
      tags: ["text", "statistics"],
      examples: ["text_statistics of a README before it is published"],
      ...TEXT_MODES,
      inputSchema: DOCUMENTS_SCHEMA,
      outputSchema: STATISTICS_SCHEMA,
    },
  },
  markdown_lint: {
    run: markdownLint,
    card: {
      id: "markdown_lint",
      name: "Markdown lint",
      description: `Finds what is wrong in Markdown documents, with line and rule: ${Object.keys(RULES).join(", ")}.`,
      tags: ["markdown", "lint", "text"],
      examples: ["markdown_lint of all pages of a manual, with the links between them"],
      ...TEXT_MODES,
      inputSchema: {
        ...DOCUMENTS_SCHEMA,
        properties: { ...DOCUMENTS_SCHEMA.properties, ignore: { type: "array", items: { enum: Object.keys(RULES) } } },
      },
      outputSchema: FINDINGS_SCHEMA,
    },
  },
};

/** Those above, which an agent has by default, and those it has where it is asked to. */
export const KNOWN = { ...SKILLS, ...TESTEE };

/** The card of an agent with these skills (spec REG-5). */
export function cardOf(names = Object.keys(SKILLS)) {
  return {
    name: "Text helper",
    description: "Statistics and lint for texts, in JavaScript.",
    version: "1.0.0",
    supportedInterfaces: [],
    capabilities: { streaming: true },
    defaultInputModes: TEXT_MODES.inputModes,
    defaultOutputModes: TEXT_MODES.outputModes,
    skills: names.map((name) => KNOWN[name].card),
  };
}

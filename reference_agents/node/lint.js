// The skill `markdown_lint`: what is wrong with Markdown documents, each finding with its line and its rule.

export const RULES = {
  "trailing-space": "white space at the end of a line (two spaces, a line break, are let pass)",
  "hard-tab": "a tab outside code",
  "final-newline": "the text does not end with one line break",
  "heading-skips": "a heading is more than one level below the one before",
  "heading-duplicate": "two headings with the same text under the same heading",
  "heading-space": "no space between the hashes of a heading and its text",
  "heading-first": "the document has several headings of the first level",
  "fence-unclosed": "a code fence that is never closed",
  "fence-language": "a code fence that names no language",
  "anchor-broken": "a link to a heading that is not there",
  "link-empty": "a link that leads nowhere",
  "reference-unknown": "a link by a reference that is not defined",
  "image-text": "an image without a text for those who cannot see it",
};

export const FINDINGS_SCHEMA = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  type: "object",
  properties: {
    findings: {
      type: "array",
      items: {
        type: "object",
        properties: {
          name: { type: "string" },
          line: { type: "integer" },
          rule: { enum: Object.keys(RULES) },
          detail: { type: "string" },
        },
        required: ["name", "line", "rule", "detail"],
      },
    },
    documents: { type: "integer" },
  },
  required: ["findings", "documents"],
};

/** A document cut into lines: each with what it is, and without its code where links are looked for. */
function linesOf(text) {
  const lines = [];
  let fence = null;
  const all = text.split(/\r\n|\r|\n/);
  if (all.at(-1) === "") all.pop();
  for (const [place, line] of all.entries()) {
    const number = place + 1;
    const marks = line.match(/^ {0,3}(`{3,}|~{3,})\s*(.*)$/);
    if (fence === null && marks && !(marks[1][0] === "`" && marks[2].includes("`"))) {
      fence = { mark: marks[1], language: marks[2].trim(), number };
      lines.push({ number, line, kind: "fence", language: fence.language });
    } else if (fence !== null) {
      const closes = marks && marks[1][0] === fence.mark[0] && marks[1].length >= fence.mark.length && marks[2] === "";
      lines.push({ number, line, kind: closes ? "fence-end" : "code" });
      if (closes) fence = null;
    } else {
      lines.push({ number, line, kind: "text", prose: line.replace(/(`+)(?!`).*?[^`]\1(?!`)/g, (code) => " ".repeat(code.length)) });
    }
  }
  return { lines, unclosed: fence };
}

function headingsOf(lines) {
  const headings = [];
  let before = null;
  for (const entry of lines) {
    const { number, line, kind } = entry;
    const hashes = kind === "text" && line.match(/^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$/);
    const underline = kind === "text" && before?.kind === "text" && line.match(/^ {0,3}(=+|-+)[ \t]*$/);
    if (hashes) headings.push({ number, level: hashes[1].length, text: hashes[2] ?? "" });
    else if (underline && isParagraph(before.line)) {
      headings.push({ number: before.number, level: underline[1][0] === "=" ? 1 : 2, text: before.line.trim() });
    }
    before = entry;
  }
  return headings;
}

function isParagraph(line) {
  return line.trim() !== "" && !/^ {0,3}(#{1,6}(\s|$)|>|[-*+] |\d+[.)] |\|)/.test(line);
}

/** The anchor a heading gets, as code forges make it. */
export function anchorOf(text) {
  return text
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/<[^>]*>/g, "")
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\p{M}\p{Pc}\- ]/gu, "")
    .replaceAll(" ", "-");
}

/** All anchors of a document; a heading that comes again gets a number. */
export function anchorsOf(text) {
  const { lines } = linesOf(text);
  const anchors = new Set();
  const times = new Map();
  for (const { text: heading } of headingsOf(lines)) {
    const anchor = anchorOf(heading);
    const seen = times.get(anchor) ?? 0;
    times.set(anchor, seen + 1);
    anchors.add(seen === 0 ? anchor : `${anchor}-${seen}`);
  }
  for (const { prose = "" } of lines) {
    for (const [, named] of prose.matchAll(/<[a-z]+[^>]*\s(?:id|name)=["']([^"']+)["']/gi)) anchors.add(named);
  }
  return anchors;
}

/** What is wrong with one document; `anchors` has those of all documents that links may lead to, by their names. */
export function findingsOf({ name, text }, anchors = new Map()) {
  const { lines, unclosed } = linesOf(text);
  const findings = [];
  const find = (line, rule, detail) => findings.push({ name, line, rule, detail });
  whiteSpace(lines, text, find);
  fences(lines, unclosed, find);
  headings(lines, find);
  links(name, lines, new Map(anchors).set(name, anchorsOf(text)), find);
  return findings.sort((a, b) => a.line - b.line || (a.rule < b.rule ? -1 : a.rule > b.rule ? 1 : 0));
}

function whiteSpace(lines, text, find) {
  for (const { number, line, kind } of lines) {
    const trailing = line.match(/[ \t]+$/)?.[0];
    const breaks = kind === "text" && trailing === "  " && line.trim() !== "";
    if (trailing && !breaks) find(number, "trailing-space", `${trailing.length} at the end`);
    if (kind === "text" && line.includes("\t")) find(number, "hard-tab", `at column ${line.indexOf("\t") + 1}`);
  }
  if (text === "") return;
  if (!/[\r\n]$/.test(text)) find(lines.length, "final-newline", "there is none");
  else if (lines.at(-1)?.line === "") find(lines.length, "final-newline", "blank lines at the end");
}

function fences(lines, unclosed, find) {
  for (const { number, kind, language } of lines) {
    if (kind === "fence" && language === "") find(number, "fence-language", "none is named");
  }
  if (unclosed) find(unclosed.number, "fence-unclosed", `${unclosed.mark} is never closed`);
}

function headings(lines, find) {
  const above = []; // the headings this one is under, from the first level down
  const seen = new Map();
  let first = null;
  let level = 0;
  for (const heading of headingsOf(lines)) {
    if (level > 0 && heading.level > level + 1) find(heading.number, "heading-skips", `from level ${level} to ${heading.level}`);
    level = heading.level;
    above.length = Math.min(above.length, heading.level - 1);
    const place = JSON.stringify([...above, heading.text.toLowerCase()]);
    if (seen.has(place)) find(heading.number, "heading-duplicate", `as on line ${seen.get(place)}: ${heading.text}`);
    else seen.set(place, heading.number);
    above[heading.level - 1] = heading.text.toLowerCase();
    if (heading.level === 1) {
      if (first !== null) find(heading.number, "heading-first", `the first is on line ${first}`);
      first ??= heading.number;
    }
  }
  for (const { number, line, kind } of lines) {
    if (kind === "text" && /^ {0,3}#{1,6}[^#\s]/.test(line)) find(number, "heading-space", line.trim());
  }
}

function links(name, lines, anchors, find) {
  const defined = new Set();
  for (const { prose = "" } of lines) {
    const definition = prose.match(/^ {0,3}\[([^\]]+)\]:/);
    if (definition) defined.add(definition[1].toLowerCase());
  }
  for (const { number, prose, line } of lines) {
    if (prose === undefined) continue;
    for (const [, image, text, target] of prose.matchAll(/(!?)\[([^\]]*)\]\(\s*<?([^)\s>]*)>?[^)]*\)/g)) {
      if (image && text.trim() === "") find(number, "image-text", target);
      if (target === "" || target === "#") find(number, "link-empty", `[${text}]`);
      else anchor(name, target, anchors, (detail) => find(number, "anchor-broken", detail));
    }
    for (const [, text, label] of prose.matchAll(/\[([^\]]+)\]\[([^\]]*)\]/g)) {
      const wanted = (label || text).toLowerCase();
      if (!defined.has(wanted)) find(number, "reference-unknown", wanted);
    }
    const definition = line.match(/^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)/);
    if (definition) anchor(name, definition[1], anchors, (detail) => find(number, "anchor-broken", detail));
  }
}

/** Only links within the documents that are there can be judged. */
function anchor(name, target, anchors, broken) {
  const [, document, wanted] = target.match(/^([^#?]*)(?:\?[^#]*)?(?:#(.*))?$/) ?? [];
  if (!wanted || /^[a-z][a-z0-9+.-]*:/i.test(target)) return;
  const there = document === "" ? name : beside(name, document);
  const known = anchors.get(there);
  if (known && !known.has(unescaped(wanted))) broken(`no heading #${wanted} in ${there}`);
}

function unescaped(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The name of a document that another one names relative to itself. */
function beside(name, relative) {
  const steps = relative.startsWith("/") ? [] : name.split("/").slice(0, -1);
  for (const step of unescaped(relative).split("/")) {
    if (step === "..") steps.pop();
    else if (step !== "." && step !== "") steps.push(step);
  }
  return steps.join("/");
}

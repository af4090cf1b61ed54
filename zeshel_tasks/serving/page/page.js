// Offsets are UTF-16 code units, as JavaScript counts. Texts reach the page as text nodes, never as markup.
"use strict";

const element = (id) => document.getElementById(id);
const text = element("text"), status = element("status"), base = element("kb");
let marks = [];
let asking = new AbortController();

function made(tag, content, className) {
  const node = document.createElement(tag);
  if (content !== undefined) node.textContent = content;
  if (className) node.className = className;
  return node;
}

function say(message, isError) {
  status.textContent = message;
  status.className = isError ? "error" : "";
}

/* What was asked before fits neither the text nor the marks any more. */
function abandon() {
  asking.abort();
  asking = new AbortController();
  say("");
}

function showMarks() {
  const nodes = [], value = text.value;
  let position = 0;
  for (const { start, end } of marks) {
    nodes.push(value.slice(position, start), made("mark", value.slice(start, end)));
    position = end;
  }
  if (marks.length) nodes.push(value.slice(position));
  element("preview").replaceChildren(...nodes);
}

function markSelection() {
  let { selectionStart: start, selectionEnd: end } = text;
  while (start < end && /\s/.test(text.value[start])) start++;
  while (start < end && /\s/.test(text.value[end - 1])) end--;
  if (start === end) return say("Select a part of the text first.", true);
  marks = marks.filter((mark) => mark.end <= start || mark.start >= end);
  marks.push({ start, end });
  marks.sort((one, other) => one.start - other.start);
  abandon();
  showMarks();
}

function clearMarks() {
  marks = [];
  element("links").replaceChildren();
  element("by").textContent = "";
  abandon();
  showMarks();
}

const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)}%`);

function shownLink(link) {
  const section = made("section", undefined, link.nil ? "nil" : "");
  const heading = made("h2", `${link.mention} → `);
  heading.append(made("b", link.nil ? "no entity" : link.title));
  if (!link.nil) heading.append(made("small", ` ${link.id}`));
  const rates = `right: ${percent(link.probability)} · no entity for it: ${percent(link.nil_probability)}`;
  const table = made("table"), head = made("tr");
  head.append(made("th", "Candidate"), made("th", "Id"), made("th", "Score", "number"));
  table.append(head);
  for (const candidate of link.candidates) {
    const row = made("tr");
    row.append(made("td", candidate.title), made("td", candidate.id), made("td", candidate.score.toFixed(3), "number"));
    table.append(row);
  }
  section.append(heading, made("p", rates), table);
  return section;
}

/* Proxies answer, too: with a page, with JSON of their own, or with nothing. */
async function answered(address, field, options) {
  const response = await fetch(address, options).catch(() => null);
  if (response === null) throw new Error("The service cannot be reached. Try again.");
  const content = await response.json().catch(() => null);
  if (response.ok && content?.[field]) return content;
  const isProblem = typeof content?.detail === "string";
  throw new Error(isProblem ? content.detail : `Expected an answer of the service, got another one with status ${response.status}.`);
}

async function link(event) {
  event.preventDefault();
  if (!marks.length) return say("Mark a mention first.", true);
  abandon();
  say("Linking …");
  const { signal } = asking, document_ = { text: text.value, mentions: marks };
  const body = JSON.stringify({ kb: base.value, documents: [document_], offsets: "utf16" });
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body, signal };
  try {
    const found = await answered("v1/link", "documents", options);
    if (!signal.aborted) showLinks(found);
  } catch (error) {
    if (!signal.aborted) say(error.message, true);
  }
}

function showLinks({ documents, linked_by: by }) {
  element("links").replaceChildren(...documents[0].links.map(shownLink));
  element("by").textContent = `Linked by the models of ${by.run} (${by.models.slice(0, 12)}), ` +
    `knowledge base ${by.kb} (${by.kb_fingerprint.slice(0, 12)})`;
  say("");
}

async function listBases() {
  try {
    const { kbs } = await answered("v1/kbs", "kbs");
    base.replaceChildren(...kbs.map(({ kb }) => made("option", kb)));
    say(kbs.length ? "" : "The knowledge bases are being loaded. Open this page again in a moment.");
  } catch (error) {
    say(error.message, true);
  }
}

element("mark").addEventListener("click", markSelection);
element("clear").addEventListener("click", clearMarks);
element("form").addEventListener("submit", link);
text.addEventListener("input", clearMarks);
base.addEventListener("change", abandon);
listBases();

"use strict";
const find = (id) => document.getElementById(id);
const LONG = 128; // tokens above which attention is not drawn
const MANY = 25; // words above which occlusion replaces the slower Shapley values
// A text with nothing to read, as `is_empty` in text.py has it: a line or cell like that has no answer.
const EMPTY = /^[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$/;
const state = { token: "", chosen: undefined, table: null, most: 64 };

class Trouble extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function ask(path, body, signal) {
  const headers = { "content-type": "application/json" };
  if (state.token) headers.authorization = `Bearer ${state.token}`;
  const options = body === undefined ? { headers, signal } : { method: "POST", headers, signal, body: JSON.stringify(body) };
  const response = await fetch(path, options);
  const text = await response.text();
  if (response.ok) return text ? JSON.parse(text) : null;
  let message = `The server answered ${response.status}.`;
  try { message = JSON.parse(text).error; } catch { /* not JSON: the number must do */ }
  throw new Trouble(response.status, message);
}

function trouble(message) {
  find("trouble").textContent = message;
  find("trouble").hidden = !message;
}

const waiting = new Set(); // what starts again when the server is back

// Say what is wrong in words; when the server is gone, wait for it and start again.
function report(error, again) {
  if (error.name === "AbortError") return;
  if (error instanceof Trouble) {
    find("access").hidden = error.status !== 401;
    trouble(error.status === 429 ? "The server has too much to do. Trying again…" : error.message);
    if (error.status === 429) setTimeout(again, 1000);
    return;
  }
  trouble("The server does not answer. Waiting for it…");
  waiting.add(again);
  if (waiting.size > 1) return;
  const wait = setInterval(async () => {
    try { await fetch("health"); } catch { return; }
    clearInterval(wait);
    trouble("");
    const all = [...waiting];
    waiting.clear();
    all.forEach((each) => each());
  }, 1500);
}

let running = null;
let later = 0;

async function score() {
  if (running) running.abort();
  clearTimeout(later);
  const { signal } = (running = new AbortController());
  const text = find("text").value;
  if (EMPTY.test(text)) {
    find("scores").replaceChildren();
    find("explained").hidden = find("attended").hidden = true;
    return;
  }
  try {
    showScores(find("scores"), await ask("predict", { inputs: text }, signal));
    trouble("");
    later = setTimeout(() => explain(text, signal), 250);
  } catch (error) { report(error, score); }
}

async function explain(text, signal) {
  const method = text.split(/\s+/).length > MANY ? "occlusion" : "shapley";
  const label = find("label").value || undefined;
  try {
    let attention = find("attended").open;
    if (attention) [{ length: attention }] = await ask("tokenize", { inputs: text }, signal);
    const drawn = attention && attention <= LONG;
    const found = await ask("explain", { inputs: text, method, label, attention: drawn }, signal);
    find("explained").hidden = find("attended").hidden = false;
    showWords(find("words"), find("towards"), found);
    if (drawn) state.chosen = showAttention(find("attention"), found, state.chosen);
    else find("attention").textContent = attention ? `Not drawn: the text has more than ${LONG} tokens.` : "";
  } catch (error) {
    find("attended").hidden = true;
    if (error instanceof Trouble && [413, 422].includes(error.status)) {
      find("explained").hidden = false;
      find("words").replaceChildren();
      find("towards").textContent = `Not explained: ${error.message}.`;
    } else report(error, score);
  }
}

function debounced(milliseconds, run) {
  let timer = 0;
  return () => { clearTimeout(timer); timer = setTimeout(run, milliseconds); };
}

// Rows of cells: quotes may hold commas, line breaks and doubled quotes (RFC 4180); null if one is never closed. Cells
// are parted by what the first line has most of.
function parseCsv(text) {
  const rows = [[""]];
  const [first] = text.split("\n", 1);
  const comma = [",", ";", "\t"].reduce((most, each) => (first.split(each).length > first.split(most).length ? each : most));
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const row = rows[rows.length - 1];
    const each = text[i];
    if (quoted) {
      if (each !== '"') row[row.length - 1] += each;
      else if (text[i + 1] === '"') { row[row.length - 1] += '"'; i++; }
      else quoted = false;
    } else if (each === '"' && row[row.length - 1].trim() === "") { row[row.length - 1] = ""; quoted = true; }
    else if (each === comma) row.push("");
    else if (each === "\n") rows.push([""]);
    else if (each !== "\r") row[row.length - 1] += each;
  }
  return quoted ? null : rows.filter((row) => row.length > 1 || row[0] !== "");
}

async function open(file) {
  clear();
  if (file.size > 20e6) return trouble(`${file.name} is larger than 20 MB: use npdistil classify --input.`);
  let text;
  try { text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer()); }
  catch { return trouble(`${file.name} is not UTF-8.`); }
  trouble("");
  if (!file.name.toLowerCase().endsWith(".csv")) { find("texts").value = text; return scoreMany(); }
  const parsed = parseCsv(text);
  if (!parsed) return trouble(`${file.name} has a quotation mark that is never closed.`);
  const [names, ...rows] = parsed;
  if (!rows.length) return trouble(`${file.name} has no rows below its header.`);
  const length = (column) => rows.reduce((sum, row) => sum + (row[column] ?? "").length, 0);
  const known = names.findIndex((name) => ["text", "sentence", "review"].includes(name.trim().toLowerCase()));
  const best = known >= 0 ? known : names.reduce((most, _, i) => (length(i) > length(most) ? i : most), 0);
  const of = (column) => run(rows.map((row) => row[column] ?? ""), { names, rows });
  find("column").replaceChildren(...names.map((name, i) => element("option", name || `column ${i + 1}`, { value: i })));
  find("column").value = best;
  find("columns").hidden = false;
  find("column").onchange = () => { find("texts").value = ""; of(find("column").value); };
  return of(best);
}

function scoreMany() {
  find("columns").hidden = true;
  return run(find("texts").value.split("\n").filter((line) => !EMPTY.test(line)));
}

let batch = 0;

function clear() {
  batch++;
  find("save").hidden = find("histogram").hidden = true;
  find("table").replaceChildren();
  find("progress").textContent = "";
}

// The texts, and the file that they are a column of.
async function run(texts, file = { names: ["text"], rows: texts.map((text) => [text]) }) {
  clear();
  const mine = batch;
  state.table = { rows: [], shown: [], sorted: "", down: false, file };
  let size = state.most;
  for (let first = 0; first < texts.length && mine === batch; ) {
    const some = texts.slice(first, first + size);
    find("progress").textContent = `${first} of ${texts.length}`;
    try {
      const full = some.filter((text) => !EMPTY.test(text));
      const answers = full.length ? await ask("predict", { inputs: full.map((text) => [text]) }) : [];
      if (mine !== batch) return;
      for (const text of some) {
        const labels = EMPTY.test(text) ? [] : answers.shift();
        const { label, score } = labels[0] ?? { label: "", score: "" };
        state.table.rows.push({ text, label, score, labels });
      }
      first += some.length;
      size = state.most;
      trouble("");
    } catch (error) {
      if (mine !== batch) return;
      if (error instanceof Trouble && [413, 422].includes(error.status)) { // too much at once, or one that cannot be
        if (some.length > 1) { size = Math.ceil(some.length / 2); continue; }
        state.table.rows.push({ text: some[0], label: `not scored: ${error.message}`, score: "", labels: [] });
        first += 1;
      } else if (error instanceof Trouble && error.status === 429) {
        await new Promise((resolve) => setTimeout(resolve, 1000));
      } else {
        find("progress").textContent = "";
        return report(error, () => { if (mine === batch) run(texts, file); });
      }
    }
  }
  if (mine !== batch) return;
  find("progress").textContent = `${texts.length} texts`;
  state.table.shown = [...state.table.rows];
  find("save").hidden = !texts.length;
  find("histogram").hidden = !state.table.rows.some((row) => row.labels.length);
  drawHistogram();
  drawTable();
}

function drawHistogram() {
  const rows = state.table.rows.filter((row) => row.labels.length);
  if (!rows.length) return;
  const names = rows[0].labels.map((each) => each.label).sort();
  const name = names[names.length - 1];
  const bins = new Array(20).fill(0);
  for (const row of rows) {
    const { score } = row.labels.find((each) => each.label === name);
    bins[Math.max(0, Math.min(19, Math.floor(score * 20)))]++;
  }
  const most = Math.max(...bins);
  const bars = bins.map((count, i) => share(element("i", undefined, { title: `${(i / 20).toFixed(2)} to ${((i + 1) / 20).toFixed(2)}: ${count}` }), count / most));
  const said = bins.map((count, i) => (count ? `${count} from ${(i / 20).toFixed(2)}` : "")).filter(Boolean).join(", ");
  find("histogram").setAttribute("aria-label", `texts by their score of ${name}: ${said}`);
  find("histogram").setAttribute("role", "img");
  find("histogram").replaceChildren(...bars, element("span", `0 · score of ${name}, tallest bar: ${most} texts`), element("span", "1"));
}

function drawTable() {
  const { shown: rows, sorted, down } = state.table;
  if (!rows.length) return;
  const head = element("tr");
  for (const name of ["text", "label", "score"]) {
    const cell = element("th", undefined, { "aria-sort": sorted !== name ? "none" : down ? "descending" : "ascending" });
    const button = element("button", name + (sorted !== name ? "" : down ? " ↓" : " ↑"), { type: "button" });
    button.addEventListener("click", () => sortBy(name));
    cell.append(button);
    head.append(cell);
  }
  const body = element("tbody");
  for (const row of rows.slice(0, 1000)) {
    const line = element("tr");
    const text = element("td", row.text, { class: "text", dir: "auto" });
    line.append(text, element("td", row.label, { class: "label" }), element("td", row.labels.length ? row.score.toFixed(4) : "", { class: "number" }));
    body.append(line);
  }
  const top = element("thead");
  top.append(head);
  const table = element("table");
  table.append(top, body);
  find("table").replaceChildren(table);
  if (rows.length > 1000) find("table").append(element("p", "The first 1,000 rows are shown; the file has all.", { class: "hint" }));
}

function sortBy(name) {
  const table = state.table;
  table.down = table.sorted === name ? !table.down : name === "score";
  table.sorted = name;
  table.shown.sort((a, b) => (a[name] < b[name] ? -1 : a[name] > b[name] ? 1 : 0) * (table.down ? -1 : 1));
  drawTable();
  find("table").querySelector(`th[aria-sort$="ending"] button`).focus();
}

// What the file had, in its order, and the labels beside. A spreadsheet would run a cell that begins like a formula: that
// gets an apostrophe, unless it is a number; and takes the file for UTF-8 by the mark at its start.
function save() {
  const safe = (value) => (/^[=+\-@\t\r]/.test(value) && Number.isNaN(Number(value)) ? `'${value}` : value);
  const cell = (value) => `"${safe(String(value)).replaceAll('"', '""')}"`;
  const { names, rows } = state.table.file;
  const free = (name) => (names.includes(name) ? free(`npdistil ${name}`) : name);
  const lines = [[...names, free("label"), free("score")]];
  state.table.rows.forEach((row, i) => {
    lines.push([...names.map((_, column) => rows[i][column] ?? ""), row.label, row.score]);
  });
  const url = URL.createObjectURL(new Blob(["\ufeff", ...lines.map((line) => line.map(cell).join(",") + "\r\n")], { type: "text/csv" }));
  element("a", "", { href: url, download: "labels.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

async function begin() {
  try {
    const info = await ask("info");
    const kind = info.model_type.classifier ?? info.model_type.reranker;
    const names = kind ? Object.values(kind.id2label) : [];
    find("classifier").hidden = !kind;
    find("other").hidden = Boolean(kind);
    find("other").textContent = `This page shows what a text classifier says; the model here is for ${info.task}: POST ${info.task === "embedding" ? "/embed" : `/pipeline/${info.task}`} answers it.`;
    state.most = Math.min(64, info.max_client_batch_size);
    find("model").textContent = `${info.model_id}, ${info.model_dtype}, ${info.engine} engine, version ${info.version}`;
    find("label").replaceChildren(element("option", "the best label", { value: "" }), ...names.map((name) => element("option", name)));
    find("access").hidden = true;
    if (kind) await score();
  } catch (error) { report(error, begin); }
}

find("text").addEventListener("input", debounced(100, score));
find("label").addEventListener("change", score);
find("attended").addEventListener("toggle", () => { if (find("attended").open) score(); });
find("score").addEventListener("click", scoreMany);
find("save").addEventListener("click", save);
find("choose").addEventListener("click", () => find("file").click());
find("file").addEventListener("change", () => { if (find("file").files[0]) open(find("file").files[0]); find("file").value = ""; });
find("access").addEventListener("submit", (event) => { event.preventDefault(); state.token = find("token").value; trouble(""); begin(); });
for (const name of ["dragover", "dragleave", "drop"]) {
  find("texts").addEventListener(name, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return; // text goes where it is dropped
    event.preventDefault();
    find("texts").classList.toggle("drop", name === "dragover");
    if (name === "drop" && event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
}
begin();

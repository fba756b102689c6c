"use strict";
// The dialogue browser: filters, a paged list, search through every block, links into it, which hold in a report made
// anew: #outcome=unsafe&dialogue=sft/mini-bench-7.

const PAGE = 25;
const NAMES = ["policy", "kind", "subset", "outcome"]; // in the order of a row's first four entries
const MARKS = { pass: "✓", unsafe: "✗", "safe, not helpful": "~", "not graded": "?" };
const $ = (id) => document.getElementById(id);

let index; // {labels, block, rows, pictures}
let matches = []; // numbers of the rows that the filters let through
let page = 0;
let chosen = -1;
let filtering = 0; // counts changes of the filters, so that an outdated search stops
let linking = false; // whether the address names what is shown: once something was asked for

function facts(row) {
  const [policy, kind, subset, outcome] = NAMES.map((name, at) => index.labels[name][index.rows[row][at]]);
  return { policy, kind, subset, outcome, scenario: index.rows[row][4], tones: index.rows[row][5] };
}

const field = (name) => $("filters").elements[name];
const query = () => field("query").value.trim().toLowerCase();

function fillFilters() {
  NAMES.forEach((name, at) => {
    const counts = new Array(index.labels[name].length).fill(0);
    for (const row of index.rows) counts[row[at]] += 1;
    field(name).replaceChildren(
      element("option", { value: "" }, `all (${index.rows.length})`),
      ...index.labels[name].map((label, number) => element("option", { value: String(number) }, `${label || "-"} (${counts[number]})`)));
  });
}

async function refilter() {
  const mine = ++filtering;
  const wanted = NAMES.map((name) => field(name).value);
  const passing = [];
  index.rows.forEach((row, number) => {
    if (wanted.every((value, at) => value === "" || Number(value) === row[at])) passing.push(number);
  });
  page = 0;
  matches = query() ? [] : passing;
  drawList(query() && "searching: ");
  if (query()) await search(passing, query(), mine);
  if (mine === filtering) settle();
}

async function search(rows, words, mine) {
  let drawn = performance.now();
  for (let at = 0; at < rows.length; ) {
    const number = Math.floor(rows[at] / index.block);
    const dialogues = await block(number, false);
    if (mine !== filtering) return;
    for (; at < rows.length && Math.floor(rows[at] / index.block) === number; at++) {
      if (holds(rows[at], dialogues[rows[at] % index.block], words)) matches.push(rows[at]);
    }
    if (performance.now() - drawn > 200) {
      drawList(`searching, ${Math.round((100 * at) / rows.length)}%: `);
      await new Promise((resume) => setTimeout(resume)); // let the page answer
      drawn = performance.now();
    }
  }
}

function holds(row, dialogue, words) {
  const texts = dialogue.turns.flatMap((turn) => [turn.user, turn.assistant, turn.verdict]);
  return [index.rows[row][4], ...texts].some((text) => text.toLowerCase().includes(words));
}

function settle() {
  const at = Math.max(0, matches.indexOf(chosen));
  page = Math.floor(at / PAGE);
  drawList();
  choose(matches[at] ?? -1);
}

function drawList(progress = "") {
  const last = Math.max(0, Math.ceil(matches.length / PAGE) - 1);
  page = Math.min(page, last);
  $("found").textContent = `${progress}${matches.length} of ${index.rows.length} dialogues`;
  $("page").textContent = matches.length ? `${page * PAGE + 1}–${Math.min(matches.length, (page + 1) * PAGE)} of ${matches.length}` : "none";
  $("back").disabled = page === 0;
  $("on").disabled = page >= last;
  const focused = $("list").contains(document.activeElement);
  $("list").replaceChildren(...matches.slice(page * PAGE, (page + 1) * PAGE).map(listItem));
  if (focused) ($("list").querySelector("[aria-current]") ?? $("list").querySelector("button"))?.focus();
}

// The policy of a row; members of a group, rollouts of one step and scenario, are counted.
function member(row) {
  const alike = (at) => index.rows[at] && named(at) === named(row);
  let first = row;
  while (alike(first - 1)) first--;
  return facts(row).policy + (first < row || alike(row + 1) ? ` (${row - first + 1})` : "");
}

function listItem(row) {
  const { outcome, scenario, tones } = facts(row);
  const button = element("button", { type: "button", onclick: () => choose(row, true) },
    `${MARKS[outcome] ?? ""} ${member(row)}`, element("small", {}, `${scenario} · ${outcome}`), strip(tones));
  button.dataset.row = row;
  if (row === chosen) button.setAttribute("aria-current", "true");
  return element("li", {}, button);
}

async function choose(row, asked = false) {
  chosen = row;
  for (const button of $("list").querySelectorAll("button")) {
    if (Number(button.dataset.row) === row) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  linking ||= asked;
  if (linking) try {
    history.replaceState(null, "", address());
  } catch { /* some browsers forbid it for files: the page works without */ }
  if (row < 0) return $("dialogue").replaceChildren(element("p", {}, "No dialogue fits these filters."));
  const dialogues = await block(Math.floor(row / index.block));
  if (row !== chosen) return;
  const focused = $("dialogue").contains(document.activeElement) && document.activeElement.textContent;
  $("dialogue").replaceChildren(
    ...dialogueNodes(facts(row), dialogues[row % index.block], address(), moves(row), others(row), index.pictures, query()));
  if (focused !== false) { // the button that was pressed is another one now
    const buttons = [...$("dialogue").querySelectorAll("button:enabled")];
    (buttons.find((button) => button.textContent === focused) ?? $("dialogue")).focus({ preventScroll: true });
  }
  if (asked && matchMedia("(max-width: 56rem)").matches) $("dialogue").scrollIntoView();
}

function moves(row) {
  const at = matches.indexOf(row);
  return [["Previous", -1], ["Next", 1]].map(([label, by]) => {
    const there = matches[at + by] !== undefined && at >= 0;
    return element("button", { type: "button", disabled: !there, onclick: () => step(by) }, label);
  });
}

// Buttons for the dialogues of the same scenario: they stand next to each other.
function others(row) {
  const same = (at) => index.rows[at] && index.rows[at][4] === index.rows[row][4];
  let from = row, to = row;
  while (same(from - 1) && row - from < 40) from--;
  while (same(to + 1) && to - row < 40) to++;
  return Array.from({ length: to - from + 1 }, (_, at) => {
    const { outcome } = facts(from + at);
    const button = element("button", { type: "button", onclick: () => choose(from + at, true), title: outcome }, `${MARKS[outcome] ?? ""} ${member(from + at)}`);
    if (from + at === row) button.setAttribute("aria-current", "true");
    return button;
  });
}

function step(by) {
  const at = matches.indexOf(chosen);
  const next = matches[at < 0 ? 0 : at + by];
  if (next === undefined) return;
  const focused = $("list").contains(document.activeElement);
  page = Math.floor(matches.indexOf(next) / PAGE);
  drawList();
  choose(next, true);
  const current = $("list").querySelector("[aria-current]");
  current?.scrollIntoView({ block: "nearest" });
  if (focused) current?.focus();
}

// What leads back to what is shown. Rollouts of one step may share a scenario: those after the first are counted.
function address() {
  const told = new URLSearchParams();
  for (const name of NAMES) {
    if (field(name).value !== "") told.set(name, index.labels[name][Number(field(name).value)]);
  }
  if (field("query").value) told.set("query", field("query").value);
  if (chosen >= 0) {
    told.set("dialogue", named(chosen));
    const before = index.rows.slice(0, chosen).filter((_, row) => named(row) === named(chosen)).length;
    if (before) told.set("number", String(before + 1));
  }
  return `#${told}`;
}

const named = (row) => `${facts(row).policy}/${facts(row).scenario}`;

async function follow() {
  const told = new URLSearchParams(location.hash.slice(1));
  for (const name of NAMES) { // what this report has no dialogue of matches none
    if (told.has(name) && !index.labels[name].includes(told.get(name))) index.labels[name].push(told.get(name));
  }
  fillFilters();
  for (const name of NAMES) field(name).value = told.has(name) ? String(index.labels[name].indexOf(told.get(name))) : "";
  field("query").value = told.get("query") ?? "";
  const rows = told.has("dialogue") ? [...index.rows.keys()].filter((row) => named(row) === told.get("dialogue")) : [];
  chosen = rows[Number(told.get("number") ?? 1) - 1] ?? -1;
  linking = location.hash.includes("=");
  await refilter();
  if (linking) $("dialogues").scrollIntoView();
}

function listen() {
  let waiting;
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  const changed = () => { linking = true; refilter(); };
  $("filters").addEventListener("change", (event) => event.target !== field("query") && changed()); // it has "input"
  $("filters").addEventListener("reset", () => setTimeout(changed));
  field("query").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(changed, 250);
  });
  $("back").addEventListener("click", () => { page--; drawList(); });
  $("on").addEventListener("click", () => { page++; drawList(); });
  const folded = [...document.querySelectorAll("details:not([open])")];
  addEventListener("beforeprint", () => folded.forEach((table) => { table.open = true; }));
  addEventListener("hashchange", () => { if (location.hash.includes("=")) follow(); });
  addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const listed = $("list").contains(event.target) && { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (listed) { event.preventDefault(); step(listed); }
    else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "/") { event.preventDefault(); field("query").focus(); }
  });
}

async function start() {
  if (typeof DecompressionStream === "undefined") {
    $("found").textContent = "This browser cannot unpack the dialogues (it has no DecompressionStream): take a newer one.";
    return;
  }
  index = await unpack("index");
  listen();
  await follow();
}

start().catch((error) => { $("found").textContent = `The dialogues cannot be unpacked: ${error}`; });

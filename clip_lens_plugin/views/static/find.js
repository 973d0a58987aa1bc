// Finds heads and texts on a report's page: marks and counts them, and goes from one to the next.

const ROWS = ":is(#heads, #textspan, #roles, #classes, .answers .pair) .cl-table tbody tr";
const UNITS = `.cl-grid td[title], .cl-card, .cl-card li, .cl-text, .cl-decision li, ${ROWS}`;
const LEFT_OUT = ".fold :is(.cl-card, .cl-card li, .cl-table tr)";
/** "L5H3", "layer 5, head 3" or "5, head 3"; or a layer alone, "L5" or "layer 5". */
const HEAD = /^(?:l|layer ?)?(\d+)[ ,]*h(?:ead)? ?(\d+)$|^(?:l|layer ?)(\d+)$/;
const HINT = "Enter goes to the next, Escape clears";

document.documentElement.classList.add("scripted"); // Without scripts there is no box.

const plain = (text) => text.toLowerCase().replace(/\s+/g, " ").trim();

/** What is looked for in a unit: the text that it shows; of a row the head that its first columns name. */
function said(unit) {
  if (unit.title) return plain(unit.title);
  const named = unit.closest("table")?.tHead?.rows[0]?.cells;
  const ofHead = unit.cells && named?.[0].textContent === "layer" && named?.[1]?.textContent === "head";
  const head = ofHead ? `layer ${unit.cells[0].textContent}, head ${unit.cells[1].textContent} ` : "";
  return plain(head + [...unit.childNodes].map((node) => node.textContent).join(" "));
}

/** Whether what a unit says is what was typed. */
function asked(query) {
  const found = HEAD.exec(query);
  if (!found) return (text) => text.includes(query);
  const [, layer, head, whole] = found;
  const named = head === undefined
    ? `layer ${whole}(?!\\d)|(?:^|\\D)${whole}, head \\d|\\bl${whole}h\\d`
    : `(?:^|\\D)${layer}, head ${head}(?!\\d)|\\bl${layer}h${head}(?!\\d)`;
  const pattern = new RegExp(named);
  return (text) => pattern.test(text);
}

/** The innermost units that say it, in the order of the page; those beside them are left out of what is folded. */
function look(query) {
  const units = [...document.querySelectorAll(UNITS)];
  const matches = asked(query);
  const matching = new Set(query ? units.filter((unit) => matches(said(unit))) : []);
  const around = (unit) => unit.parentElement.closest(UNITS);
  const holding = new Set();
  for (const unit of matching) for (let outer = around(unit); outer; outer = around(outer)) holding.add(outer);
  const hits = units.filter((unit) => matching.has(unit) && !holding.has(unit));
  const hit = new Set(hits);
  for (const unit of units) {
    unit.classList.toggle("found", hit.has(unit));
    unit.classList.remove("found-now");
    const within = around(unit);
    const stays = !query || hit.has(unit) || holding.has(unit) || (within && hit.has(within)) || !unit.matches(LEFT_OUT);
    unit.classList.toggle("left-out", !stays);
  }
  for (const fold of document.querySelectorAll(".fold")) {
    const n = hits.filter((each) => fold.contains(each)).length;
    if (n) fold.querySelector("summary").dataset.found = n;
    else delete fold.querySelector("summary").dataset.found;
  }
  return hits;
}

const sectionOf = (unit) => unit.closest(".fold")?.querySelector("h2") ?? unit.closest("section")?.querySelector("h2");

function unfold(unit) {
  for (let fold = unit.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
}

function start() {
  const box = document.getElementById("find");
  const found = document.getElementById("found");
  let hits = [], at = -1;
  const renew = () => {
    const now = hits[at];
    const query = plain(box.value);
    hits = look(query);
    at = -1;
    const sections = new Set(hits.map(sectionOf)).size;
    found.textContent = query ? `${hits.length} found in ${sections} section${sections === 1 ? "" : "s"}` : HINT;
    if (!query) now?.scrollIntoView({ block: "nearest" });
  };
  const go = (step) => {
    if (!hits.length) return;
    hits[at]?.classList.remove("found-now");
    at = at < 0 && step < 0 ? hits.length - 1 : (at + step + hits.length) % hits.length;
    unfold(hits[at]);
    hits[at].classList.add("found-now");
    hits[at].scrollIntoView({ block: hits[at].offsetHeight > innerHeight / 2 ? "start" : "center" });
    found.textContent = `${at + 1} of ${hits.length}: ${sectionOf(hits[at])?.textContent ?? ""}`;
  };
  box.addEventListener("input", renew);
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") box.value = "";
    if (event.key === "Escape") renew();
    if (event.key === "Enter") go(event.shiftKey ? -1 : 1);
    if (event.key === "Escape" || event.key === "Enter") event.preventDefault();
  });
  for (const command of document.querySelectorAll("code[tabindex]")) {
    command.addEventListener("focus", () => getSelection().selectAllChildren(command));
  }
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();

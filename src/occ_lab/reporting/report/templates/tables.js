"use strict";

// Tables: a click on a title sorts by it; absent values come last in both directions.
const order = new Intl.Collator("en", { numeric: true });

function sortKey(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  return text === "" || text === "–" ? null : text;
}

function compareKeys(a, b) {
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? order.compare(a, b) : x - y;
}

function sortBy(table, column) {
  const title = table.tHead.rows[0].cells[column];
  const up = title.ariaSort ? title.ariaSort !== "ascending" : !title.classList.contains("num");
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  title.setAttribute("aria-sort", up ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows].map((row) => [sortKey(row, column), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return up ? compareKeys(a, b) : compareKeys(b, a);
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((title, column) => {
    if (title.localName !== "th") return; // a drawing
    const button = document.createElement("button");
    button.append(...title.childNodes);
    button.addEventListener("click", () => sortBy(table, column));
    title.append(button);
  });
}

// A choice among tables.
for (const chooser of document.querySelectorAll("[data-chooses]")) {
  const choices = document.querySelectorAll(`[data-chosen-by="${chooser.dataset.chooses}"]`);
  const choose = () => choices.forEach((each, index) => (each.hidden = index !== Number(chooser.value)));
  chooser.addEventListener("change", choose);
  choose(); // a reloaded page keeps the choice
}


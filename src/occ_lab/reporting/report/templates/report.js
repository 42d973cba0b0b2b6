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
    if (title.classList.contains("still")) return;
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

// Charts. Plotly reads some HTML in texts, and names may hold anything.
const charts = JSON.parse(document.getElementById("charts").textContent);
const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const percent = (fraction) => (100 * fraction).toFixed(1);
const OPTIONS = { displaylogo: false, responsive: true };
const DASHES = ["solid", "dash", "dot", "dashdot"];

function layout(title, x, y, more = {}) {
  const line = { gridcolor: colour("line"), linecolor: colour("faint"), zeroline: false, automargin: true };
  return {
    title: { text: title, font: { size: 14 }, x: 0, xref: "paper", y: 0.97, yanchor: "top" },
    paper_bgcolor: colour("page"),
    plot_bgcolor: colour("page"),
    font: { color: colour("ink"), size: 12, family: getComputedStyle(document.body).fontFamily },
    margin: { t: 58, r: 15, b: 45, l: 55 },
    hoverlabel: { namelength: -1 },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    ...more,
    xaxis: { ...line, title: { text: x }, ...more.xaxis },
    yaxis: { ...line, title: { text: y }, ...more.yaxis },
  };
}

function drawNorms() {
  const place = document.getElementById("norm-charts");
  charts.norms.forEach((chart, number) => {
    const box = place.children[number] ?? place.appendChild(document.createElement("div"));
    const tones = [colour("normal"), colour("anomalous"), "#3a9a5b", "#9a5bc4", "#b08a1e", "#2a9d9d"];
    const lines = chart.lines.map((line, i) => ({
      name: plain(line.name),
      x: line.log2,
      y: line.auroc,
      customdata: line.norms,
      error_y: { type: "data", array: line.deviation, thickness: 1.2, visible: line.deviation.some(Boolean) },
      mode: "lines+markers",
      line: { color: tones[i % tones.length], dash: DASHES[Math.floor(i / tones.length) % DASHES.length] },
      hovertemplate: "norm %{customdata}: %{y:.1f} ± %{error_y.array:.1f}",
    }));
    const norms = [...new Set(chart.lines.flatMap((line) => line.norms))].sort((a, b) => a - b);
    const ticks = { tickvals: norms.map(Math.log2), ticktext: norms.map((norm) => norm.toPrecision(3) * 1) };
    const reach = chart.lines.flatMap((line) => line.auroc.flatMap((y, i) => [y - line.deviation[i], y + line.deviation[i]]));
    const [low, high] = [Math.min(...reach), Math.max(...reach)];
    const room = Math.max(1 - (high - low) / 2, 0.1 * (high - low)); // at least 2 points: less is no difference
    const shape = layout(plain(chart.dataset), "norm of the target (steps of log₂)", "image AUROC (%)", {
      xaxis: ticks,
      yaxis: { range: [low - room, high + room] },
      showlegend: true,
    });
    Plotly.react(box, lines, shape, OPTIONS);
  });
}

const runOf = document.getElementById("score-run");
const taskOf = document.getElementById("score-task");

function fill(select, names) {
  const kept = select.selectedOptions[0]?.text;
  select.replaceChildren(...names.map((name, index) => new Option(name, index)));
  const index = [...select.options].findIndex((option) => option.text === kept);
  select.value = Math.max(index, 0);
}

function drawScores() {
  const run = charts.scores[runOf.value];
  if (!run) return;
  const name = taskOf.selectedOptions[0].text;
  const found = run.tasks[name];
  const kinds = ["normal", "anomalous"].map((kind, i) => ({
    name: `${kind} (${found.counts[i]})`,
    type: "bar",
    x: found.bins,
    y: found[kind],
    marker: { color: colour(kind) },
    opacity: 0.65,
    hovertemplate: "%{y:.1%} at %{x}",
  }));
  const points = found.points ?? [];
  const set = points.filter((point) => point.threshold !== null);
  const histogram = layout(plain(name), "image score", "fraction of the images", {
    barmode: "overlay",
    bargap: 0,
    yaxis: { tickformat: ".0%" },
    shapes: set.map((point) => ({
      type: "line", x0: point.threshold, x1: point.threshold, y0: 0, y1: 1, yref: "paper",
      line: { color: colour("ink"), width: 1, dash: "dot" },
    })),
    annotations: set.map((point, i) => ({
      x: point.threshold, y: 1 - 0.09 * i, yref: "paper", xanchor: "left", showarrow: false,
      text: ` ${100 * point.rate} % overkill`, font: { size: 11 },
    })),
  });
  Plotly.react("histogram", kinds, histogram, OPTIONS);
  const fraction = { range: [-0.02, 1.02], tickformat: ".0%" };
  const square = { xaxis: fraction, yaxis: fraction, showlegend: false };
  const line = { color: colour("link"), width: 2 };
  const roc = found.roc ?? [[], []];
  const pr = found.pr ?? [[], []];
  Plotly.react("roc", [
    { x: [0, 1], y: [0, 1], mode: "lines", line: { color: colour("faint"), width: 1, dash: "dot" }, hoverinfo: "skip" },
    { x: roc[0], y: roc[1], mode: "lines", line, hovertemplate: "overkill %{x:.1%}, found %{y:.1%}<extra></extra>" },
    {
      x: points.map((point) => point.overkill), y: points.map((point) => 1 - point.escape), mode: "markers",
      marker: { color: colour("ink"), size: 8 }, customdata: points.map((point) => 100 * point.rate),
      hovertemplate: "at %{customdata} % overkill: found %{y:.1%}<extra></extra>",
    },
  ], layout(found.roc ? `ROC, AUROC ${percent(found.auroc)} %` : "no ROC: one kind of images", "false-positive rate (overkill)", "anomalous found", square), OPTIONS);
  Plotly.react("pr", [
    { x: pr[0], y: pr[1], mode: "lines", line: { ...line, shape: "vh" }, hovertemplate: "found %{x:.1%}, precision %{y:.1%}<extra></extra>" },
  ], layout(found.pr ? `Precision–recall, AP ${percent(found.ap)} %` : "no precision–recall curve", "anomalous found (recall)", "precision", square), OPTIONS);
  document.getElementById("score-facts").textContent = points
    .map((p) => `At ${100 * p.rate} % overkill: threshold ${p.threshold?.toPrecision(5) ?? "−∞"}, overkill ${percent(p.overkill)} %, escapes ${percent(p.escape)} %.`)
    .join(" ");
}

function chooseRun() {
  const run = charts.scores[runOf.value];
  if (run) fill(taskOf, Object.keys(run.tasks));
  drawScores();
}

function draw() {
  drawNorms();
  drawScores();
}

fill(runOf, charts.scores.map((run) => run.label));
runOf.addEventListener("change", chooseRun);
taskOf.addEventListener("change", drawScores);
chooseRun();
drawNorms();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

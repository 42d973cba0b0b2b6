"use strict";
// Charts. Plotly reads some HTML in texts, and names may hold anything.
const charts = JSON.parse(document.getElementById("charts").textContent);
const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const percent = (fraction) => (100 * fraction).toFixed(1);
// The mode bar has a strip of its own above the drawing, so that it hides nothing.
const OPTIONS = {
  displaylogo: false,
  responsive: true,
  modeBarButtons: [["toImage", "resetScale2d"]],
};
const DASHES = ["solid", "dash", "dot", "dashdot"];
const toneOf = (index) => [colour("normal"), colour("anomalous"), "#3a9a5b", "#9a5bc4", "#b08a1e", "#2a9d9d"][index % 6];

function layout(x, y, more = {}) {
  const line = { gridcolor: colour("line"), linecolor: colour("faint"), zeroline: false, automargin: true };
  return {
    paper_bgcolor: colour("page"),
    plot_bgcolor: colour("page"),
    font: { color: colour("ink"), size: 12, family: getComputedStyle(document.body).fontFamily },
    margin: { t: 32, r: 15, b: 45, l: 55 },
    modebar: { bgcolor: "transparent", color: colour("faint"), activecolor: colour("ink") },
    hoverlabel: { namelength: -1 },
    legend: { orientation: "h", x: 0, y: 0, yref: "container", yanchor: "bottom" },
    ...more,
    xaxis: { ...line, title: { text: x }, ...more.xaxis },
    yaxis: { ...line, title: { text: y }, ...more.yaxis },
  };
}

// The boxes of charts below their titles. All of them are made before any is drawn, since each has
// the width that the others leave it.
function chartsIn(place, titles) {
  while (place.children.length > titles.length) place.lastChild.remove();
  while (place.children.length < titles.length) {
    const figure = place.appendChild(document.createElement("figure"));
    figure.append(document.createElement("figcaption"), document.createElement("div"));
    figure.lastChild.className = "chart";
  }
  return titles.map((title, index) => {
    place.children[index].firstChild.textContent = title;
    return place.children[index].lastChild;
  });
}

function drawNorms() {
  if (!charts.norms.length) return;
  const boxes = chartsIn(document.getElementById("norm-charts"), charts.norms.map((chart) => chart.dataset));
  charts.norms.forEach((chart, number) => {
    const lines = chart.lines.map((line, i) => ({
      name: plain(line.name),
      x: line.log2,
      y: line.auroc,
      customdata: line.norms,
      error_y: { type: "data", array: line.deviation, thickness: 1.2, visible: line.deviation.some(Boolean) },
      mode: "lines+markers",
      line: { color: toneOf(i), dash: DASHES[Math.floor(i / 6) % DASHES.length] },
      hovertemplate: "norm %{customdata}: %{y:.1f} ± %{error_y.array:.1f}",
    }));
    const norms = [...new Set(chart.lines.flatMap((line) => line.norms))].sort((a, b) => a - b);
    const ticks = { tickvals: norms.map(Math.log2), ticktext: norms.map((norm) => norm.toPrecision(3) * 1) };
    const reach = chart.lines.flatMap((line) => line.auroc.flatMap((y, i) => [y - line.deviation[i], y + line.deviation[i]]));
    const [low, high] = [Math.min(...reach), Math.max(...reach)];
    const room = Math.max(1 - (high - low) / 2, 0.1 * (high - low)); // at least 2 points: less is no difference
    const shape = layout("norm of the target (steps of log₂)", "image AUROC (%)", {
      xaxis: ticks,
      yaxis: { range: [low - room, high + room] },
      showlegend: true,
    });
    Plotly.react(boxes[number], lines, shape, OPTIONS);
  });
}

// Scores, curves and training of one run and task.
const runOf = document.getElementById("score-run");
const taskOf = document.getElementById("score-task");
const FRACTION = { range: [-0.02, 1.02], tickformat: ".0%" };
const SQUARE = { xaxis: FRACTION, yaxis: FRACTION, showlegend: false };
const judged = new Map(); // by run and task, so that a threshold that was moved stays
const showThreshold = occThreshold(drawCurves); // threshold.js

function fill(select, names) {
  const kept = select.selectedOptions[0]?.text;
  select.replaceChildren(...names.map((name, index) => new Option(name, index)));
  const index = [...select.options].findIndex((option) => option.text === kept);
  select.value = Math.max(index, 0);
}

function chosen() {
  return charts.scores[runOf.value]?.tasks[taskOf.selectedOptions[0]?.text];
}

function judging(found) {
  if (!judged.has(found)) {
    const [normal, anomalous, calibration] = [found.normal, found.anomalous, found.calibration].map((each) => each.map(Number));
    const first = found.threshold ?? occThreshold.quantile(normal, 0.95);
    judged.set(found, { normal, anomalous, calibration, unlabelled: [], first, now: first });
  }
  return judged.get(found);
}

// The error rates at the present threshold.
function present(found) {
  const { normal, anomalous, now } = judging(found);
  const over = (scores) => scores.filter((score) => score > now).length;
  const [alarms, hits] = [over(normal), over(anomalous)];
  return { overkill: alarms / normal.length, recall: hits / anomalous.length, precision: hits / (hits + alarms || 1) };
}

function drawCurves() {
  const found = chosen();
  document.getElementById("roc-title").textContent = found.roc ? `ROC, AUROC ${percent(found.auroc)} %` : "No ROC: one kind of images";
  document.getElementById("pr-title").textContent = found.pr ? `Precision and recall, AP ${percent(found.ap)} %` : "No precision–recall curve";
  const points = found.points ?? [];
  const now = found.roc ? [present(found)] : [];
  const line = { color: colour("accent"), width: 2 };
  const ring = { color: colour("page"), size: 11, line: { color: colour("ink"), width: 3 } };
  const roc = found.roc ?? [[], []];
  const pr = found.pr ?? [[], []];
  Plotly.react("roc", [
    { x: [0, 1], y: [0, 1], mode: "lines", line: { color: colour("faint"), width: 1, dash: "dot" }, hoverinfo: "skip" },
    { x: roc[0], y: roc[1], mode: "lines", line, hovertemplate: "overkill %{x:.1%}, found %{y:.1%}<extra></extra>" },
    {
      x: points.map((point) => point.overkill), y: points.map((point) => 1 - point.escape), mode: "markers", cliponaxis: false,
      marker: { color: colour("ink"), size: 6 }, customdata: points.map((point) => 100 * point.rate),
      hovertemplate: "at %{customdata} % overkill: found %{y:.1%}<extra></extra>",
    },
    {
      x: now.map((each) => each.overkill), y: now.map((each) => each.recall), mode: "markers", marker: ring, cliponaxis: false,
      hovertemplate: "at the threshold: overkill %{x:.1%}, found %{y:.1%}<extra></extra>",
    },
  ], layout("false-positive rate (overkill)", "anomalous found", SQUARE), OPTIONS);
  Plotly.react("pr", [
    { x: pr[0], y: pr[1], mode: "lines", line: { ...line, shape: "vh" }, hovertemplate: "found %{x:.1%}, precision %{y:.1%}<extra></extra>" },
    {
      x: now.map((each) => each.recall), y: now.map((each) => each.precision), mode: "markers", marker: ring, cliponaxis: false,
      hovertemplate: "at the threshold: found %{x:.1%}, precision %{y:.1%}<extra></extra>",
    },
  ], layout("anomalous found (recall)", "precision", SQUARE), OPTIONS);
}

function drawTraining(curves) {
  document.getElementById("training").hidden = !curves.length;
  const boxes = chartsIn(document.getElementById("training-charts"), curves.map((panel) => panel.title));
  curves.forEach((panel, number) => {
    const lines = panel.lines.map((line, i) => ({
      name: plain(line.name), x: line.steps, y: line.values, mode: line.steps.length > 20 ? "lines" : "lines+markers",
      line: { color: toneOf(i) }, hovertemplate: "step %{x}: %{y:.4g}",
    }));
    const shape = layout("optimizer steps", "", { xaxis: { type: "log", tick0: 0, dtick: Math.log10(4) }, showlegend: lines.length > 1 });
    Plotly.react(boxes[number], lines, shape, OPTIONS);
  });
}

function drawScores() {
  const found = chosen();
  if (!found) return;
  showThreshold(judging(found));
  drawCurves();
  drawTraining(found.training);
  document.getElementById("score-facts").textContent = (found.points ?? [])
    .map((p) => `At ${100 * p.rate} % overkill: threshold ${p.threshold?.toPrecision(5) ?? "−∞"}, overkill ${percent(p.overkill)} %, escapes ${percent(p.escape)} %.`)
    .join(" ");
}

function chooseRun() {
  const run = charts.scores[runOf.value];
  if (run) fill(taskOf, Object.keys(run.tasks));
  drawScores();
}

fill(runOf, charts.scores.map((run) => run.label));
runOf.addEventListener("change", chooseRun);
taskOf.addEventListener("change", drawScores);
chooseRun();
drawNorms();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  drawNorms();
  drawScores();
});

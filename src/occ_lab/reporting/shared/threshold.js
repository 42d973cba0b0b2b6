"use strict";
// The threshold of image scores: a histogram, a slider and a number that move together, and what
// follows from them. The gallery and the report share it.
//
// occThreshold(changed) drives threshold.html and returns show(task), which shows a task:
//   normal, anomalous, unlabelled: the scores of its images
//   calibration: scores of normal images that were not trained on; may be empty
//   first, now: the threshold that a reset returns to, and the present one, which the control sets
// changed() is called after each move.
const occThreshold = (() => {
  const BARS = 80;
  const $ = (id) => document.getElementById(id);
  const over = (values, limit) => values.filter((value) => value > limit).length;

  function digits(value) {
    return value === null ? "no score" : Number(value.toPrecision(4)).toString();
  }

  function percent(part, whole) {
    return whole ? `${Number((100 * part / whole).toPrecision(3))} %` : "–";
  }

  // The smallest score that at least a fraction of the scores do not exceed.
  function quantile(scores, fraction) {
    const sorted = [...scores].sort((a, b) => a - b);
    return sorted.length ? sorted[Math.max(0, Math.ceil(fraction * sorted.length) - 1)] : 0;
  }

  function extremes(values) {
    return values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  }

  function control(changed) {
    let task = null, low = 0, high = 1;

    function drawHistogram() {
      const { normal, anomalous, unlabelled, calibration } = task;
      const good = [...normal, ...unlabelled];
      [low, high] = extremes([...good, ...anomalous, ...calibration].filter(Number.isFinite));
      if (!(high > low)) {
        low = Number.isFinite(low) ? low : 0;
        high = low + Math.max(Math.abs(low), 1e-6);
      }
      const counts = (values) => {
        const found = new Array(BARS).fill(0);
        for (const value of values) {
          if (Number.isFinite(value)) found[Math.min(BARS - 1, Math.floor((value - low) / (high - low) * BARS))] += 1;
        }
        return found;
      };
      const layers = [
        ["behind", "calibration", counts(calibration), calibration.length],
        ["bars", labelled() ? "normal images" : "images", counts(good), good.length],
        ["anomalous", "anomalous images", counts(anomalous), anomalous.length],
      ].filter(([, , , size]) => size);
      const svg = $("histogram");
      svg.replaceChildren();
      const images = layers.filter(([name]) => name !== "behind");
      const top = Math.max(1, ...images.flatMap(([, , each]) => each));
      for (const [name, , each] of layers) {
        const most = name === "behind" ? Math.max(1, ...each) : top;
        const path = document.createElementNS(svg.namespaceURI, "path");
        path.setAttribute("class", name);
        path.setAttribute("d", each.map((count, index) => {
          const tall = 112 * Math.sqrt(count / most);
          return count ? `M${index * 1000 / BARS},120v${-tall}h${1000 / BARS}v${tall}z` : "";
        }).join(""));
        svg.append(path);
      }
      const line = document.createElementNS(svg.namespaceURI, "line");
      line.setAttribute("y1", 0);
      line.setAttribute("y2", 120);
      svg.append(line);
      const colours = { behind: "--behind", bars: "--normal", anomalous: "--anomalous" };
      $("legend").replaceChildren(...layers.map(([name, text]) => {
        const item = document.createElement("span"), box = document.createElement("i");
        box.style.background = `var(${colours[name]})`;
        item.append(box, text);
        return item;
      }), document.createTextNode("Bars grow with the root of the number of images."));
      const count = good.length + anomalous.length;
      svg.setAttribute("aria-label", `Histogram of ${count} image scores from ${digits(low)} to ${digits(high)}`);
    }

    function labelled() {
      return task.normal.length + task.anomalous.length > 0;
    }

    function move(value) {
      if (!task || !Number.isFinite(value)) return;
      task.now = value;
      showThreshold();
      changed();
    }

    function showThreshold() {
      const { now, normal, anomalous, unlabelled, calibration } = task;
      const at = Math.max(0, Math.min(1000, 1000 * (now - low) / (high - low)));
      const line = $("histogram").querySelector("line");
      line.setAttribute("x1", at);
      line.setAttribute("x2", at);
      $("slider").value = Math.round(at);
      $("slider").setAttribute("aria-valuetext", digits(now));
      if (document.activeElement !== $("threshold")) writeNumber();
      const all = [...normal, ...anomalous, ...unlabelled];
      const rejected = over(all, now);
      const lines = [["Rejected", `${rejected} of ${all.length} (${percent(rejected, all.length)})`]];
      if (calibration.length) {
        // Split conformal: a good image exceeds the threshold with at most this probability.
        const rate = percent(over(calibration, now) + 1, calibration.length + 1);
        lines.push(["False-positive rate", `${rate} by ${calibration.length} calibration images`]);
      } else {
        lines.push(["False-positive rate", "unknown without a calibration; the threshold begins where"
          + ` 5 % of the ${labelled() ? "normal images" : "images"} are rejected`]);
      }
      if (labelled()) {
        const missed = anomalous.length - over(anomalous, now), alarms = over(normal, now);
        lines.push(["Missed", `${missed} of ${anomalous.length} anomalous images (${percent(missed, anomalous.length)})`]);
        lines.push(["False alarms", `${alarms} of ${normal.length} normal images (${percent(alarms, normal.length)})`]);
      }
      $("counts").replaceChildren(...lines.flatMap(([title, text]) => {
        const term = document.createElement("dt"), value = document.createElement("dd");
        term.textContent = title;
        value.textContent = text;
        return [term, value];
      }));
    }

    function writeNumber() {
      $("threshold").value = Number(task.now.toPrecision(7));
    }

    const histogram = $("histogram");
    const drag = (event) => {
      const box = histogram.getBoundingClientRect();
      move(low + (high - low) * Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)));
    };
    histogram.addEventListener("pointerdown", (event) => { histogram.setPointerCapture(event.pointerId); drag(event); });
    histogram.addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
    $("slider").addEventListener("input", () => move(low + (high - low) * $("slider").value / 1000));
    $("threshold").addEventListener("input", () => move($("threshold").valueAsNumber));
    $("threshold").addEventListener("change", () => { if (task) { showThreshold(); writeNumber(); } });
    $("reset").addEventListener("click", () => { if (task) { move(task.first); writeNumber(); } });

    return (shown) => {
      task = shown;
      drawHistogram();
      showThreshold();
    };
  }

  return Object.assign(control, { digits, percent, quantile });
})();

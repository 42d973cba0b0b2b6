"use strict";
{
  const data = window.occGallery;
  const { digits, quantile } = occThreshold; // threshold.js
  const $ = (id) => document.getElementById(id);
  const DARKEST = 0.35; // as in maps.py
  const REACH = 3; // as in scale.py
  const FINER = 4; // canvas pixels for each pixel of a stored map
  const OUTLINE = [0, 255, 170];
  const INFERNO = [
    [0, 0, 3], [10, 7, 35], [32, 12, 74], [60, 9, 101], [87, 15, 109], [112, 25, 110],
    [137, 34, 105], [163, 43, 97], [187, 55, 84], [209, 70, 67], [228, 90, 49], [241, 114, 29],
    [249, 142, 8], [251, 172, 16], [248, 203, 52], [241, 233, 104], [252, 254, 164],
  ];
  const GOOD = "good", DEFECT = "defect";
  const PAUSE = 2000; // milliseconds between two questions to a service
  let lost = false; // whether it did not answer the last one

  // The images, and how each task judges them.

  const rows = [];
  addRows(data.rows);
  const labelled = rows.some((row) => row.label !== null);
  const taskNames = Object.keys(data.tasks);
  const judging = Object.fromEntries(taskNames.map((name) => [name, judged(name)]));

  function addRows(more) {
    for (const row of more) {
      row.name = row.path.split(/[\\/]/).slice(-2).join("/");
      rows.push(row);
    }
  }

  function judged(name) {
    const task = data.tasks[name];
    const own = rows.filter((row) => row.task === name && row.score !== null);
    const scores = (label) => own.filter((row) => row.label === label).map((row) => row.score);
    const [normal, anomalous, unlabelled] = [0, 1, null].map(scores);
    // Where the image score is the largest value of the map, one threshold serves both.
    const peak = own.every((row) => row.range && Math.abs(row.score - row.range[1]) <= 1e-3 * Math.abs(row.score));
    // Without a calibration: most are good.
    const first = task.threshold ?? quantile([...normal, ...unlabelled], 0.95);
    return { ...task, first, now: first, peak, normal, anomalous, unlabelled };
  }

  function decision(row) {
    if (row.score === null) return "error";
    return row.score > judging[row.task].now ? "reject" : "accept";
  }

  function distance(row) {
    return row.score === null ? -1 : Math.abs(row.score - judging[row.task].now);
  }

  // Verdicts of the person who looks: kept by the browser until they are saved, or by the service.

  const KEY = `occ-lab verdicts ${location.pathname}`;
  let marks = data.marks ?? {};
  if (!data.live) try { marks = JSON.parse(localStorage.getItem(KEY)) ?? {}; } catch { /* the browser keeps nothing */ }

  function mark(row, truth, kind) {
    if (truth === null) delete marks[row.path];
    else marks[row.path] = { truth, kind: truth === DEFECT ? kind ?? marks[row.path]?.kind ?? "" : "" };
    if (data.live) send(row);
    else try { localStorage.setItem(KEY, JSON.stringify(marks)); } catch { /* likewise */ }
    refreshVerdicts();
  }

  let sending = Promise.resolve(); // one after another, so that the last verdict on an image counts
  function send(row) {
    const body = JSON.stringify({
      path: row.path, verdict: verdict(row) || null, defect: marks[row.path]?.kind ?? "",
      score: row.score, threshold: judging[row.task].now, decision: decision(row), task: row.task,
    });
    sending = sending.then(async () => {
      try {
        const answer = await fetch("verdicts", { method: "PUT", body, headers: { "Content-Type": "application/json" } });
        if (!answer.ok) throw new Error((await answer.json()).detail);
        tell("Verdicts are saved in verdicts.csv.");
      } catch (error) {
        tell(`The verdict on ${row.name} is not saved: ${error.message}`);
      }
    });
  }

  function tell(text) {
    if ($("live").textContent !== text) $("live").textContent = text;
  }

  function verdict(row) {
    const truth = marks[row.path]?.truth;
    if (!truth) return "";
    const rejected = decision(row) === "reject";
    if (truth === GOOD) return rejected ? "false alarm" : "good";
    return rejected ? "defect" : "missed";
  }

  function verdictsTable() {
    const cell = (value) => {
      let text = String(value);
      if (/^[=+\-@\t\r]/.test(text)) text = `./${text}`; // a spreadsheet must not take it for a formula
      return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const lines = rows.filter((row) => marks[row.path]).map((row) =>
      [cell(row.path), verdict(row), cell(marks[row.path].kind), row.score ?? "", judging[row.task].now, decision(row), cell(row.task)].join(","));
    return ["path,verdict,defect,score,threshold,decision,task", ...lines, ""].join("\n");
  }

  function refreshVerdicts() {
    const count = rows.filter((row) => marks[row.path]).length;
    $("save").disabled = !count;
    const act = data.live ? "Download" : "Save";
    $("save").textContent = count ? `${act} ${count} verdict${count > 1 ? "s" : ""}` : `${act} verdicts`;
    const known = [...rows.map((row) => row.kind), ...Object.values(marks).map((each) => each.kind)];
    $("kinds").replaceChildren(...[...new Set(known)].filter(Boolean).sort().map((kind) => {
      const option = document.createElement("option");
      option.value = kind;
      return option;
    }));
    schedule();
  }

  function saveVerdicts() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([verdictsTable()], { type: "text/csv" }));
    link.download = "verdicts.csv";
    link.click();
    URL.revokeObjectURL(link.href);
  }

  // The threshold.

  let task = taskNames[0];
  const showThreshold = occThreshold(refresh);

  function setTask(name) {
    task = name;
    showThreshold(judging[task]);
    refresh();
  }

  // The grid: only the tiles that can be seen exist, so that ten thousand images scroll well.

  const WIDE = 168, TALL = 222, GAP = 8; // pixels
  let list = [];
  const tiles = new Map();

  const FILTERS = {
    all: ["all images", () => true],
    reject: ["rejected", (row) => decision(row) === "reject"],
    accept: ["accepted", (row) => decision(row) === "accept"],
    error: ["without a score", (row) => decision(row) === "error"],
    ...(labelled ? {
      missed: ["missed by label", (row) => row.label === 1 && decision(row) === "accept"],
      alarms: ["false alarms by label", (row) => row.label === 0 && decision(row) === "reject"],
    } : {}),
    marked: ["with a verdict", (row) => Boolean(marks[row.path])],
  };
  const ORDERS = {
    late: (a, b) => b.file - a.file,
    score: (a, b) => (b.score ?? Infinity) - (a.score ?? Infinity),
    low: (a, b) => (a.score ?? Infinity) - (b.score ?? Infinity),
    name: (a, b) => a.path.localeCompare(b.path, undefined, { numeric: true }),
    decision: (a, b) => distance(a) - distance(b),
  };

  function refresh() {
    const wanted = $("text").value.toLowerCase(), [, keep] = FILTERS[$("filter").value];
    const before = list;
    list = rows.filter((row) => row.task === task && keep(row)
      && (row.path.toLowerCase().includes(wanted) || (marks[row.path]?.kind ?? "").toLowerCase().includes(wanted)));
    list.sort(ORDERS[$("sort").value]);
    $("shown").textContent = `${list.length} of ${rows.filter((row) => row.task === task).length} images`;
    if (list.length !== before.length || list.some((row, index) => row !== before[index])) {
      for (const tile of tiles.values()) tile.remove();
      tiles.clear();
    }
    schedule();
  }

  let scheduled = false;
  function schedule() {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => { scheduled = false; drawTiles(); });
  }

  function columns() {
    const wide = $("grid").clientWidth + GAP;
    const count = Math.max(2, Math.floor(wide / (WIDE + GAP)));
    return { count, step: wide / count };
  }

  function drawTiles() {
    const grid = $("grid"), { count, step } = columns();
    grid.style.height = `${Math.ceil(list.length / count) * TALL}px`;
    if (!list.length) {
      const none = document.createElement("p");
      none.className = "none";
      none.textContent = "No image matches.";
      grid.replaceChildren(none);
      grid.style.height = "auto";
      return;
    }
    grid.querySelector(".none")?.remove();
    const top = grid.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor((-top - TALL) / TALL)) * count;
    const last = Math.min(list.length, Math.ceil((innerHeight - top + TALL) / TALL) * count);
    for (const [position, tile] of tiles) {
      if (position < first || position >= last) {
        if (tile.contains(document.activeElement)) continue; // the focus is kept
        tile.remove();
        tiles.delete(position);
      }
    }
    for (let position = first; position < last; position += 1) {
      let tile = tiles.get(position);
      if (!tile) {
        tile = makeTile(position);
        tiles.set(position, tile);
        grid.append(tile);
      }
      tile.style.width = `${step - GAP}px`;
      tile.style.transform = `translate(${(position % count) * step}px, ${Math.floor(position / count) * TALL}px)`;
      dressTile(tile, list[position], position);
    }
  }

  function makeTile(position) {
    const tile = document.createElement("div"), button = document.createElement("button");
    const image = document.createElement("img");
    button.type = "button";
    tile.setAttribute("role", "listitem");
    tile.append(button);
    image.alt = "";
    image.decoding = "async";
    image.src = `gallery/thumbs/${list[position].file}.jpg`;
    button.append(image, ...["name", "score", "verdict"].map((name) => {
      const text = document.createElement("span");
      text.className = name;
      return text;
    }));
    button.addEventListener("click", () => open(position));
    button.addEventListener("keydown", (event) => {
      const { count } = columns();
      const move = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: count, ArrowUp: -count }[event.key];
      if (!move) return;
      event.preventDefault();
      focusTile(position + move);
    });
    return tile;
  }

  function dressTile(tile, row, position) {
    const found = decision(row), said = verdict(row);
    if (tile.dataset.state === `${found} ${said}`) return;
    tile.dataset.state = `${found} ${said}`;
    tile.className = `tile ${found}`;
    const button = tile.firstChild, [, name, score, mine] = button.children;
    name.textContent = row.name;
    score.textContent = `${digits(row.score)} · ${found}`;
    mine.textContent = said;
    mine.hidden = !said;
    button.title = row.path;
    button.setAttribute("aria-label", `${row.name}, score ${digits(row.score)}, ${found}${said ? `, verdict ${said}` : ""}`);
    tile.setAttribute("aria-setsize", list.length);
    tile.setAttribute("aria-posinset", position + 1);
  }

  function focusTile(position) {
    if (position < 0 || position >= list.length) return;
    const grid = $("grid"), { count } = columns();
    const top = grid.getBoundingClientRect().top + scrollY + Math.floor(position / count) * TALL;
    const bar = $("controls").offsetHeight;
    if (top < scrollY + bar) scrollTo(0, top - bar);
    else if (top + TALL > scrollY + innerHeight) scrollTo(0, top + TALL - innerHeight);
    drawTiles();
    tiles.get(position)?.firstChild.focus();
  }

  // One image at full size with its map.

  let at = -1; // its position in the list
  let view = { zoom: 1, x: 0, y: 0 };
  const maps = new Map(); // promises of map images by index

  window.occMap = (index, url) => waiting.get(index)?.(url);
  const waiting = new Map();

  function mapOf(row) {
    if (!row.range) return Promise.resolve(null);
    if (!maps.has(row.file)) {
      maps.set(row.file, new Promise((done) => {
        const script = document.createElement("script");
        const image = new Image();
        image.onload = () => done(image);
        script.onerror = () => done(null);
        waiting.set(row.file, (url) => { image.src = url; });
        script.src = `gallery/maps/${row.file}.js`;
        document.head.append(script);
      }));
      if (maps.size > 200) maps.delete(maps.keys().next().value);
    }
    return maps.get(row.file);
  }

  function open(position) {
    at = position;
    if (!$("viewer").open) $("viewer").showModal();
    show();
  }

  function step(move) {
    if (at + move >= 0 && at + move < list.length) open(at + move);
  }

  function show() {
    const row = list[at], found = decision(row), full = $("full");
    $("viewer-title").textContent = row.path;
    const parts = [`${at + 1} of ${list.length}`, `score ${digits(row.score)}`];
    const { calibration } = judging[row.task];
    if (calibration.length && row.score !== null) {
      const beyond = calibration.filter((value) => value >= row.score).length;
      parts.push(`p-value ${Number(((1 + beyond) / (1 + calibration.length)).toPrecision(3))}`);
    }
    if (row.label !== null) parts.push(row.label ? `labelled anomalous${row.kind ? ` (${row.kind})` : ""}` : "labelled normal");
    if (row.decided && row.decided !== found) parts.push(`${row.decided} when it came`);
    const strong = document.createElement("strong");
    strong.className = found;
    strong.textContent = found;
    const said = verdict(row);
    $("facts").replaceChildren(strong, ` · ${parts.join(" · ")}${said ? ` · verdict: ${said}` : ""}`);
    const mine = marks[row.path];
    $("accept").setAttribute("aria-pressed", mine?.truth === GOOD);
    $("reject").setAttribute("aria-pressed", mine?.truth === DEFECT);
    if (document.activeElement !== $("kind")) $("kind").value = mine?.kind ?? "";
    $("previous").disabled = at === 0;
    $("next").disabled = at === list.length - 1;
    const thumb = `gallery/thumbs/${row.file}.jpg`, source = row.source || thumb;
    if (full.dataset.index !== String(row.file)) {
      full.dataset.index = row.file;
      full.alt = `Image ${row.name}`;
      full.onerror = () => {
        full.onerror = null;
        full.dataset.lost = "";
        full.src = thumb; // the image has moved
      };
      delete full.dataset.lost;
      full.onload = () => { fit(); paint(); };
      full.src = source;
      $("heat").hidden = true;
    } else paint();
    for (const near of [list[at + 1], list[at - 1]]) {
      if (!near) continue;
      new Image().src = near.source || `gallery/thumbs/${near.file}.jpg`;
      mapOf(near);
    }
  }

  function fit() {
    const stage = $("stage"), full = $("full"), sheet = $("sheet");
    const wide = full.naturalWidth || 1, tall = full.naturalHeight || 1;
    sheet.style.width = `${wide}px`;
    sheet.style.height = `${tall}px`;
    const zoom = Math.min(stage.clientWidth / wide, stage.clientHeight / tall);
    view = { zoom, x: (stage.clientWidth - wide * zoom) / 2, y: (stage.clientHeight - tall * zoom) / 2 };
    place();
  }

  function place() {
    $("sheet").style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
    $("sheet").style.imageRendering = view.zoom > 3 ? "pixelated" : "auto";
  }

  function zoom(factor, x = $("stage").clientWidth / 2, y = $("stage").clientHeight / 2) {
    const now = Math.min(40, Math.max(0.02, view.zoom * factor)), change = now / view.zoom;
    view = { zoom: now, x: x - (x - view.x) * change, y: y - (y - view.y) * change };
    place();
  }

  async function paint() {
    const row = list[at], image = await mapOf(row), canvas = $("heat");
    if (!list[at] || list[at] !== row) return; // another image is shown by now
    const opacity = $("opacity").value / 100, lines = $("outline").checked;
    canvas.hidden = !image;
    if (!image) return;
    const wide = image.naturalWidth * FINER, tall = image.naturalHeight * FINER;
    canvas.width = wide;
    canvas.height = tall;
    const [top, left, height, width] = "lost" in $("full").dataset || !row.source ? [0, 0, 1, 1] : row.shown;
    Object.assign(canvas.style, {
      top: `${100 * top}%`, left: `${100 * left}%`, height: `${100 * height}%`, width: `${100 * width}%`,
    });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, wide, tall);
    const pixels = context.getImageData(0, 0, wide, tall), values = pixels.data;
    const { scale, peak, now } = judging[row.task], limit = peak ? now : scale.threshold;
    const [least, most] = row.range, per = (most - least) / 255;
    const colours = new Uint8ClampedArray(256 * 4);
    for (let level = 0; level < 256; level += 1) {
      const strength = Math.min(1, Math.max(0, (least + level * per - scale.calm) / (REACH * (scale.threshold - scale.calm))));
      const along = (DARKEST + (1 - DARKEST) * strength) * (INFERNO.length - 1);
      const before = Math.min(INFERNO.length - 2, Math.floor(along)), part = along - before;
      for (let channel = 0; channel < 3; channel += 1) {
        colours[4 * level + channel] = INFERNO[before][channel] * (1 - part) + INFERNO[before + 1][channel] * part;
      }
      colours[4 * level + 3] = 255 * opacity * Math.sqrt(strength);
    }
    const levels = new Uint8Array(wide * tall);
    for (let index = 0; index < levels.length; index += 1) levels[index] = values[4 * index];
    const cut = (limit - least) / per;
    const marked = (x, y) => x >= 0 && y >= 0 && x < wide && y < tall && levels[y * wide + x] > cut;
    for (let y = 0; y < tall; y += 1) {
      for (let x = 0; x < wide; x += 1) {
        const index = y * wide + x, to = 4 * index;
        const edge = lines && levels[index] > cut && !(marked(x - 2, y) && marked(x + 2, y) && marked(x, y - 2) && marked(x, y + 2));
        if (edge) {
          [values[to], values[to + 1], values[to + 2]] = OUTLINE;
          values[to + 3] = 255;
        } else {
          for (let channel = 0; channel < 4; channel += 1) values[to + channel] = colours[4 * levels[index] + channel];
        }
      }
    }
    context.putImageData(pixels, 0, 0);
  }

  function say(truth) {
    const row = list[at];
    mark(row, marks[row.path]?.truth === truth ? null : truth);
    show();
  }

  // What buttons, keys and pointers do.

  const KEYS = {
    ArrowLeft: () => step(-1),
    ArrowRight: () => step(1),
    a: () => say(GOOD),
    r: () => say(DEFECT),
    u: () => { mark(list[at], null); show(); },
    t: () => $("kind").focus(),
    h: () => { $("opacity").value = $("opacity").value > 0 ? 0 : 70; paint(); },
    o: () => { $("outline").checked = !$("outline").checked; paint(); },
    "+": () => zoom(1.25),
    "=": () => zoom(1.25),
    "-": () => zoom(0.8),
    0: fit,
  };
  $("viewer").addEventListener("keydown", (event) => {
    const typing = event.target === $("kind");
    if (typing && event.key === "Enter") { $("next").focus(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
    if (event.target === $("opacity") && event.key.startsWith("Arrow")) return;
    const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  $("viewer").addEventListener("close", () => {
    refresh();
    focusTile(Math.min(at, list.length - 1));
  });
  const clicks = {
    close: () => $("viewer").close(),
    previous: () => step(-1),
    next: () => step(1),
    accept: () => say(GOOD),
    reject: () => say(DEFECT),
    in: () => zoom(1.25),
    out: () => zoom(0.8),
    fit,
    save: saveVerdicts,
  };
  for (const [id, act] of Object.entries(clicks)) $(id).addEventListener("click", act);
  $("kind").addEventListener("input", () => {
    const row = list[at];
    mark(row, DEFECT, $("kind").value.trim());
    show();
  });
  for (const id of ["opacity", "outline"]) $(id).addEventListener("input", paint);

  const held = new Map(); // pointers on the stage: one moves, two zoom
  const stage = $("stage");
  const spread = () => {
    const [a, b] = [...held.values()];
    return Math.hypot(a.x - b.x, a.y - b.y);
  };
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    held.set(event.pointerId, { x: event.offsetX, y: event.offsetY, px: event.clientX, py: event.clientY });
    stage.classList.add("held");
  });
  stage.addEventListener("pointermove", (event) => {
    const last = held.get(event.pointerId);
    if (!last) return;
    const box = stage.getBoundingClientRect();
    const point = { x: event.clientX - box.left, y: event.clientY - box.top, px: event.clientX, py: event.clientY };
    if (held.size === 1) {
      view.x += event.clientX - last.px;
      view.y += event.clientY - last.py;
      held.set(event.pointerId, point);
      place();
    } else {
      for (const [id, each] of held) held.set(id, { ...each, x: each.px - box.left, y: each.py - box.top });
      const before = spread();
      held.set(event.pointerId, point);
      if (before) zoom(spread() / before);
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    stage.addEventListener(name, (event) => {
      held.delete(event.pointerId);
      if (!held.size) stage.classList.remove("held");
    });
  }
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  stage.addEventListener("dblclick", () => (view.zoom < 0.99 ? zoom(1 / view.zoom) : fit()));

  for (const id of ["filter", "sort"]) $(id).addEventListener("change", refresh);
  $("text").addEventListener("input", refresh);
  $("task").addEventListener("change", () => setTask($("task").value));
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("scroll", schedule, { passive: true });
  addEventListener("resize", () => { schedule(); if ($("viewer").open) fit(); });

  for (const [name, [text]] of Object.entries(FILTERS)) $("filter").add(new Option(text, name));
  for (const name of taskNames) $("task").add(new Option(name || "images", name));
  $("task-label").hidden = taskNames.length < 2;
  describe();
  if (data.live) $("sort").value = "late";
  refreshVerdicts();
  if (taskNames.length) setTask(taskNames[0]);
  if (data.live) setTimeout(poll, PAUSE);

  function describe() {
    const errors = rows.filter((row) => row.score === null).length;
    $("about").textContent = `${rows.length} images${taskNames.length > 1 ? ` of ${taskNames.length} tasks` : ""}`
      + `${errors ? `, ${errors} without a score` : ""}. Written by OCC Lab ${data.version}. Colours of all images have one scale`
      + `${data.tasks[taskNames[0]]?.calibration.length ? ", anchored at the calibration: a good part has none." : "."}`;
  }

  // A service goes on scoring images: those that have come since are added.

  async function poll() {
    try {
      const answer = await fetch(`rows?after=${rows.length}`);
      if (!answer.ok) throw new Error(answer.statusText);
      const fresh = await answer.json();
      if (fresh.count < rows.length) location.reload(); // another service, with other images
      if (lost) tell("");
      lost = false;
      if (fresh.rows.length) take(fresh);
    } catch {
      lost = true;
      tell("The service does not answer; it is asked again every few seconds.");
    }
    setTimeout(poll, PAUSE);
  }

  function take(fresh) {
    addRows(fresh.rows);
    Object.assign(data.tasks, fresh.tasks);
    for (const name of taskNames) {
      const { now, first } = judging[name];
      judging[name] = judged(name);
      if (now !== first) judging[name].now = now; // it was moved by hand
    }
    describe();
    showThreshold(judging[task]);
    if (!$("viewer").open) refresh(); // the order stays while one image is looked at
  }
}

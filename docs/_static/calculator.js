// VMAF from its features, in the page: the exact function, the registered networks, and what a libvmaf log says.
"use strict";

// ---- numbers

// Error function: series near 0, continued fraction further out; right to about 1e-15.
function erf(x) {
  const size = Math.abs(x);
  if (size > 6) return Math.sign(x);
  if (size < 2.5) {
    let term = x, sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
      term *= -x * x / n;
      sum += term / (2 * n + 1);
    }
    return 2 / Math.sqrt(Math.PI) * sum;
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (size + fraction);
  return Math.sign(x) * (1 - Math.exp(-x * x) / (Math.sqrt(Math.PI) * (size + fraction)));
}

function corrected(features, ends) {
  const values = features.slice();
  if (ends.chroma && values[1] === 0) values[1] = ends.chroma * (1 - values[2]);
  return values;
}

function finish(score, ends) {
  if (ends.transform) score = ends.transform[0] + (ends.transform[1] + ends.transform[2] * score) * score;
  return Math.min(Math.max(score, ends.range[0]), ends.range[1]);
}

function exactScore(teacher, features) {
  const machine = CALCULATOR.functions[teacher.function], width = features.length;
  const scaled = corrected(features, teacher.ends).map((v, k) => v * machine.slopes[k] + machine.intercepts[k]);
  let sum = -machine.rho;
  machine.coefficients.forEach((coefficient, row) => {
    let squared = 0;
    for (let k = 0; k < width; k++) squared += (scaled[k] - machine.vectors[row * width + k]) ** 2;
    sum += coefficient * Math.exp(-machine.gamma * squared);
  });
  return finish((sum - machine.outputIntercept) / machine.outputSlope, teacher.ends);
}

function networkScore(teacher, network, features) {
  const net = CALCULATOR.networks[network];
  let values = corrected(features, teacher.ends).map((v, k) => (v - net.mean[k]) / net.std[k]);
  net.layers.forEach((layer, number) => {
    const width = values.length;
    values = layer.bias.map((bias, row) => {
      let sum = bias;
      for (let k = 0; k < width; k++) sum += layer.weight[row * width + k] * values[k];
      return number === net.layers.length - 1 ? sum : sum * (1 + erf(sum / Math.SQRT2)) / 2;
    });
  });
  return finish(values[0], teacher.ends);
}

// ---- logs

// Rows of a libvmaf log: the features of a teacher and, where the log has it, libvmaf's own score of it.
function readLog(text) {
  let log;
  try { log = JSON.parse(text); } catch (error) { throw new Error("This is not JSON. libvmaf writes it with log_fmt=json."); }
  const frames = Array.isArray(log.frames) ? log.frames.filter((frame) => frame && frame.metrics) : [];
  if (!frames.length) throw new Error("There are no frames with metrics in this file; a log of libvmaf has them.");
  const seen = frames[0].metrics;
  const find = (metrics, input) => metrics[input.key] ?? metrics[input.name];
  const fits = CALCULATOR.teachers.filter((teacher) => teacher.inputs.every((input) => find(seen, input) !== undefined));
  const teacher = fits.find((each) => seen[each.column] !== undefined) ?? fits[0];
  if (!teacher && seen.vmaf === undefined) {
    throw new Error("This log has neither a score nor all features of a teacher; found " + Object.keys(seen).join(", ") + ".");
  }
  const rows = frames.map((frame, place) => {
    const features = teacher ? teacher.inputs.map((input) => Number(find(frame.metrics, input))) : null;
    const measured = teacher ? frame.metrics[teacher.column] : frame.metrics.vmaf;
    const exact = features && features.every(Number.isFinite) ? exactScore(teacher, features) : null;
    return { frame: frame.frameNum ?? place, features, measured, exact, score: measured ?? exact };
  });
  if (!rows.every((row) => Number.isFinite(row.score))) throw new Error("A frame of this log has no score and no complete features.");
  return { teacher, rows };
}

function pool(scores) {
  const sorted = scores.slice().sort((a, b) => a - b), count = scores.length;
  const share = (p) => {  // linear between neighbours, as numpy does it
    const place = p * (count - 1), low = Math.floor(place);
    return sorted[low] + (place - low) * (sorted[Math.min(low + 1, count - 1)] - sorted[low]);
  };
  return {
    "mean": scores.reduce((a, b) => a + b, 0) / count,
    "harmonic mean": count / scores.reduce((a, b) => a + 1 / (b + 1), 0) - 1,
    "1st percentile": share(0.01), "5th percentile": share(0.05), "least": sorted[0], "greatest": sorted[count - 1],
  };
}

function outOfRange(teacher, features) {
  const names = Object.values(teacher.networks);
  if (!names.length) return [];
  const net = CALCULATOR.networks[names[0]];
  return teacher.inputs.filter((input, k) => features[k] < net.low[k] || features[k] > net.high[k]).map((input) => input.name);
}

// ---- page

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function table(head, rows) {
  const line = (tag, cells) => element("tr", null, ...cells.map((cell) => element(tag, null, String(cell))));
  const whole = element("table", { class: "table" }, element("thead", null, line("th", head)), element("tbody", null, ...rows.map((row) => line("td", row))));
  return element("div", { class: "pst-scrollable-table-container" }, whole);
}

function curve(rows) {
  const width = 720, height = 220, left = 36, bottom = 24;
  const low = Math.floor(Math.min(...rows.map((row) => row.score)) / 5) * 5, high = Math.max(100, ...rows.map((row) => row.score));
  const x = (k) => left + (width - left - 8) * (rows.length > 1 ? k / (rows.length - 1) : 0.5);
  const y = (score) => 8 + (height - bottom - 8) * (high - score) / Math.max(high - low, 1);
  const svg = (tag, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const worst = rows.reduce((a, b) => (b.score < a.score ? b : a));
  const about = `Score of ${rows.length} frames; the worst is frame ${worst.frame} with ${worst.score.toFixed(2)}`;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": about, class: "curve" });
  for (const score of [low, (low + high) / 2, high]) {
    picture.append(svg("line", { x1: left, x2: width - 8, y1: y(score), y2: y(score), class: "grid" }));
    picture.append(svg("text", { x: left - 4, y: y(score) + 4, "text-anchor": "end" }, score.toFixed(0)));
  }
  picture.append(svg("text", { x: left, y: height - 4 }, `frame ${rows[0].frame}`));
  picture.append(svg("text", { x: width - 8, y: height - 4, "text-anchor": "end" }, `frame ${rows[rows.length - 1].frame}`));
  picture.append(svg("polyline", { points: rows.map((row, k) => `${x(k)},${y(row.score)}`).join(" "), class: "scores" }));
  picture.append(svg("circle", { cx: x(rows.indexOf(worst)), cy: y(worst.score), r: 4, class: "worst" }));
  return picture;
}

const WORST = 10;

function start(place) {
  const choice = element("select", { id: "teacher" }, ...CALCULATOR.teachers.map((each) => element("option", { value: each.name }, each.name)));
  const sliders = element("div", { class: "sliders" }), results = element("div", { id: "scores", role: "status" });
  const file = element("input", { type: "file", id: "log", accept: ".json,application/json" });
  const drop = element("label", { class: "drop" }, "Drop a libvmaf log (JSON) here, or choose one: ", file);
  const told = element("div", { id: "told" });
  let boxes = [];

  const current = () => CALCULATOR.teachers.find((each) => each.name === choice.value);

  function show() {
    const teacher = current(), features = boxes.map((box) => Number(box.value)), beyond = outOfRange(teacher, features);
    const rows = [["exact function", exactScore(teacher, features).toFixed(6)]];
    for (const [name, network] of Object.entries(teacher.networks)) rows.push([name, networkScore(teacher, network, features).toFixed(6)]);
    const known = Object.keys(teacher.networks).length ? beyond.length ? `out of range: ${beyond.join(", ")}` : "in range" : "no network is registered for this teacher";
    results.replaceChildren(table(["by", teacher.name], rows), element("p", { id: "range", class: beyond.length ? "beyond" : "" }, known));
  }

  function set(features) {
    boxes.forEach((box, k) => { box.value = features[k]; box.slider.value = features[k]; });
    show();
  }

  function build() {
    const teacher = current();
    boxes = teacher.inputs.map((input, k) => {
      const limits = { min: teacher.low[k], max: teacher.high[k], step: "any" };
      const box = element("input", { type: "number", step: "any", name: input.name, "aria-label": input.name });
      box.slider = element("input", { type: "range", ...limits, "aria-label": `${input.name}, slider` });
      box.slider.addEventListener("input", () => { box.value = Number(box.slider.value).toPrecision(6); show(); });
      box.addEventListener("input", () => { box.slider.value = box.value; show(); });
      return box;
    });
    sliders.replaceChildren(...boxes.map((box) => element("div", { class: "slider" }, element("span", null, box.name), box.slider, box)));
    set(teacher.start);
  }

  function tell(text) {
    let log;
    try { log = readLog(text); } catch (error) { told.replaceChildren(element("p", { class: "beyond" }, error.message)); return; }
    const { teacher, rows } = log, scores = rows.map((row) => row.score), both = rows.filter((row) => row.measured !== undefined && row.exact !== null);
    const pooled = Object.entries(pool(scores)).map(([name, value]) => [name, value.toFixed(4)]);
    const worst = rows.slice().sort((a, b) => a.score - b.score).slice(0, WORST);
    const agree = both.length ? `The exact function differs from libvmaf by ${Math.max(...both.map((row) => Math.abs(row.exact - row.measured))).toExponential(1)} at most. ` : "";
    const network = teacher && Object.values(teacher.networks)[0], features = teacher && rows.every((row) => row.exact !== null);
    const outside = features ? rows.filter((row) => outOfRange(teacher, row.features).length).length : 0;
    const range = network !== undefined && features ? `${outside} of ${rows.length} frames are out of the range of the registered network.` : "";
    told.replaceChildren(
      element("h3", null, `${rows.length} frames, ${teacher ? teacher.name : "vmaf"}`), curve(rows), element("p", { id: "agree" }, agree + range),
      table(["pooled", "score"], pooled), element("h3", null, "Worst frames"),
      table(["frame", "score", ...(features ? teacher.inputs.map((input) => input.name) : [])],
        worst.map((row) => [row.frame, row.score.toFixed(3), ...(features ? row.features.map((value) => value.toPrecision(5)) : [])])),
    );
    if (features) { choice.value = teacher.name; build(); set(worst[0].features); }
  }

  const read = (chosen) => chosen && chosen.text().then(tell);
  file.addEventListener("change", () => read(file.files[0]));
  drop.addEventListener("dragover", (event) => event.preventDefault());
  drop.addEventListener("drop", (event) => { event.preventDefault(); read(event.dataTransfer.files[0]); });
  choice.addEventListener("change", build);
  place.append(element("p", null, element("label", null, "Teacher ", choice)), sliders, results, drop, told);
  build();
}

document.addEventListener("DOMContentLoaded", () => start(document.getElementById("calculator")));

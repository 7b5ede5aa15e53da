// Builds the page from the data in it: a table of runs, and a panel for every figure.
"use strict";

const page = JSON.parse(document.getElementById("data").textContent);
const many = page.runs.length > 1;
const hidden = new Set();
const TWICE = 300; // ms within which two clicks are a double one
const LEGEND_RUNS = 8; // above that, the table of runs is the legend

function make(parent, tag, text = "", attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
  parent.append(element);
  return element;
}

function shown(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(5)));
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

// -- runs: which of them are visible ----------------------------------------------------------------------------

function apply(element) {
  const own = element.data.map((trace, index) => index).filter((index) => element.data[index].meta !== undefined);
  const visible = own.map((index) => (hidden.has(element.data[index].meta) ? "legendonly" : true));
  if (own.length) Plotly.restyle(element, { visible }, own);
  const marks = {}; // the steps at which runs diverged
  (element.layout.shapes || []).forEach((shape, index) => {
    if (shape.name !== undefined) marks[`shapes[${index}].visible`] = !hidden.has(Number(shape.name));
  });
  if (Object.keys(marks).length) Plotly.relayout(element, marks);
}

function refresh() {
  document.querySelectorAll("#runs tbody tr").forEach((row, run) => {
    row.classList.toggle("off", hidden.has(run));
    row.querySelector("input").checked = !hidden.has(run);
  });
  document.querySelectorAll(".plot.drawn").forEach(apply);
}

function toggle(run) {
  hidden.has(run) ? hidden.delete(run) : hidden.add(run);
  refresh();
}

function isolate(run) {
  const alone = !hidden.has(run) && hidden.size === page.runs.length - 1;
  hidden.clear();
  if (!alone) page.runs.forEach((_, other) => other !== run && hidden.add(other));
  refresh();
}

function listRuns() {
  const parent = document.getElementById("runs");
  const columns = ["status", "steps", ...page.finals, ...page.differing];
  const table = make(make(parent, "div", "", { class: "scroll" }), "table");
  const head = make(make(table, "thead"), "tr");
  ["run", ...columns].forEach((name) => make(head, "th", name));
  const body = make(table, "tbody");
  page.runs.forEach((run, index) => {
    const row = make(body, "tr");
    const cell = make(row, "td");
    if (many) {
      const box = make(cell, "input", "", { type: "checkbox", "aria-label": `show ${run.label}` });
      box.checked = true;
      box.addEventListener("change", () => toggle(index));
      make(cell, "span", "", { class: "chip", style: `background: ${run.colour}` });
    }
    make(cell, "span", run.label, { title: run.folder });
    columns.forEach((name) => {
      const value = name in run ? run[name] : name in run.finals ? run.finals[name] : run.settings[name];
      const one = make(row, "td", shown(value));
      if (name === "status" && run.bad) one.classList.add("bad");
    });
    row.addEventListener("click", (event) => event.target.tagName !== "INPUT" && settingsOf(index));
  });
}

function settingsOf(index) {
  const run = page.runs[index];
  document.querySelectorAll("#runs tbody tr").forEach((row, other) => row.classList.toggle("chosen", other === index));
  const parent = document.getElementById("settings");
  const open = parent.querySelector("details")?.open ?? false;
  parent.textContent = "";
  const details = make(parent, "details");
  details.open = open || parent.dataset.used === "yes";
  parent.dataset.used = "yes";
  make(details, "summary", many ? `Settings and outcome of ${run.label}` : "Settings and outcome");
  const table = make(make(details, "div", "", { class: "scroll" }), "table");
  Object.entries({ folder: run.folder, ...run.settings, ...run.outcome }).forEach(([key, value]) => {
    const row = make(table, "tr");
    make(row, "td", key);
    make(row, "td", shown(value));
  });
}

// -- panels: drawn when they come into view --------------------------------------------------------------------

function draw(element, figure) {
  let waiting;
  const crowded = figure.data.some((trace) => trace.meta !== undefined) && many && page.runs.length > LEGEND_RUNS;
  const names = figure.data.filter((trace) => trace.showlegend !== false).map((trace) => trace.name.length);
  const perRow = Math.max(1, Math.floor((element.clientWidth - 80) / (45 + 6.2 * Math.max(...names))));
  const rows = crowded ? 0 : Math.ceil(names.length / perRow);
  const layout = {
    ...figure.layout,
    autosize: true,
    margin: { l: 62, r: 14, t: 10, b: 46 + 28 * rows },
    font: { family: "system-ui, 'Liberation Sans', sans-serif", size: 12 },
    plot_bgcolor: "#fff",
    paper_bgcolor: "rgba(0,0,0,0)",
    modebar: { bgcolor: "rgba(255,255,255,0.7)", color: "#aeb4bd", activecolor: "#0072b2" },
    hovermode: many ? "closest" : "x unified",
    showlegend: !crowded,
    legend: { orientation: "h", x: 0, y: 0, yref: "container", yanchor: "bottom", font: { size: 11 }, groupclick: "togglegroup" },
  };
  const grid = { zeroline: false, exponentformat: "power", gridcolor: "#e9ebee", linecolor: "#aeb4bd", showline: true, ticks: "outside" };
  layout.xaxis = { ...layout.xaxis, ...grid, title: { ...layout.xaxis.title, standoff: 8 } };
  layout.yaxis = { ...layout.yaxis, ...grid, nticks: 8 };
  const config = { responsive: true, displaylogo: false, doubleClickDelay: TWICE, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
  Plotly.newPlot(element, figure.data, layout, config).then(() => {
    element.classList.add("drawn");
    apply(element);
    element.on("plotly_legendclick", (event) => {
      const run = event.data[event.curveNumber].meta;
      if (!many || run === undefined) return true;
      clearTimeout(waiting);
      waiting = setTimeout(() => toggle(run), TWICE); // a second click may follow
      return false;
    });
    element.on("plotly_legenddoubleclick", (event) => {
      const run = event.data[event.curveNumber].meta;
      if (!many || run === undefined) return true;
      clearTimeout(waiting);
      isolate(run);
      return false;
    });
  });
}

function axisButton(parent, element, axis, type) {
  const button = make(parent, "button", `log ${axis}`, { "aria-pressed": String(type === "log") });
  button.addEventListener("click", () => {
    const log = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(log));
    Plotly.relayout(element, { [`${axis}axis.type`]: log ? "log" : "linear", [`${axis}axis.autorange`]: true });
  });
}

function layPanels() {
  const figures = new Map();
  const observer = new IntersectionObserver(
    (entries) =>
      entries
        .filter((entry) => entry.isIntersecting)
        .forEach(({ target }) => {
          observer.unobserve(target);
          draw(target, figures.get(target));
        }),
    { rootMargin: "400px" },
  );
  page.sections.forEach((section, index) => {
    const parent = document.getElementById("sections");
    make(document.querySelector("nav"), "a", section.title, { href: `#section-${index}` });
    make(parent, "h2", section.title, { id: `section-${index}` });
    if (section.remark) make(parent, "p", section.remark);
    const grid = make(parent, "div", "", { class: "grid" });
    section.figures.forEach((figure) => {
      const panel = make(grid, "section", "", { class: "panel", "aria-label": figure.layout.meta });
      const head = make(panel, "div", "", { class: "head" });
      make(head, "h3", figure.layout.meta);
      const axes = make(head, "div", "", { class: "axes" });
      const element = make(panel, "div", "", { class: "plot" });
      axisButton(axes, element, "x", "linear");
      axisButton(axes, element, "y", figure.layout.yaxis.type);
      figures.set(element, figure);
      observer.observe(element);
    });
  });
}

listRuns();
settingsOf(0);
layPanels();

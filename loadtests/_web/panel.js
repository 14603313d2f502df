// Charts, criteria and result of a test, drawn from data.json's numbers; nothing is loaded from elsewhere.
const EVERY_MS = 1000;
const MOST_POINTS = 600;
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 560, HEIGHT = 190, LEFT = 58, RIGHT = 10, TOP = 10, BOTTOM = 24;
const MARKS = { pass: "✓", holds: "✓", fail: "✗", broken: "✗", inconclusive: "?", open: "…" };
const STANDS = { holds: "holds so far", broken: "broken so far", open: "open" };

const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};
const draw = (tag, attributes, text) => {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
};
const short = (value) => {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const digits = Math.abs(value) >= 1000 ? 0 : Math.abs(value) >= 100 ? 1 : Math.abs(value) >= 1 ? 2 : 3;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
};

// A round number not below `value`, for the top of an axis.
const above = (value) => {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= value);
};

// Few enough points to draw: the worst of each group for what must not be missed, the mean of the others.
const thin = (points, column, worst) => {
  const group = Math.ceil(points.length / MOST_POINTS);
  const thinned = [];
  for (let first = 0; first < points.length; first += group) {
    const values = points.slice(first, first + group).map((point) => point[column]).filter((value) => value !== null);
    const all = values.reduce((sum, value) => sum + value, 0);
    const value = values.length === 0 ? null : worst ? Math.max(...values) : all / values.length;
    thinned.push([points[first][0], value]);
  }
  return thinned;
};

const chart = (title, unit, lines, points, measuredFrom) => {
  const series = lines.map((line) => ({ ...line, values: thin(points, line.column, line.worst) }));
  const last = Math.max(10, points.length ? points.at(-1)[0] : 0);
  const top = above(Math.max(...series.flatMap((line) => line.values.map(([, value]) => value ?? 0)), 0));
  const x = (second) => LEFT + (WIDTH - LEFT - RIGHT) * (second / last);
  const y = (value) => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / top);
  const picture = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}, ${unit}` });
  if (measuredFrom !== null && measuredFrom > 0) {
    const width = x(Math.min(measuredFrom, last)) - LEFT;
    picture.append(draw("rect", { x: LEFT, y: TOP, width, height: HEIGHT - TOP - BOTTOM, class: "tb-warmup" }));
  }
  for (const share of [0, 0.5, 1]) {
    const at = y(top * share);
    picture.append(draw("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: at, y2: at, class: "tb-grid" }));
    picture.append(draw("text", { x: LEFT - 6, y: at + 4, "text-anchor": "end" }, short(top * share)));
    picture.append(draw("text", { x: x(last * share), y: HEIGHT - 6, "text-anchor": share === 0 ? "start" : share === 1 ? "end" : "middle" }, `${Math.round(last * share)} s`));
  }
  for (const line of series) {
    let path = "", pen = "M";
    for (const [second, value] of line.values) {
      if (value === null) { pen = "M"; continue; }
      path += `${pen}${x(second).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
    }
    picture.append(draw("path", { d: path || "M0 0", class: `tb-line ${line.look}` }));
  }
  const keys = series.map((line) => make("span", { class: `tb-key ${line.look}` }, `${line.name} ${short(line.values.at(-1)?.[1])}`));
  return make("figure", {}, make("figcaption", {}, make("b", {}, title), ` ${unit} `, ...keys), picture);
};

const charts = (state) => [
  chart("Metrics stored", "per second", [{ column: 1, name: "now", look: "tb-first" }], state.points, state.warmup_until),
  chart("Latency of ok operations", "ms", [
    { column: 4, name: "p50", look: "tb-first" },
    { column: 5, name: "p99", look: "tb-second", worst: true },
  ], state.points, state.warmup_until),
  chart("Lock errors", "per second", [{ column: 3, name: "now", look: "tb-second", worst: true }], state.points, state.warmup_until),
];

const cells = (tag, values) => values.map((value) => make(tag, {}, value));
const table = (state) => {
  const body = state.rows.map((row) => make("tr", {}, ...cells("td", state.columns.map(([name]) => row[name]))));
  const titles = make("tr", {}, ...cells("th", state.columns.map(([, title]) => title)));
  return make("table", { class: "tb-rows" }, make("thead", {}, titles), make("tbody", {}, ...body));
};

const criteria = (state) => {
  const over = Boolean(state.result);
  const rows = state.criteria.map((one) => make("tr", { class: `tb-${one.state}` },
    make("td", {}, `${MARKS[one.state]} ${STANDS[one.state] ?? one.state}`),
    make("td", {}, one.name + (one.gating ? "" : " (advice)")),
    make("td", {}, make("code", {}, one.expression)),
    make("td", {}, one.measured === null ? "–" : `${short(one.measured)} ${one.unit}`),
    make("td", {}, one.note)));
  const title = over ? "Criteria" : "Criteria so far: preliminary, from histograms; nothing has been read back yet";
  return make("section", {}, make("h3", {}, title), make("table", { class: "tb-criteria" },
    make("thead", {}, make("tr", {}, ...cells("th", ["Standing", "Criterion", "Expression", "Measured", ""]))), make("tbody", {}, ...rows)));
};

const WHAT = {
  preparing: "is being prepared", ready: "is ready", running: "runs", ending: "ends: operations in flight are waited for",
  judging: "has ended: every row is being read back", over: "is over",
};

const head = (state, base) => {
  const parts = [];
  if (state.refusal) parts.push(make("p", { class: "tb-refusal", role: "alert" }, state.refusal));
  if (!state.stage) return parts.length ? parts : [make("p", {}, "No test yet.")];
  const since = state.measured_s ? `, measured for ${state.measured_s.toFixed(0)} s` : state.stage === "running" ? ", warming up" : "";
  parts.push(make("p", { class: "tb-title" }, make("b", {}, state.title), ` ${WHAT[state.stage]}${since}`));
  if (state.result) {
    const { verdict, reason, exit_code: code, report } = state.result;
    const line = make("p", { class: `tb-result tb-${verdict}`, id: "tb-result" },
      make("b", {}, `${MARKS[verdict] ?? ""} ${verdict.toUpperCase()}`), ` ${reason} (exit code ${code}) `);
    if (report) line.append(make("a", { href: `${base}/report`, target: "_blank", rel: "noopener" }, "Open the report"));
    parts.push(line);
  } else if (state.stage === "preparing" || state.stage === "judging") {
    parts.push(make("p", { class: "tb-line-said" }, state.lines.at(-1) ?? ""));
  }
  if (state.lost) parts.push(make("p", { class: "tb-refusal" }, `Workers lost: ${state.lost}. This test proves no pass any more.`));
  return parts;
};

// Whether the page is dark: its text is light.
const isDark = (element) => {
  const [red, green, blue] = getComputedStyle(element).color.match(/[0-9.]+/g).map(Number);
  return 0.3 * red + 0.6 * green + 0.1 * blue > 128;
};

// Keeps `element` up to date for as long as the page is open. `told` gets every state as well.
export const show = (element, base, { table: withTable, told }) => {
  element.classList.add("tb");
  let known = { id: null, points: [] };
  const refresh = async () => {
    const since = Math.max(0, known.points.length - 10); // the last seconds may still change
    const answer = await fetch(`${base}/data?since=${known.id === null ? 0 : since}`, { headers: { Accept: "application/json" } });
    if (!answer.ok) return;
    let state = await answer.json();
    if (state.stage && state.id !== known.id && known.id !== null) {
      known = { id: null, points: [] };
      return refresh();
    }
    state = { ...state, points: [...known.points.slice(0, since), ...(state.points ?? [])] };
    known = { id: state.id ?? null, points: state.points };
    told?.(state);
    if (element.hidden) return;
    element.classList.toggle("tb-dark", isDark(element));
    const body = [...head(state, base)];
    if (state.stage && state.stage !== "preparing") {
      body.push(...(withTable ? [table(state)] : []), make("div", { class: "tb-charts" }, ...charts(state)), criteria(state));
    }
    element.replaceChildren(...body);
  };
  const again = () => refresh().catch(() => undefined).finally(() => setTimeout(again, EVERY_MS)); // Locust may be gone for a while
  again();
};

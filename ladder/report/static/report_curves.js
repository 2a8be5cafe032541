// Chart of training curves: inline SVG with axes, units and a cursor.
const curveForm = document.getElementById("curve-form");
const SVG = "http://www.w3.org/2000/svg";
const COLORS = 8;
const MOST = 8;  // curves that are chosen at first

const shape = (name, attributes, text = "") => {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
};
const shown = (value) => (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)
  ? value.toExponential(2) : String(Number(value.toPrecision(4))));

// Round numbers between two ends, at least about `count` of them.
const ticks = (low, high, count) => {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [5, 2, 1].find((factor) => factor * power <= raw * (1 + 1e-9));
  const found = [];
  for (let n = Math.ceil(low / step); n * step <= high + step * 1e-9; n += 1) found.push(n * step);
  return found;
};
const logTicks = (low, high) => {
  const found = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power += 1) {
    for (const factor of high - low > 3 ? [1] : [1, 2, 5]) {
      const at = power + Math.log10(factor);
      if (at >= low && at <= high) found.push(at);
    }
  }
  return found;
};
const spread = (values) => {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  return low < high ? [low, high] : [low - 0.5, high + 0.5];
};

// Chosen curves that have the quantity, with the points that the axis can show.
const chosenCurves = () => {
  const { quantity, log } = curveForm.elements;
  const boxes = [...curveForm.querySelectorAll("input[name=curve]")];
  return boxes.flatMap((box, number) => {
    const column = page.curves[number].columns[quantity.value];
    box.disabled = !column;
    if (!box.checked || !column) return [];
    const positive = (points) => (log.checked ? points.filter(([, value]) => value > 0) : points);
    const points = positive(column.points);
    const means = column.means && positive(column.means);
    return points.length ? [{ ...page.curves[number], number, unit: column.unit, points, means }] : [];
  });
};

let cursor = null;  // draws the cursor at a place from 0 to 1
const drawChart = () => {
  const chart = document.getElementById("chart");
  const found = chosenCurves();
  fillTable(found);
  cursor = null;
  if (!found.length) {
    chart.replaceChildren(element("p", { class: "quiet" }, "No curve with this quantity is chosen."));
    return;
  }
  const log = curveForm.elements.log.checked;
  const scaled = (value) => (log ? Math.log10(value) : value);
  const [width, height, left, right, top, bottom] = [Math.max(300, chart.clientWidth), 340, 62, 24, 26, 40];
  const [x0, x1] = spread(found.flatMap((curve) => [curve.points[0][0], curve.points.at(-1)[0]]));
  const [low, high] = spread(found.flatMap((curve) => curve.points.map(([, value]) => scaled(value))));
  const margin = (high - low) * 0.04;
  const x = (step) => left + ((step - x0) / (x1 - x0)) * (width - left - right);
  const y = (value) => height - bottom - ((scaled(value) - low + margin) / (high - low + 2 * margin)) * (height - top - bottom);
  const quantity = curveForm.elements.quantity.value;
  const units = [...new Set(found.map((curve) => curve.unit).filter(Boolean))].join(" or ");
  const svg = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: "img",
    "aria-label": `${quantity} by step of ${found.map((curve) => curve.name).join(", ")}; the table below has the values` });
  svg.append(shape("text", { x: 4, y: 14, class: "axis-title" }, units ? `${quantity} (${units})` : quantity));
  for (const value of log ? logTicks(low, high) : ticks(low, high, 5)) {
    const at = y(log ? 10 ** value : value);
    svg.append(shape("line", { x1: left, x2: width - right, y1: at, y2: at, class: "grid" }),
      shape("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, shown(log ? 10 ** value : value)));
  }
  for (const step of ticks(x0, x1, Math.max(3, Math.floor(width / 160)))) {
    svg.append(shape("text", { x: x(step), y: height - bottom + 18, "text-anchor": "middle" }, shown(step)));
  }
  svg.append(shape("text", { x: width - right, y: height - 4, "text-anchor": "end", class: "axis-title" }, "step (updates)"));
  const styleOf = (curve) => `curve color-${curve.number % COLORS}${curve.number >= COLORS ? " dashed" : ""}`;
  const path = (points) => `M${points.map(([step, value]) => `${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("L")}`;
  const extremes = found.filter((curve) => curve.means);  // below all lines
  svg.append(...extremes.map((curve) => shape("path", { d: path(curve.points), class: `${styleOf(curve)} extremes` })));
  for (const curve of found) {
    svg.append(shape("path", { d: path(curve.means ?? curve.points), class: styleOf(curve) }));
    const dots = curve.points.length <= 40 ? curve.points : [];
    svg.append(...dots.map(([step, value]) => shape("circle", { cx: x(step), cy: y(value), r: 2.5, class: styleOf(curve) })));
  }
  const line = shape("line", { y1: top, y2: height - bottom, class: "cursor", visibility: "hidden" });
  svg.append(line);
  const readout = element("ul", { class: "readout", "aria-live": "polite" });
  chart.replaceChildren(svg, readout);
  cursor = (place) => {
    const step = x0 + place * (x1 - x0);
    for (const end of ["x1", "x2"]) line.setAttribute(end, x(step));
    line.setAttribute("visibility", "visible");
    readout.replaceChildren(...found.map((curve) => {
      const [at, value] = nearest(curve.means ?? curve.points, step);
      const text = `${curve.name}: step ${shown(at)}, ${shown(value)}${curve.means ? " (mean)" : ""}`;
      return element("li", { class: `color-${curve.number % COLORS}` }, text);
    }));
  };
  let place = 0;
  const move = (to) => { place = Math.min(1, Math.max(0, to)); cursor(place); };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    move(((event.clientX - box.left) * (width / box.width) - left) / (width - left - right));
  });
  svg.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -0.01, ArrowRight: 0.01, Home: -1, End: 1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    move(place + by);
  });
};
const nearest = (points, step) => points.reduce((best, point) =>
  (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best));

const fillTable = (found) => {
  const table = document.getElementById("curve-table");
  table.hidden = !found.length;
  table.tBodies[0].replaceChildren(...found.map((curve) => {
    const values = curve.points.map(([, value]) => value);
    const [low, high] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
    const cells = [curve.unit, curve.steps.toLocaleString("en"), ...[values[0], values.at(-1), low, high].map(shown)];
    return element("tr", {}, element("th", { scope: "row", class: `color-${curve.number % COLORS}` }, curve.name),
      ...cells.map((text) => element("td", {}, text)));
  }));
};

if (curveForm) {
  const boxes = [...curveForm.querySelectorAll("input[name=curve]")];
  boxes.forEach((box, number) => {
    box.parentElement.classList.add(`color-${number % COLORS}`);
    box.parentElement.classList.toggle("dashed", number >= COLORS);
  });
  curveForm.hidden = false;
  curveForm.addEventListener("submit", (event) => event.preventDefault());
  curveForm.addEventListener("input", () => {
    const names = boxes.filter((box) => box.checked).map((box) => box.value);
    state.set({ quantity: curveForm.elements.quantity.value, log: curveForm.elements.log.checked ? "1" : "",
      curves: names.length ? JSON.stringify(names) : "none" });
  });
  state.listeners.push(() => {
    const { quantity, log } = curveForm.elements;
    quantity.value = state.get("quantity");
    if (quantity.selectedIndex < 0) quantity.selectedIndex = 0;
    log.checked = state.get("log") === "1";
    let names = boxes.slice(0, MOST).map((box) => box.value);
    try { names = state.get("curves") === "none" ? [] : JSON.parse(state.get("curves") || JSON.stringify(names)); }
    catch { /* a damaged address shows the first curves */ }
    for (const box of boxes) box.checked = names.includes(box.value);
    drawChart();
  });
  new ResizeObserver(drawChart).observe(document.querySelector("#curves h2"));
}

// Browser of answers: a list that renders only its visible rows, and two answers side by side.
const answerForm = document.getElementById("answer-form");
const list = document.getElementById("list");
const ROW = 56;  // height of a row of the list in pixels, as in the style
const SIGNS = ["▼", "▼", "▲", "≠", "=", "○"];
const KINDS = ["regressed: right before, wrong now", "regressed", "improved", "changed text", "unchanged", "not compared"];
const FILTERS = { regressed: [0, 1], improved: [2], changed: [0, 1, 2, 3], unchanged: [4] };
const columns = page.columns;
const items = page.benchmarks.flatMap((benchmark) => benchmark.questions.flatMap((question) =>
  question.answers.flatMap((answer, column) => (answer ? [{ benchmark, question, column, answer }] : []))));
const base = (item) => {
  const chosen = columns.findIndex((column) => column.name === state.get("against"));
  const place = chosen < 0 ? columns[item.column].base : chosen;
  return place < 0 || place === item.column ? null : item.question.answers[place] && place;
};
const sameText = (one, other) => one.turns.length === other.turns.length && one.turns.every((turn, n) => turn === other.turns[n]);
// Place of the item's kind in KINDS. A score that is a share is right at 1.
const kindOf = (item) => {
  const place = base(item);
  if (place === null) return 5;
  const [before, now] = [item.question.answers[place], item.answer];
  // A judge too small to measure anything compares nothing.
  if (!item.benchmark.check && before.score !== null && now.score !== null && before.score !== now.score) {
    if ((now.score > before.score) === (item.benchmark.better === "higher")) return 2;
    return item.benchmark.share && before.score === (item.benchmark.better === "higher" ? 1 : 0) ? 0 : 1;
  }
  return sameText(before, now) ? 4 : 3;
};
const searched = (item) => {
  const parts = [item.question.key, item.question.group, ...item.question.prompt, ...item.answer.turns];
  item.text ??= parts.join("\n").toLowerCase();
  return item.text;
};
const nameOf = (item) => JSON.stringify([item.benchmark.name, item.question.key, columns[item.column].name]);

let found = [];  // items that pass the filters, in the order of the list
let selected = 0;
const filter = () => {
  const words = state.get("q").trim().toLowerCase();
  const wanted = FILTERS[state.get("show")];
  const text = (item) => searched(item).includes(words)
    || (base(item) !== null && item.question.answers[base(item)].turns.join("\n").toLowerCase().includes(words));
  found = items.filter((item) => (!state.get("benchmark") || item.benchmark.name === state.get("benchmark"))
    && (!state.get("rung") || columns[item.column].name === state.get("rung") || columns[item.column].rung === state.get("rung")));
  for (const item of found) item.kind = kindOf(item);
  found = found.filter((item) => (!wanted || wanted.includes(item.kind)) && (!words || text(item)));
  found.sort((one, other) => one.kind - other.kind);  // stable: the order of benchmarks and questions within a kind
  selected = Math.max(0, found.findIndex((item) => nameOf(item) === state.get("item")));
  const counts = KINDS.map((_, kind) => found.filter((item) => item.kind === kind).length);
  const [shownNow, all, worse, better] = [found.length, items.length, counts[0] + counts[1], counts[2]].map((n) => n.toLocaleString("en"));
  answerForm.querySelector("output").textContent = `${shownNow} of ${all} answers: ${worse} regressed, ${better} improved`;
  document.getElementById("rows").style.height = `${found.length * ROW}px`;
  reveal();
  showRows();
  showDetail();
};

const showRows = () => {
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
  const last = Math.min(found.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 4);
  const rows = [];
  for (let place = first; place < last; place += 1) {
    const item = found[place];
    const row = element("div", { role: "option", id: `row-${place}`, class: `row kind-${item.kind}`, "aria-setsize": found.length,
      "aria-posinset": place + 1, "aria-selected": place === selected },
      element("div", {}, element("b", { title: KINDS[item.kind] }, SIGNS[item.kind]), ` ${columns[item.column].name} `,
        element("small", {}, `${item.benchmark.name} · ${item.question.key}`)),
      element("small", {}, item.question.prompt[0].slice(0, 200)));
    row.style.top = `${place * ROW}px`;
    row.addEventListener("click", () => select(place));
    rows.push(row);
  }
  document.getElementById("rows").replaceChildren(...rows);
  list.setAttribute("aria-activedescendant", `row-${selected}`);
};
const reveal = () => {
  if (selected * ROW < list.scrollTop) list.scrollTop = selected * ROW;
  const under = (selected + 1) * ROW - list.clientHeight;
  if (under > list.scrollTop) list.scrollTop = under;
};
const select = (place) => {
  if (!found.length) return;
  selected = Math.min(found.length - 1, Math.max(0, place));
  state.set({ view: "answers", item: nameOf(found[selected]) }, true);
  reveal();
  showRows();
  showDetail();
};

const mark = ([name, value]) => {
  const text = { true: "✓", false: "✗", loosely: "≈" }[String(value)];
  const label = { "✓": "passed", "✗": "failed", "≈": "loosely passed" }[text];
  const number = typeof value === "number" ? Number(value.toPrecision(4)) : value;
  return element("li", { class: label ? label.split(" ")[0] : "" },
    text ? element("i", { role: "img", "aria-label": label }, text) : "", text ? ` ${name}` : `${name}: ${number}`);
};
const facts = (answer) => [
  answer.tokens === null ? "" : `${answer.tokens.toLocaleString("en")} tokens`,
  answer.samples > 1 ? `first of ${answer.samples} samples` : "",
  answer.finished ? "" : "truncated at max_new_tokens",
].filter(Boolean).join(" · ");
const side = (name, answer, turn, marked, tag) => element("section", { class: "side" },
  element("h4", {}, name), element("ul", { class: "marks" }, ...answer.marks.map(mark)),
  ...(answer.turns[turn]?.trim() ? rendered(answer.turns[turn], marked, tag) : [element("p", { class: "quiet" }, "No text.")]),
  element("p", { class: "quiet" }, facts(answer)));

// The same question's answers of all rungs, as buttons.
const others = (item) => item.question.answers.flatMap((answer, column) => {
  if (!answer) return [];
  const right = item.benchmark.share && answer.score === (item.benchmark.better === "higher" ? 1 : 0);
  const score = answer.score === null ? "–" : right ? "✓" : item.benchmark.share && (answer.score === 0 || answer.score === 1) ? "✗"
    : String(Number(answer.score.toPrecision(3)));
  const button = element("button", { type: "button", "aria-pressed": column === item.column, class: right ? "passed" : "" },
    `${score} ${columns[column].name}`);
  button.addEventListener("click", () => {
    const other = { ...item, column, answer };
    const filters = found.some((one) => nameOf(one) === nameOf(other)) ? {} : { rung: "", show: "" };
    state.set({ ...filters, view: "answers", item: nameOf(other) });
  });
  return [button];
});
const showDetail = () => {
  const detail = document.getElementById("detail");
  const item = found[selected];
  if (!item) {
    detail.replaceChildren(element("p", { class: "quiet" }, "No answer passes these filters."));
    return;
  }
  const place = base(item);
  const before = place === null ? null : item.question.answers[place];
  const parts = [element("h3", {}, `${item.benchmark.name} · ${item.question.key}`, element("small", {}, ` ${item.question.group}`)),
    element("p", { class: `kind kind-${item.kind}` }, `${SIGNS[item.kind]} ${KINDS[item.kind]}`)];
  item.question.prompt.forEach((prompt, turn) => {
    parts.push(element("div", { class: "prompt" }, ...(item.question.prompt.length > 1 ? [element("h4", {}, `Turn ${turn + 1}`)] : []),
      ...rendered(prompt, [], "ins")));
    const diff = before && state.get("plain") !== "1" ? difference(before.turns[turn] ?? "", item.answer.turns[turn] ?? "") : null;
    const sides = [side(columns[item.column].name, item.answer, turn, diff?.added ?? [], "ins")];
    if (before) sides.unshift(side(columns[place].name, before, turn, diff?.removed ?? [], "del"));
    parts.push(element("div", { class: "sides" }, ...sides));
    if (diff && !diff.aligned) {
      const note = "The texts differ in more words than are aligned; all words between their equal ends are marked.";
      parts.push(element("p", { class: "quiet" }, note));
    }
  });
  parts.push(element("div", { class: "others", "aria-label": "All rungs on this question" }, ...others(item)));
  detail.replaceChildren(...parts);
};

const fillChoices = () => {
  const options = { benchmark: page.benchmarks, rung: columns, against: columns };
  for (const [name, named] of Object.entries(options)) {
    answerForm.elements[name].append(...named.map((one) => element("option", { value: one.name }, one.name)));
  }
};
const showState = () => {
  for (const name of ["benchmark", "rung", "against", "show", "q"]) {
    const control = answerForm.elements[name];
    const link = name === "rung" && columns.find((column) => column.rung === state.get(name) && column.base >= 0);
    control.value = link ? link.name : state.get(name);
    if (control.selectedIndex < 0) control.value = "";
    if (link) state.values.set(name, link.name);
  }
  answerForm.elements.plain.checked = state.get("plain") === "1";
  filter();
};

const step = (by) => () => {
  select(selected + by);
  const panes = document.querySelector(".panes");
  const { top, bottom } = panes.getBoundingClientRect();
  if (top > innerHeight - 100 || bottom < 100) panes.scrollIntoView();
};
if (items.length) {
  document.getElementById("browser").hidden = false;
  fillChoices();
  answerForm.addEventListener("submit", (event) => event.preventDefault());
  answerForm.addEventListener("input", () => {
    const values = Object.fromEntries(["benchmark", "rung", "against", "show", "q"].map((name) => [name, answerForm.elements[name].value]));
    list.scrollTop = 0;
    state.set({ ...values, plain: answerForm.elements.plain.checked ? "1" : "", item: "" });
  });
  list.addEventListener("scroll", showRows);
  list.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    select(selected + by);
  });
  Object.assign(keys, {
    j: step(1),
    k: step(-1),
    d: () => state.set({ plain: state.get("plain") === "1" ? "" : "1" }),
    "/": () => {
      answerForm.scrollIntoView();
      answerForm.elements.q.focus();
    },
  });
  state.listeners.push(showState);
  new ResizeObserver(showRows).observe(list);
} else {
  document.getElementById("no-answers").hidden = false;
}
state.read();

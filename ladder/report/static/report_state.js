// State of the page in the address, theme, keys, and the choice of the graph's benchmark.
const page = JSON.parse(document.getElementById("data").textContent);

const state = {
  values: new URLSearchParams(),
  listeners: [],
  get(name) { return this.values.get(name) ?? ""; },
  // Changes keys of the state; an empty value removes its key. `quiet` leaves out the listeners.
  set(changes, quiet = false) {
    for (const [name, value] of Object.entries(changes)) {
      if (value === "") this.values.delete(name);
      else this.values.set(name, value);
    }
    history.replaceState(null, "", `#${this.values}`);
    if (!quiet) this.listeners.forEach((listener) => listener());
  },
  // Reads the address: `#answers` selects a section and keeps the rest, `#view=answers&…` replaces all.
  read() {
    const hash = location.hash.slice(1);
    if (hash.includes("=")) this.values = new URLSearchParams(hash);
    else if (hash) this.set({ view: hash }, true);
    this.listeners.forEach((listener) => listener());
    const section = document.getElementById(this.get("view"));
    if (hash && section) section.scrollIntoView();
  },
};

const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

const themes = ["system", "light", "dark"];
const storedTheme = () => {
  try { return localStorage.getItem("ladder-theme") ?? "system"; } catch { return "system"; }  // files may have no storage
};
const showTheme = (name) => {
  document.documentElement.dataset.theme = name;
  document.getElementById("theme").textContent = `Theme: ${name}`;
  try { localStorage.setItem("ladder-theme", name); } catch { /* the theme then lasts as long as the page */ }
};
const nextTheme = () => {
  const now = document.documentElement.dataset.theme;
  showTheme(themes[(themes.indexOf(now) + 1) % themes.length]);
};
showTheme(themes.includes(storedTheme()) ? storedTheme() : "system");

const keys = { t: nextTheme, "?": () => document.getElementById("help").showModal() };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest("input:not([type=checkbox]), select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (!Object.hasOwn(keys, event.key)) return;
  event.preventDefault();
  keys[event.key]();
});
document.getElementById("theme").addEventListener("click", nextTheme);
document.getElementById("keys").addEventListener("click", keys["?"]);
for (const name of ["theme", "keys"]) document.getElementById(name).hidden = false;

const figures = [...document.querySelectorAll("figure[data-benchmark]")];
const graphChoice = document.querySelector("#graph-choice select");
if (graphChoice) {
  graphChoice.parentElement.hidden = figures.length < 2;
  graphChoice.addEventListener("input", () => state.set({ graph: graphChoice.value }));
  state.listeners.push(() => {
    const known = figures.some((figure) => figure.dataset.benchmark === state.get("graph"));
    const chosen = known ? state.get("graph") : figures[0]?.dataset.benchmark;
    graphChoice.value = chosen;
    for (const figure of figures) figure.hidden = figure.dataset.benchmark !== chosen;
  });
}
addEventListener("hashchange", () => state.read());

const form = document.querySelector("form");
const articles = [...document.querySelectorAll("article")];
const has = (article, name, rung) => {
  const numbers = article.dataset[name].split(" ").filter(Boolean);
  return rung === "" ? numbers.length > 0 : numbers.includes(rung);
};
const shown = (article) => {
  const { benchmark, show, rung } = form.elements;
  if (article.dataset.benchmark !== benchmark.value) return false;
  const text = form.elements.text.value.trim().toLowerCase();
  if (text && !article.textContent.toLowerCase().includes(text)) return false;
  if (show.value === "none") return article.dataset.solved === "0";
  if (show.value === "every") return article.dataset.solved === article.dataset.answers;
  return show.value === "all" || has(article, show.value, rung.value);
};
const filter = () => {
  const { benchmark } = form.elements;
  let count = 0;
  let all = 0;
  for (const article of articles) {
    article.hidden = !shown(article);
    count += !article.hidden;
    all += article.dataset.benchmark === benchmark.value;
  }
  for (const row of document.querySelectorAll("tbody tr")) {
    row.hidden = row.dataset.benchmark !== benchmark.value;
  }
  form.elements.rung.disabled = ["all", "none", "every"].includes(form.elements.show.value);
  document.querySelector("output").textContent = `${count} of ${all} questions`;
};
const columns = (event) => {
  const number = event.target.dataset.column;
  if (number === undefined) return filter();
  for (const section of document.querySelectorAll(`section[data-column="${number}"]`)) {
    section.hidden = !event.target.checked;
  }
};
form.addEventListener("input", columns);
form.addEventListener("submit", (event) => event.preventDefault());
form.hidden = false;
form.elements.benchmark.closest("label").hidden = form.elements.benchmark.options.length < 2;
filter();

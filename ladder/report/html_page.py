"""Template of the HTML answers page: one file without network access that runs only its own script.

Its Content-Security-Policy allows only this module's style and script, by their hashes. Hostile text therefore cannot
run as a script even if an escape is missing.
"""

import base64
import hashlib
from html import escape
from string import Template


def page(*, title: str, note: str, standings: str, benchmarks: str, options: str, columns: str, questions: str) -> str:
    """Return the HTML document. title and note are plain text; the other arguments are HTML, escaped by the caller."""
    policy = (
        f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; base-uri 'none'; form-action 'none'"
    )
    return PAGE.substitute(
        title=escape(title),
        note=escape(note),
        policy=policy,
        style=STYLE,
        script=SCRIPT,
        standings=standings,
        benchmarks=benchmarks,
        options=options,
        columns=columns,
        questions=questions,
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


STYLE = """
:root { color-scheme: light dark; --ground: #f6f7f9; --card: #fff; --ink: #1b1f27; --quiet: #5d6676; --line: #dde1e8;
  --link: #2456c9; --good: #176b3a; --good-ground: #e2f4e8; --bad: #a3262a; --bad-ground: #fbe7e6;
  --even: #84580a; --even-ground: #fbf0d9; --code: #f9fafb; }
@media (prefers-color-scheme: dark) { :root { --ground: #12151b; --card: #1a1e26; --ink: #e4e8ef; --quiet: #98a2b3;
  --line: #2d3440; --link: #86aaff; --good: #78d49b; --good-ground: #163323; --bad: #ff9c97; --bad-ground: #3d1d1f;
  --even: #eabf6a; --even-ground: #372b13; --code: #151921; } }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 108rem; margin: 0 auto; padding: 1.5rem clamp(.75rem, 3vw, 2.5rem) 4rem; }
h1 { margin: 0 0 1rem; font-size: 1.6rem; line-height: 1.25; letter-spacing: -.01em; }
details { max-width: 52rem; margin: .6rem 0 0; color: var(--quiet); font-size: .9rem; }
summary { cursor: pointer; }
details p { margin: .4rem 0 0; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .6rem; background: var(--card); }
table { width: 100%; border-collapse: collapse; }
th, td { padding: .45rem .9rem; border-top: 1px solid var(--line); text-align: left; white-space: nowrap; }
thead th { border: 0; color: var(--quiet); font-size: .8rem; font-weight: 500; }
tbody th { font-weight: 600; }
.number { font-variant-numeric: tabular-nums; }
small { color: var(--quiet); font-size: .85em; }
.whisker { width: 30%; min-width: 9rem; }
svg { display: block; width: 100%; height: .9rem; overflow: visible; }
line { vector-effect: non-scaling-stroke; }
.axis { stroke: var(--line); }
.range { stroke: var(--link); stroke-width: 2; opacity: .5; }
.point { stroke: var(--link); stroke-width: 3; }
form { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center;
  margin: 1.25rem 0; padding: .6rem 0; background: var(--ground); border-bottom: 1px solid var(--line); }
form label { display: inline-flex; gap: .4rem; align-items: center; color: var(--quiet); font-size: .9rem; }
fieldset { display: flex; flex-wrap: wrap; gap: .25rem .9rem; margin: 0; padding: 0; border: 0; }
fieldset label { color: var(--ink); }
select, input[type=search] { max-width: 100%; padding: .3rem .5rem; border: 1px solid var(--line);
  border-radius: .4rem; background: var(--card); color: var(--ink); font: inherit; }
input[type=search] { width: 12rem; }
input[type=checkbox] { accent-color: var(--link); }
output { margin-left: auto; color: var(--quiet); font-variant-numeric: tabular-nums; }
article { margin: 0 0 1.25rem; padding: 1rem; border: 1px solid var(--line); border-radius: .6rem;
  background: var(--card); content-visibility: auto; contain-intrinsic-size: auto 34rem; }
article header { display: flex; justify-content: space-between; color: var(--quiet); font-size: .85rem; }
h2 { margin: 0; font-size: .85rem; font-weight: 600; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font: inherit; unicode-bidi: plaintext; }
.prompt { max-width: 72rem; margin: .25rem 0 1rem; font-size: 1.05rem; font-weight: 500; }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: .75rem; }
section { display: flex; flex-direction: column; min-width: 0; padding: .7rem .8rem; border: 1px solid var(--line);
  border-radius: .5rem; background: var(--code); }
section pre { max-height: 22rem; margin: .5rem 0; overflow-y: auto; scrollbar-width: thin; font-size: .92rem; }
section pre + pre { border-top: 1px dashed var(--line); padding-top: .5rem; }
section p { color: var(--quiet); font-style: italic; }
h3 { display: flex; flex-wrap: wrap; gap: .4rem; align-items: center; margin: 0 0 .4rem; font-size: .95rem; }
ul { display: flex; flex-wrap: wrap; gap: .1rem .9rem; margin: 0; padding: 0; list-style: none; font-size: .8rem; }
li i { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
li::before { font-weight: 700; margin-right: .15rem; }
li.passed { color: var(--good); } li.passed::before { content: "\\2713"; }
li.loosely { color: var(--even); } li.loosely::before { content: "\\2248"; }
li.failed { color: var(--bad); } li.failed::before { content: "\\2717"; }
.tag { display: inline-block; padding: 0 .5rem; border-radius: 1rem; font-size: .75rem; font-weight: 600;
  line-height: 1.6; }
.solved, .gained, .improved { background: var(--good-ground); color: var(--good); }
.lost, .regressed { background: var(--bad-ground); color: var(--bad); }
.changed { background: var(--even-ground); color: var(--even); }
.distinguishable { background: var(--ground); color: var(--quiet); }
section footer { margin-top: auto; color: var(--quiet); font-size: .8rem; }
.cut { color: var(--even); font-weight: 500; }
.legend { color: var(--quiet); font-size: .85rem; }
@media (max-width: 40rem) { form { position: static; } output { margin-left: 0; } article { padding: .75rem; }
  section pre { max-height: 16rem; } .parent, .whisker { display: none; } th, td { padding: .45rem .6rem; }
  td:last-child { min-width: 8rem; white-space: normal; } }
"""

SCRIPT = """
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
"""

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$policy">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
<h1>$title</h1>
<div class="scroll"><table>
<thead><tr><th>Rung</th><th class="parent">Parent</th><th>Score</th><th class="whisker">from 0</th>
<th>Against its parent</th></tr></thead>
<tbody>
$standings
</tbody>
</table></div>
<details><summary>How to read these numbers</summary><p>$note</p></details>
<form hidden>
<label>Benchmark <select name="benchmark">$benchmarks</select></label>
<label>Show <select name="show">
<option value="all">all questions</option>
<option value="changed">changed against parent</option>
<option value="gained">gained against parent</option>
<option value="lost">lost against parent</option>
<option value="every">solved by every rung</option>
<option value="none">solved by none</option>
</select></label>
<label>on <select name="rung"><option value="">any rung</option>$options</select></label>
<label>with text <input type="search" name="text"></label>
<fieldset aria-label="Rungs shown">$columns</fieldset>
<output></output>
</form>
<p class="legend">✓ passed · ≈ passed only loosely (without first line, last line or asterisks) · ✗ failed.
Solved: it has all of the score. Gained and lost: solved now, or no longer; a higher or lower grade.</p>
$questions
</main>
<script>$script</script>
</body>
</html>
""")

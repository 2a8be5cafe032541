"use strict";

const byId = (id) => document.getElementById(id);
let columns = [];
let abort = null;

function element(kind, name, text) {
  const made = document.createElement(kind);
  made.className = name;
  made.textContent = text;
  return made;
}

function addTurn(column, kind, text) {
  const turn = element("div", `turn ${kind}`, text);
  column.turns.append(turn);
  column.turns.scrollTop = column.turns.scrollHeight;
  return turn;
}

function reset() {
  if (abort) abort.abort();
  for (const column of columns) {
    column.messages = [];
    column.turns.replaceChildren();
  }
}

function requestOf(column, text) {
  const system = byId("system").value.trim();
  return {
    model: column.model,
    messages: [
      ...(system ? [{ role: "system", content: system }] : []),
      ...column.messages,
      { role: "user", content: text },
    ],
    temperature: Number(byId("temperature").value),
    max_tokens: Number(byId("max_tokens").value),
    stream: true,
    stream_options: { include_usage: true },
  };
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

async function ask(column, text, signal) {
  addTurn(column, "user", text);
  const turn = addTurn(column, "assistant", "");
  const began = performance.now();
  try {
    const body = JSON.stringify(requestOf(column, text));
    const headers = { "Content-Type": "application/json" };
    const response = await fetch("/v1/chat/completions", { method: "POST", headers, body, signal });
    if (!response.ok) throw new Error((await response.json()).error.message);
    let answer = "";
    let finish = null;
    let tokens = 0;
    for await (const event of events(response)) {
      for (const choice of event.choices) {
        answer += choice.delta.content ?? "";
        finish = choice.finish_reason ?? finish;
      }
      if (event.usage) tokens = event.usage.completion_tokens;
      turn.textContent = answer;
      column.turns.scrollTop = column.turns.scrollHeight;
    }
    column.messages.push({ role: "user", content: text }, { role: "assistant", content: answer });
    const seconds = (performance.now() - began) / 1000;
    const end = finish === "length" ? "truncated at the maximum" : "complete";
    column.turns.append(element("div", "note", `${tokens} token${tokens === 1 ? "" : "s"}, ${seconds.toFixed(1)} s, ${end}`));
  } catch (error) {
    const stopped = error.name === "AbortError";
    turn.classList.add("error");
    turn.textContent += stopped ? "\n(stopped; this turn is not part of the conversation)" : `\n${error.message}`;
  }
  column.turns.scrollTop = column.turns.scrollHeight;
}

async function send() {
  const text = byId("text").value.trim();
  if (!text || abort) return;
  byId("text").value = "";
  abort = new AbortController();
  byId("send").hidden = true;
  byId("stop").hidden = false;
  await Promise.all(columns.map((column) => ask(column, text, abort.signal)));
  abort = null;
  byId("send").hidden = false;
  byId("stop").hidden = true;
  byId("text").focus();
}

async function start() {
  const { data } = await (await fetch("/v1/models")).json();
  columns = data.map(({ id }) => {
    const section = document.createElement("section");
    const turns = element("div", "turns", "");
    section.append(element("h2", "", id), turns);
    byId("columns").append(section);
    return { model: id, messages: [], turns };
  });
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
});
byId("stop").addEventListener("click", () => abort && abort.abort());
byId("reset").addEventListener("click", reset);
start();

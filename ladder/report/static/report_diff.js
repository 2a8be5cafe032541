// Word-level difference of two texts, and texts as elements with code blocks and marked words.
const WORDS = /\s+|[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]|[\p{L}\p{M}\p{N}_]+|[^]/gu;
const FURTHEST = 2000;  // changed words up to which two texts are aligned; beyond, all words between them are marked

// Ranges [start, end) of the words of each text that the other does not have: {removed, added, aligned}.
const difference = (before, after) => {
  const [a, b] = [before.match(WORDS) ?? [], after.match(WORDS) ?? []];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let [m, n] = [a.length, b.length];
  while (m > start && n > start && a[m - 1] === b[n - 1]) { m -= 1; n -= 1; }
  const kept = align(a.slice(start, m), b.slice(start, n));
  const mark = (words, from, to, side) => {
    const common = new Set((kept ?? []).map((pair) => pair[side] + from));
    return ranges(words, (place) => place >= from && place < to && !common.has(place));
  };
  return { removed: mark(a, start, m, 0), added: mark(b, start, n, 1), aligned: kept !== null };
};

// Pairs of places of a longest common subsequence (Myers, Algorithmica 1, 1986, 251-266); null if it is too far.
const align = (a, b) => {
  const most = Math.min(FURTHEST, a.length + b.length);
  const [reached, middle, trace] = [new Int32Array(2 * most + 3), most + 1, []];
  for (let d = 0; d <= most; d += 1) {
    trace.push(reached.slice(middle - d - 1, middle + d + 2));
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && reached[middle + k - 1] < reached[middle + k + 1]);
      let x = down ? reached[middle + k + 1] : reached[middle + k - 1] + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      reached[middle + k] = x;
      if (x >= a.length && x - k >= b.length) return pairs(trace, a.length, b.length);
    }
  }
  return null;
};
const pairs = (trace, m, n) => {
  const found = [];
  let [x, y] = [m, n];
  for (let d = trace.length - 1; d >= 0; d -= 1) {
    const [before, k] = [(place) => trace[d][place + d + 1], x - y];
    const down = k === -d || (k !== d && before(k - 1) < before(k + 1));
    const from = down ? k + 1 : k - 1;
    const [startX, startY] = d ? [before(from), before(from) - from] : [0, 0];
    while (x > startX && y > startY) { x -= 1; y -= 1; found.push([x, y]); }
    [x, y] = [startX, startY];
  }
  return found;
};

// Ranges of characters of the words at which `marked` holds; neighbors become one range.
const ranges = (words, marked) => {
  const found = [];
  let at = 0;
  words.forEach((word, place) => {
    if (marked(place)) {
      if (found.length && found.at(-1)[1] === at) found.at(-1)[1] = at + word.length;
      else found.push([at, at + word.length]);
    }
    at += word.length;
  });
  return found;
};

// Blocks of a text: [start, end, whether it is code between fences of three or more ` or ~].
const blocks = (text) => {
  const found = [];
  let [start, fence] = [0, null];
  for (const line of text.matchAll(/^ {0,3}(`{3,}|~{3,})[^\n]*(?:\n|$)/gm)) {
    const end = line.index + line[0].length;
    if (fence === null) {
      if (line.index > start) found.push([start, line.index, false]);
      [start, fence] = [line.index, line[1]];
    } else if (line[1].startsWith(fence)) {
      found.push([start, end, true]);
      [start, fence] = [end, null];
    }
  }
  if (start < text.length || !found.length) found.push([start, text.length, fence !== null]);
  return found;
};

// A text as <pre> elements, its ranges in elements `tag` (ins or del). Texts are inserted as text, never as HTML.
const rendered = (text, marked, tag) => blocks(text).map(([start, end, code]) => {
  const pre = element("pre", { class: `${code ? "code" : "text"}${end - start > 100000 ? " long" : ""}`, dir: "auto" });
  let at = start;
  for (const [from, to] of marked) {
    if (to <= start || from >= end) continue;
    pre.append(text.slice(at, Math.max(at, from)), element(tag, {}, text.slice(Math.max(from, start), Math.min(to, end))));
    at = Math.min(to, end);
  }
  pre.append(text.slice(at, end));
  return pre;
});

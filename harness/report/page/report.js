"use strict";
// Everything is put on the page as text nodes; nothing from the data is ever parsed as markup.

const PAGE_ROWS = 200;
const byId = (id) => document.getElementById(id);
const state = { index: null, rows: [], sort: { key: "order", down: false }, limit: PAGE_ROWS, arm: 0 };
const chunks = new Map();

function el(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

async function unpack(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function chunk(number) {
  if (!chunks.has(number)) chunks.set(number, unpack(`chunk-${number}`).then(byLatent));
  return chunks.get(number);
}

// everything of one kind stands together, as that packs best; "scored.p" is p of each scored example
function byLatent(columns) {
  const latents = [];
  for (const [kind, values] of Object.entries(columns)) {
    const [name, field] = kind.split(".");
    values.forEach((value, at) => {
      const latent = latents[at] || (latents[at] = {});
      if (field === undefined) latent[name] = value;
      else value.forEach((one, i) => { ((latent[name] || (latent[name] = []))[i] || (latent[name][i] = {}))[field] = one; });
    });
  }
  return latents;
}

// what rounds to nothing has no sign
const fixed = (value, digits = 2) => (Number(value.toFixed(digits)) || 0).toFixed(digits).replace("-", "−");
const strength = (value) => String(Number(value.toPrecision(4)));
// two significant digits, written out
const percent = (value) => `${Number((100 * value).toPrecision(2)).toLocaleString("en", { maximumFractionDigits: 8 })} %`;
const statusWords = (status) => state.index.status[status] || status;
const metricWords = (name) => state.index.metrics[name] || name.replaceAll("_", " ");
const severalCoders = () => new Set(state.index.latents.map((row) => row.coder)).size > 1;
const identity = (row) => `${row.coder}:${row.latent}`;
const link = (row) => `#latent=${encodeURIComponent(identity(row))}`;
const valueOf = (score) => (Array.isArray(score) ? score[0] : null);

// ---------------------------------------------------------------- the table of latents

// which scorers say anything of an arm: those of interventions nothing of an explainer of contexts
function scorersOf(arm) {
  const { scorers, latents } = state.index;
  return scorers.map((scorer, s) => ({ scorer, s })).filter(({ s }) => latents.some((row) => row.scores[arm][s] !== null));
}

const saysOf = (row, arm) => row.explanations[arm] !== null || row.scores[arm].some((score) => score !== null);

function columns() {
  const scorers = scorersOf(state.arm);
  return [
    { key: "latent", title: "Latent", of: (row) => row.latent, text: true },
    { key: "words", title: "Explanation", of: (row) => wordsOf(row, state.arm).toLowerCase(), text: true },
    ...scorers.map(({ scorer, s }) => ({
      key: `score-${s}`, title: scorer.name, hint: scorer.metric, of: (row) => valueOf(row.scores[state.arm][s]),
    })),
    { key: "rate", title: "Fires in", hint: "share of windows", of: (row) => row.rate },
    ...(scorers.length > 1 ? [{ key: "apart", title: "Apart", hint: "how far scorers are apart at most, each from chance to 1", of: (row) => row.apart }] : []),
    { key: "failures", title: "Failures", of: (row) => row.failures },
  ];
}

function wordsOf(row, arm) {
  const line = row.explanations[arm];
  return line && line[0] !== null ? line[0] : "";
}

function explanation(line) {
  if (line && line[0] !== null) return document.createTextNode(line[0]);
  if (line && line[1] !== "ok") return el("span", { class: "fail", title: line[2] }, statusWords(line[1]));
  return el("span", { class: "quiet" }, "–");
}

function partner(row, line) {
  if (!line || line[3] === null) return null;
  const other = state.index.latents.find((found) => found.coder === row.coder && found.latent === line[3]);
  return el("small", {}, " of latent ", other ? el("a", { href: link(other) }, String(line[3])) : String(line[3]));
}

function scoreText(score, chance, interval = false) {
  if (score === null) return el("span", { class: "quiet" }, "–");
  if (typeof score === "string") return el("span", { class: "fail", title: statusWords(score) }, "failed");
  const [value, low, high] = score;
  const node = el("span", { class: value <= chance + 0.05 ? "score low" : "score" }, fixed(value));
  if (!interval || low === undefined) return node;
  return el("span", {}, node, " ", el("small", {}, `[${fixed(low)}, ${fixed(high)}]`));
}

function nearChance(row) {
  const { scorers, primary } = state.index;
  const value = valueOf(row.scores[state.arm][primary]);
  return value !== null && value <= scorers[primary].chance + 0.05;
}

function selected() {
  const wanted = byId("search").value.trim().toLowerCase();
  const filter = byId("filter").value;
  const rows = state.index.latents.filter((row) => {
    if (filter === "failures" && !row.failures) return false;
    if (filter === "clean" && row.failures) return false;
    if (filter === "apart" && !(row.apart > 0.25)) return false;
    if (filter === "low" && !nearChance(row)) return false;
    // random latents have arms of their own, and others say nothing of them
    if (!wanted) return row.status !== "ok" || saysOf(row, state.arm);
    if (identity(row).toLowerCase().includes(wanted)) return true;
    return row.explanations.some((line) => line && line[0] !== null && line[0].toLowerCase().includes(wanted));
  });
  const column = columns().find((candidate) => candidate.key === state.sort.key);
  if (!column) return rows;
  const sign = state.sort.down ? -1 : 1;
  return rows.sort((first, second) => {
    const [a, b] = [column.of(first), column.of(second)];
    if (a === null || b === null) return (a === null) - (b === null); // what has no value comes last either way
    return sign * (a < b ? -1 : a > b ? 1 : 0);
  });
}

function drawTable() {
  state.rows = selected();
  const head = el("tr", {}, ...columns().map(heading));
  const scorers = scorersOf(state.arm);
  const body = el("tbody", {}, ...state.rows.slice(0, state.limit).map((row) => tableRow(row, scorers)));
  const table = el("table", { class: "index" }, el("thead", {}, head), body);
  const rest = state.rows.length - state.limit;
  const more = el("button", { class: "more", type: "button", onclick: () => { state.limit += PAGE_ROWS; drawTable(); } },
    `Show ${Math.min(rest, PAGE_ROWS)} more of ${rest}`);
  byId("table").replaceChildren(table, ...(rest > 0 ? [more] : []));
  const [some, all] = [state.rows.length, state.index.latents.length];
  byId("shown").textContent = some === all ? `${all} latents` : `${some} of ${all} latents`;
}

function heading(column) {
  const active = state.sort.key === column.key;
  const arrow = active ? (state.sort.down ? " ↓" : " ↑") : "";
  const button = el("button", { class: "sort", type: "button", title: column.hint, "data-key": column.key,
    onclick: () => sortBy(column) }, column.title + arrow);
  const order = active ? (state.sort.down ? "descending" : "ascending") : "none";
  return el("th", { scope: "col", class: column.text ? "" : "number", "aria-sort": order }, button);
}

function sortBy(column) {
  const again = state.sort.key === column.key;
  // numbers are most telling from the top, words and ids from the start
  state.sort = { key: column.key, down: again ? !state.sort.down : !column.text };
  drawTable();
  const button = document.querySelector(`button[data-key="${column.key}"]`);
  if (button) button.focus();
}

function tableRow(row, scorers) {
  const name = severalCoders() ? `${row.coder} ${row.latent}` : String(row.latent);
  const open = (event) => { if (!event.target.closest("a") && !String(getSelection())) location.hash = link(row); };
  return el("tr", { onclick: open, "data-latent": identity(row) },
    el("th", { scope: "row" }, el("a", { href: link(row) }, name)),
    el("td", { class: "words" }, row.status === "ok" ? explanation(row.explanations[state.arm])
      : el("span", { class: "fail" }, statusWords(row.status))),
    ...scorers.map(({ scorer, s }) => el("td", { class: "number" }, scoreText(row.scores[state.arm][s], scorer.chance))),
    el("td", { class: "number" }, row.rate === null ? "–" : percent(row.rate)),
    ...(scorers.length > 1 ? [el("td", { class: "number" }, row.apart === null ? "–" : fixed(row.apart))] : []),
    el("td", { class: "number" }, String(row.failures)));
}

// ---------------------------------------------------------------- the page of one latent

function tokens(example, top, marks = []) {
  const fired = new Map();
  for (let i = 0; i < example.a.length; i += 2) fired.set(example.a[i], example.a[i + 1]);
  const marked = new Set(marks);
  const spans = example.p.split("\n").map((piece, position) => {
    const value = fired.get(position) || 0;
    // a character split over several tokens stands at the last of them; an earlier one that fires still shows
    const shown = piece === "" && value > 0 ? "▫" : piece;
    const names = [value > 0 ? "on" : "", marked.has(position) ? "marked" : ""].filter(Boolean).join(" ");
    const span = el("span", { class: names || null, title: `“${piece}”  ${strength(value)}` }, shown);
    if (value > 0) span.style.setProperty("--a", Math.min(1, value / top).toFixed(3));
    return span;
  });
  return el("div", { class: "passage", dir: "auto" }, ...spans);
}

function armsTable(row) {
  const { arms, scorers } = state.index;
  const random = row.coder.includes("~");
  const shown = arms.map((arm, a) => [arm, a]).filter(([arm, a]) => saysOf(row, a) || !(random || arm.population));
  // where most scorers judge a few arms each, a column of each would be dashes
  const sparse = shown.flatMap(([, a]) => row.scores[a]).filter((score) => score === null).length > (shown.length * scorers.length) / 2;
  const told = (a) => scorers.map((s, i) => [s, row.scores[a][i]]).filter(([, score]) => score !== null);
  const head = el("tr", {}, el("th", { scope: "col" }, "Arm"), el("th", { scope: "col" }, "Explanation"),
    ...(sparse ? ["Scores"] : scorers.map((s) => `${s.name}, ${s.metric}`)).map((title) => el("th", { scope: "col", class: "number" }, title)));
  const rows = shown.map(([arm, a]) => el("tr", { class: arm.control ? "control" : "real" },
    el("th", { scope: "row" }, arm.label, arm.note ? el("small", {}, arm.note) : null),
    el("td", { class: "words" }, explanation(row.explanations[a]), partner(row, row.explanations[a])),
    ...(sparse
      ? [el("td", { class: "number" }, ...told(a).map(([s, score]) => el("div", {}, `${s.name}, ${s.metric} `, scoreText(score, s.chance, true))))]
      : scorers.map((s, i) => el("td", { class: "number" }, scoreText(row.scores[a][i], s.chance, true))))));
  return el("table", { class: "arms" }, el("thead", {}, head), el("tbody", {}, ...rows));
}

function scoresTable(details) {
  const names = state.index.figures.map((name, at) => [name, at]).filter(([, at]) => details.scores.some((line) => line.metrics[at] !== null));
  const number = (text) => el("td", { class: "number" }, text);
  const head = el("tr", {}, ...["Arm", "Scorer", "Rung"].map((title) => el("th", { scope: "col" }, title)),
    ...[...names.map(([name]) => metricWords(name)), "activating", "silent", "failed"].map((title) => el("th", { scope: "col", class: "number" }, title)));
  const rows = details.scores.map((line) => el("tr", {},
    el("th", { scope: "row" }, state.index.arms[line.arm].label), el("td", {}, line.scorer), el("td", {}, line.rung),
    ...(line.status === "ok"
      ? names.map(([, at]) => number(line.metrics[at] === null ? "–" : fixed(line.metrics[at])))
      : [el("td", { class: "fail", colspan: Math.max(names.length, 1), title: line.message }, statusWords(line.status))]),
    ...line.n.map((n) => number(String(n)))));
  return el("details", {}, el("summary", {}, "Every metric of every score"),
    el("table", { class: "plain" }, el("thead", {}, head), el("tbody", {}, ...rows)));
}

// how an explainer that works in steps came to its words
function traceOf(trace) {
  const steps = trace.steps.map((step) => el("li", {},
    step.said ? el("div", { class: "said", dir: "auto" }, step.said) : null,
    ...step.calls.map(([name, given, result, failed]) => el("div", { class: failed ? "call fail" : "call" },
      el("code", {}, `${name} ${given}`), result ? el("pre", { dir: "auto" }, result) : null)),
    step.note ? el("div", { class: "fail" }, step.note) : null));
  const tokens = trace.steps.reduce((sum, step) => sum + step.tokens, 0);
  const size = `${trace.steps.length} ${trace.steps.length === 1 ? "step" : "steps"}, ${tokens.toLocaleString("en")} tokens`;
  return el("details", { class: "trace" },
    el("summary", {}, `How ${state.index.arms[trace.arm].label} came to it (${size})`), el("ol", {}, ...steps));
}

function shownExamples(details, row) {
  const peak = (example) => example.a.reduce((best, value, i) => (i % 2 ? Math.max(best, value) : best), 0);
  const sorted = [...details.shown].sort((a, b) => peak(b) - peak(a));
  // selected records have no quantiles
  const ranked = sorted.some((example) => example.q !== null);
  const lines = sorted.map((example) => el("tr", {},
    el("td", { class: "kind number" }, fixed(peak(example))),
    ranked ? el("td", { class: "kind" }, example.q === null ? "" : `Q${example.q}`) : null,
    el("td", {}, tokens(example, row.maximum))));
  return el("table", { class: "examples" },
    el("thead", {}, el("tr", {}, ...["Peak", ...(ranked ? ["Quantile"] : []), "Text"].map((title) => el("th", { scope: "col" }, title)))),
    el("tbody", {}, ...lines));
}

const labelOf = (verdict) => (Array.isArray(verdict) ? verdict[0] : typeof verdict === "number" ? verdict : null);
const isWrong = (verdict, truth) => labelOf(verdict) !== null && labelOf(verdict) !== truth;
const isFailure = (verdict) => typeof verdict === "string";

function verdictCell(verdict, example, { place, first, control }) {
  const names = ["verdict", first ? "first" : "", control ? "control" : ""];
  if (verdict === null) return el("td", { class: names.join(" ").trim() }, "");
  if (isFailure(verdict)) return el("td", { class: [...names, "fail"].join(" "), title: `${place}: ${statusWords(verdict)}` }, "failed");
  if (typeof verdict === "object" && !Array.isArray(verdict)) return otherCell(verdict, place, names);
  const label = labelOf(verdict);
  const wrong = label !== example.t;
  const probability = Array.isArray(verdict) ? verdict[1] : null;
  const said = `${place} said ${label ? "yes" : "no"}${probability === null ? "" : `, P(yes) = ${fixed(probability, 3)}`}: ${wrong ? "wrong" : "right"}`;
  const text = `${label ? "yes" : "no"} ${wrong ? "✗" : "✓"}${probability === null ? "" : ` ${fixed(probability)}`}`;
  return el("td", { class: [...names, wrong ? "wrong" : ""].join(" ").trim(), title: said }, text);
}

// a number, strengths token by token as bars, or whether the odd one out was found
function otherCell(verdict, place, names) {
  if ("right" in verdict) {
    const wrong = verdict.right ? "" : "wrong";
    return el("td", { class: [...names, wrong].join(" ").trim(), title: place }, verdict.right ? "found ✓" : "missed ✗");
  }
  if ("value" in verdict) return el("td", { class: [...names, "number"].join(" ").trim(), title: place }, String(verdict.value).replace("-", "−"));
  const bars = verdict.strengths.map((level) => {
    const bar = el("span", {});
    bar.style.setProperty("--h", ((level || 0) / 10).toFixed(2));
    return bar;
  });
  const told = verdict.strengths.map((level) => (level === null ? "–" : level)).join(" ");
  return el("td", { class: names.join(" ").trim(), title: `${place}, strengths token by token: ${told}` }, el("div", { class: "bars" }, ...bars));
}

function scoredExamples(details, row) {
  const { arms, scorers } = state.index;
  const cells = scorers.flatMap((s, i) => arms.map((arm, a) =>
    ({ s: i, a, place: `${s.name}, ${arm.label}`, first: a === 0, control: arm.control })))
    .filter((cell) => details.scored.some((example) => example.v[cell.s][cell.a] !== null));
  const marking = [...new Set(details.scored.flatMap((example) => Object.keys(example.m)))];
  const box = el("div", {});
  const pick = (label, values, change) => el("label", {}, label, " ", el("select", { onchange: change },
    ...values.map(([value, text]) => el("option", { value }, text))));
  const choice = { which: "all", marks: marking[0] };
  const draw = () => box.replaceChildren(el("div", { class: "scroll" }, scoredTable(details, row, cells, choice)));
  const form = el("form", { class: "controls" },
    pick("Show", [["all", "all scored examples"], ["wrong", "with a wrong verdict"], ["failed", "with a failure"],
      ["firing", "activating"], ["silent", "not activating"]], (event) => { choice.which = event.target.value; draw(); }),
    marking.length > 1 ? pick("Underlined as marked for", marking.map((name) => [name, name]),
      (event) => { choice.marks = event.target.value; draw(); }) : null,
    marking.length === 1 ? el("span", { class: "quiet" }, "underlined: marked for ", marking[0]) : null);
  draw();
  return [form, box];
}

function keep(example, which, cells) {
  const verdicts = cells.map((cell) => example.v[cell.s][cell.a]);
  if (which === "wrong") return verdicts.some((verdict) => isWrong(verdict, example.t));
  if (which === "failed") return verdicts.some(isFailure);
  if (which === "firing") return example.t === 1;
  return which === "silent" ? example.t === 0 : true;
}

function kindOf(example, several) {
  if (example.r === "written") return example.t ? "written to fire" : "written not to";
  return example.t ? `fires${example.q ? ` Q${example.q}` : several ? `, with ${example.r}` : ""}` : `silent, ${example.r}`;
}

function scoredTable(details, row, cells, choice) {
  const { arms, scorers } = state.index;
  const examples = details.scored.filter((example) => keep(example, choice.which, cells));
  // each rung is asked with activating windows of its own
  const several = new Set(details.scored.map((example) => example.r).filter((rung) => rung !== "written")).size > 1;
  // activating first, strong to weak, then silent ones by rung: errors of one sort stand together
  examples.sort((a, b) => b.t - a.t || (b.q || 0) - (a.q || 0) || (a.r < b.r ? -1 : a.r > b.r ? 1 : 0));
  const groups = scorers.map((s, i) => [s.name, cells.filter((cell) => cell.s === i).length]).filter(([, size]) => size);
  const top = el("tr", {}, el("th", { colspan: 2 }), ...groups.map(([name, size]) => el("th", { class: "group", colspan: size, scope: "colgroup" }, name)));
  const head = el("tr", {}, el("th", { scope: "col" }, "Truth"), el("th", { scope: "col" }, `Text (${examples.length})`),
    ...cells.map((cell) => el("th", { scope: "col", class: cell.first ? "under first" : "under" }, arms[cell.a].label)));
  const tally = el("tr", { class: "tally" }, el("td", { colspan: 2 }, "right, of those with a verdict"), ...cells.map((cell) => {
    const told = examples.filter((example) => labelOf(example.v[cell.s][cell.a]) !== null);
    const right = told.filter((example) => !isWrong(example.v[cell.s][cell.a], example.t)).length;
    return el("td", { class: cell.first ? "first" : "" }, told.length ? `${right} of ${told.length}` : "");
  }));
  const body = examples.map((example) => el("tr", {},
    el("td", { class: "kind" }, kindOf(example, several)),
    el("td", {}, tokens(example, row.maximum, choice.marks ? example.m[choice.marks] : [])),
    ...cells.map((cell) => verdictCell(example.v[cell.s][cell.a], example, cell))));
  return el("table", { class: "examples" }, el("thead", {}, top, head), el("tbody", {}, tally, ...body));
}

// ---------------------------------------------------------------- simulated strengths, interventions

function simulated(details, row) {
  const { arms, scorers } = state.index;
  const told = (example, cell) => { const verdict = example.v[cell.s][cell.a]; return verdict && verdict.strengths ? verdict.strengths : null; };
  const cells = scorers.flatMap((s, i) => arms.map((arm, a) => ({ s: i, a, place: `${s.name}, ${arm.label}` })))
    .filter((cell) => details.scored.some((example) => told(example, cell)));
  if (!cells.length) return [];
  const box = el("div", { class: "scroll" });
  const draw = (cell) => {
    const examples = details.scored.filter((example) => told(example, cell)).sort((a, b) => b.t - a.t || (b.q || 0) - (a.q || 0));
    const rows = examples.flatMap((example) => {
      const flat = told(example, cell).flatMap((level, position) => (level > 0 ? [position, level] : []));
      return [
        el("tr", { class: "true" }, el("td", { class: "kind", rowspan: 2 }, kindOf(example, false)),
          el("th", { scope: "row" }, "true"), el("td", {}, tokens(example, row.maximum))),
        el("tr", {}, el("th", { scope: "row" }, "simulated"), el("td", {}, tokens({ p: example.p, a: flat }, 10))),
      ];
    });
    box.replaceChildren(el("table", { class: "examples simulated" },
      el("thead", {}, el("tr", {}, ...["Truth", "Strengths", `Text (${examples.length})`].map((title) => el("th", { scope: "col" }, title)))),
      el("tbody", {}, ...rows)));
  };
  draw(cells[0]);
  const form = el("form", { class: "controls" }, el("label", {}, "Simulated by ",
    el("select", { onchange: (event) => draw(cells[event.target.value]) }, ...cells.map((cell, at) => el("option", { value: at }, cell.place)))),
    el("span", { class: "quiet" }, `full colour: ${strength(row.maximum)} in truth, 10 of 10 simulated`));
  return [el("h2", {}, "Simulated against true strengths"), form, box];
}

const FOUND = {
  saturated: "more strength brought no larger KL", nonmonotone: "KL falls somewhere as strength grows",
  nonfinite: "no number came of more strength", max_rounds: "the search ended before it",
};

// what both continuations begin with is quiet: where they part is what an intervention did
function parted(text, other) {
  let at = 0;
  while (at < text.length && text[at] === other[at]) at += 1;
  return [at ? el("span", { class: "quiet" }, text.slice(0, at)) : null, text.slice(at)];
}

function interventions(details) {
  if (!details.changes) return [];
  const { arms, scorers } = state.index;
  const folded = details.changes.map((change, number) => {
    const cells = scorers.flatMap((s, i) => arms.map((arm, a) => ({ s: i, a, place: `${s.name}, ${arm.label}`, control: arm.control })))
      .filter((cell) => change.pairs.some((pair) => pair.v[cell.s][cell.a] !== null));
    const head = el("tr", {}, ...["Quantile", "Prompt", "It goes on", "It goes on with the latent amplified"].map((title) => el("th", { scope: "col" }, title)),
      ...cells.map((cell) => el("th", { scope: "col", class: "under" }, scorers[cell.s].name, el("small", {}, arms[cell.a].label))));
    const rows = change.pairs.map((pair) => el("tr", {}, el("td", { class: "kind" }, pair.q === null ? "" : `Q${pair.q}`),
      el("td", { class: "words prompt" }, pair.prompt),
      el("td", { class: "words" }, ...parted(pair.clean, pair.steered).filter(Boolean)),
      el("td", { class: "words" }, ...parted(pair.steered, pair.clean).filter(Boolean)),
      ...cells.map((cell) => verdictCell(pair.v[cell.s][cell.a], pair, cell))));
    const told = [`to a KL of ${change.target} nats`, `${change.kl === null ? "no number" : strength(change.kl)} reached at strength ${strength(change.strength)}`,
      ...(FOUND[change.status] ? [FOUND[change.status]] : [])].join("; ");
    return el("details", { class: "change", open: number === 0 ? "" : null }, el("summary", {}, `Amplified ${told} (${change.pairs.length} ${change.pairs.length === 1 ? "prompt" : "prompts"})`),
      el("div", { class: "scroll" }, el("table", { class: "examples pairs" }, el("thead", {}, head), el("tbody", {}, ...rows))));
  });
  return [el("h2", {}, "With and without an intervention"), ...folded];
}

function profile(details, row) {
  const found = details.profile;
  if (!found) return [];
  const most = Math.max(...found.histogram, 1);
  const bars = found.histogram.map((n, at) => {
    const low = (row.maximum * at) / found.histogram.length;
    const bar = el("span", { title: `from ${strength(low)}: ${n.toLocaleString("en")} firings` });
    // the eye compares what is rare, too
    bar.style.setProperty("--h", (n ? Math.max(0.03, Math.log1p(n) / Math.log1p(most)) : 0).toFixed(3));
    return bar;
  });
  const tokens = found.tokens.map(([text, firings, maximum]) => el("li", { title: `at most ${strength(maximum)}` },
    el("code", {}, text), " ", el("small", {}, percent(firings / found.firings))));
  return [el("div", { class: "profile" },
    el("figure", {}, el("figcaption", {}, `${found.firings.toLocaleString("en")} firings by activation, on a logarithmic scale`),
      el("div", { class: "histogram" }, ...bars),
      el("div", { class: "ends" }, el("span", {}, "0"), el("span", {}, strength(row.maximum)))),
    el("div", {}, el("p", { class: "fine" }, "Most common tokens, with their share of firings"), el("ul", { class: "tokens" }, ...tokens)))];
}

function exchanges(details) {
  if (!details.exchanges.length) return [];
  const folded = details.exchanges.map(([arm, scorer, prompt, reply]) => el("details", {},
    el("summary", {}, scorer ? `${scorer} judging ${state.index.arms[arm].label} (the first request)` : `${state.index.arms[arm].label} explaining`),
    el("p", { class: "fine" }, "Sent"), el("pre", {}, prompt), el("p", { class: "fine" }, "Answered"), el("pre", {}, reply)));
  return [el("h2", {}, "Prompts and raw replies"), ...folded];
}

function crumbs(row) {
  const at = state.rows.indexOf(row);
  const step = (other, text, rel) => (other ? el("a", { href: link(other), rel }, text) : null);
  return el("div", { class: "crumbs" }, el("a", { href: "#latents" }, "← All latents"),
    el("span", { class: "steps" }, at > 0 ? step(state.rows[at - 1], "Previous", "prev") : null,
      at >= 0 ? step(state.rows[at + 1], "Next", "next") : null));
}

async function drawLatent(row) {
  const page = byId("page");
  const hash = location.hash;
  const details = { shown: [], scored: [], ...(await chunk(row.at[0]))[row.at[1]] };
  if (location.hash !== hash) return; // the reader has gone on meanwhile
  const facts = [row.coder, ...(row.hookpoint ? [" at ", el("code", {}, row.hookpoint)] : []), row.maximum === null ? "" : `; largest activation ${strength(row.maximum)}`,
    row.rate === null ? "" : `; fires in ${percent(row.rate)} of windows`, "."];
  const problem = row.status === "ok" ? null : el("p", { class: "notice" }, `Not asked about: ${statusWords(row.status)}.`);
  page.replaceChildren(crumbs(row), el("h1", {}, `Latent ${row.latent}`), el("p", { class: "lede" }, ...facts),
    ...(problem ? [problem] : []), armsTable(row), ...profile(details, row), ...details.traces.map(traceOf),
    ...(details.scores.length ? [scoresTable(details)] : []),
    ...(details.shown.length ? [el("h2", {}, "Shown to explainers"), legend(row), shownExamples(details, row)] : []),
    ...(details.scored.length ? [el("h2", {}, "Scored examples"), ...scoredExamples(details, row)] : []),
    ...simulated(details, row), ...interventions(details), ...exchanges(details));
  page.dataset.latent = identity(row);
  document.title = `Latent ${row.latent} – ${document.querySelector("nav .home").textContent}`;
  page.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function legend(row) {
  return el("p", { class: "fine" }, "Activation: 0", el("span", { class: "ramp" }), strength(row.maximum),
    ". Hover over a token for its value.");
}

// ---------------------------------------------------------------- moving about

const title = document.title;

async function route() {
  const [name, wanted] = location.hash.slice(1).split("=");
  const found = name === "latent" && wanted ? state.index.latents.find((row) => identity(row) === decoded(wanted)) : undefined;
  byId("overview").hidden = Boolean(found);
  byId("page").hidden = !found;
  if (found) return drawLatent(found);
  document.title = title;
  const target = name && byId(name);
  if (target) target.scrollIntoView();
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return ""; }
}

function onKey(event) {
  if (byId("page").hidden || event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select")) return;
  if (event.key === "Escape") location.hash = "#latents";
  const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  const target = rel && document.querySelector(`.crumbs a[rel=${rel}]`);
  if (target) target.click();
}

function openForPrint(open) {
  for (const details of document.querySelectorAll("details")) {
    if (open && !details.open) { details.open = true; details.dataset.printed = ""; }
    else if (!open && "printed" in details.dataset) { details.open = false; delete details.dataset.printed; }
  }
}

async function start() {
  state.index = await unpack("index");
  state.index.latents = byLatent(state.index.latents);
  const select = byId("arm");
  select.append(...state.index.arms.map((arm, a) => el("option", { value: a }, arm.label)));
  select.parentElement.hidden = state.index.arms.length < 2;
  const redraw = () => { state.limit = PAGE_ROWS; drawTable(); };
  select.addEventListener("change", () => { state.arm = Number(select.value); redraw(); });
  byId("search").addEventListener("input", redraw);
  byId("filter").addEventListener("change", redraw);
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("controls").hidden = false;
  addEventListener("hashchange", route);
  addEventListener("keydown", onKey);
  addEventListener("beforeprint", () => openForPrint(true));
  addEventListener("afterprint", () => openForPrint(false));
  drawTable();
  await route();
  document.documentElement.dataset.ready = "";
}

start().catch((error) => {
  byId("trouble").textContent = `The latents cannot be shown: ${error.message}. A browser from 2023 or later is needed.`;
  byId("trouble").hidden = false;
});

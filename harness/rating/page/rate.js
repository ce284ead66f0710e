"use strict";
// One item at a time. What is said is committed by the server (or kept by the sheet) before the next is shown.
(() => {
  const at = (id) => document.getElementById(id);
  const sheet = JSON.parse(at("data").textContent);
  let rater = "", item = null, busy = false;

  // Where answers go: a server, or this sheet, which keeps them in the browser until they are saved.
  const server = {
    ask: async (what, body) => {
      const reply = await fetch("api/" + what, {
        method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
        credentials: "omit", redirect: "error",
      });
      const told = await reply.json();
      if (!reply.ok) throw new Error(told.message);
      return told;
    },
  };

  const paper = sheet && {
    key: (name) => "ratings " + sheet.run + " " + sheet.id + " " + name,
    read: (name) => JSON.parse(localStorage.getItem(paper.key(name)) || "[]"),
    keep: (name, said) => localStorage.setItem(paper.key(name), JSON.stringify(said)),
    ask: async (what, body) => {
      const name = body.rater.trim().split(/\s+/).join(" ");
      let said = paper.read(name);
      if (what === "undo") said = said.slice(0, -1);
      if (what === "rate" || what === "write") {
        said = said.filter((one) => one.item !== body.item);
        said.push({ item: body.item, rating: body.rating ?? null, text: body.text ?? null, created: Date.now() / 1000 });
      }
      paper.keep(name, said);
      const answered = new Set(said.map((one) => one.item));
      const left = sheet.items.filter((one) => !answered.has(one.id));
      return { rater: name, item: left[0] || null, done: sheet.items.length - left.length, total: sheet.items.length, options: sheet.options };
    },
  };
  const keeper = paper || server;

  function show(state) {
    rater = state.rater;
    item = state.item;
    if (!sheet) localStorage.setItem("rater", rater);
    at("who").hidden = true;
    at("rate").hidden = item === null;
    at("end").hidden = item !== null;
    at("save").hidden = !sheet;
    at("progress").textContent = rater + ": " + state.done + " of " + state.total;
    for (const button of [at("undo"), at("back")]) button.disabled = state.done === 0;
    if (item === null) return;
    const writing = item.kind === "write";
    at("explanation").hidden = writing;
    at("explanation").textContent = item.text;
    at("rate").querySelector("h1").textContent = writing ? "What do the marked tokens have in common?" : "Does this explanation fit the marked text?";
    at("contexts").replaceChildren(...item.contexts.map(context));
    at("writing").hidden = !writing;
    at("options").hidden = writing;
    at("options").replaceChildren(...(writing ? [] : state.options.map(option)));
    if (writing) { at("words").value = ""; at("words").focus(); }
    document.documentElement.dataset.item = item.id;
  }

  function context({ tokens, shares }) {
    const line = document.createElement("p");
    line.className = "context";
    tokens.forEach((token, k) => {
      if (!(shares[k] > 0)) { line.append(token); return; }
      const mark = document.createElement("mark");
      mark.className = "s" + Math.min(4, 1 + Math.floor(4 * shares[k]));
      mark.textContent = token;
      line.append(mark);
    });
    return line;
  }

  function option(words, k) {
    const button = document.createElement("button");
    button.type = "button";
    const key = document.createElement("kbd");
    key.textContent = String(k + 1);
    button.append(key, words);
    button.addEventListener("click", () => say("rate", { item: item.id, rating: k + 1 }));
    return button;
  }

  async function say(what, body) {
    if (busy) return;
    busy = true;
    try {
      show(await keeper.ask(what, { rater, ...body }));
      at("trouble").hidden = true;
    } catch (error) {
      // nothing is lost: the item stays until it is committed
      at("trouble").textContent = error instanceof TypeError ? "The server does not answer. Nothing was lost: try again when it is back." : error.message;
      at("trouble").hidden = false;
    } finally {
      busy = false;
      document.documentElement.dataset.ready = "yes";
    }
  }

  function skip() { if (item) say(item.kind, { item: item.id, [item.kind === "write" ? "text" : "rating"]: null }); }
  function keep() { const text = at("words").value.trim(); if (item && text) say("write", { item: item.id, text }); }

  function save() {
    const told = { format: "latent-harness ratings", version: 1, run: sheet.run, rater, answers: paper.read(rater) };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(told, null, 1)], { type: "application/json" }));
    link.download = "ratings-" + rater.replace(/[^\w-]+/g, "-") + ".json";
    link.click();
    URL.revokeObjectURL(link.href);
  }

  at("who").addEventListener("submit", (event) => { event.preventDefault(); rater = at("name").value; say("next", {}); });
  at("writing").addEventListener("submit", (event) => { event.preventDefault(); keep(); });
  at("skip").addEventListener("click", skip);
  for (const button of [at("undo"), at("back")]) button.addEventListener("click", () => say("undo", {}));
  at("save").addEventListener("click", save);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !at("writing").hidden) { event.preventDefault(); keep(); return; }
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || !at("who").hidden) return;
    if (event.target instanceof HTMLTextAreaElement || event.target instanceof HTMLInputElement) return;
    const key = event.key.toLowerCase();
    if (key === "u" || key === "backspace") { event.preventDefault(); say("undo", {}); }
    else if (item && key === "s") skip();
    else if (item && item.kind === "rate" && /^[1-9]$/.test(key) && Number(key) <= at("options").childElementCount) say("rate", { item: item.id, rating: Number(key) });
  });

  const known = sheet ? null : localStorage.getItem("rater");
  if (known) { rater = known; say("next", {}); }
  else { at("who").hidden = false; at("name").focus(); document.documentElement.dataset.ready = "yes"; }
})();

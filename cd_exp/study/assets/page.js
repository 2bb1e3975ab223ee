"use strict";
// A study's page: consent, instructions, practice, one question at a time, a code. Everything it knows is in `data`;
// what was answered so far is kept in this browser, so that a reload goes on where it stopped.

const data = JSON.parse(document.getElementById("study-data").textContent);
const query = new URLSearchParams(location.search);
const ids = Object.fromEntries(["PROLIFIC_PID", "STUDY_ID", "SESSION_ID", "workerId", "assignmentId", "hitId"]
  .filter(name => query.get(name)).map(name => [name, query.get(name)]));
const preview = ids.assignmentId === "ASSIGNMENT_ID_NOT_AVAILABLE";
const main = document.getElementById("main"), bar = document.getElementById("progress");
const large = document.getElementById("large");
const SCALE = ["not at all", "poorly", "partly", "well", "fully"];

// Small tools ------------------------------------------------------------------------------------------------------

function node(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function fnv(text) {  // FNV-1a, 32 bits, over UTF-8
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}

function shuffled(items, seed) {  // the same order for the same seed
  const made = items.slice();
  let state = fnv(seed);
  for (let last = made.length - 1; last > 0; last--) {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    const other = state % (last + 1);
    [made[last], made[other]] = [made[other], made[last]];
  }
  return made;
}

function kept(key) { try { return localStorage.getItem(key); } catch { return null; } }
function keep(key, value) { try { localStorage.setItem(key, value); } catch { /* a private window: no resuming */ } }

// Who answers what --------------------------------------------------------------------------------------------------

function anonymous() {
  const key = `${data.study}:rater`;
  const known = kept(key) ?? `anonymous-${[...crypto.getRandomValues(new Uint8Array(8))].map(b => b.toString(16).padStart(2, "0")).join("")}`;
  keep(key, known);
  return known;
}

const rater = ids.PROLIFIC_PID ?? (preview ? null : ids.workerId) ?? (preview ? "preview" : anonymous());
const numbers = Object.keys(data.batches);
const asked = query.get("batch");
const batch = asked ?? numbers[fnv(rater) % numbers.length];
const order = data.batches[batch] ? shuffled(data.batches[batch], `${rater} order`) : [];
const store = `${data.study}:${batch}:${rater}`;
const fresh = () => ({ view: "consent", practice: 0, answers: {}, started: null, finished: null, reloads: 0 });
const state = preview ? fresh() : Object.assign(fresh(), JSON.parse(kept(store) ?? "{}"));
if (state.started && !state.finished) state.reloads += 1;
let shownAt = 0, choose = null, undone = null;

function save() { if (!preview) keep(store, JSON.stringify(state)); }
function go(view) { state.view = view; save(); draw(); }

// One question ------------------------------------------------------------------------------------------------------

function pictures(trial, pick) {
  const many = trial.images.length;
  return node("div", { className: `images${many === 1 ? " single" : ""}${pick ? " pick" : ""}` }, ...trial.images.map((image, place) => {
    const picture = node("img", { src: data.images[image], alt: `image ${place + 1} of ${many}`, draggable: false });
    picture.addEventListener("load", () => picture.classList.toggle("tiny", picture.naturalWidth <= 96));
    const button = node("button", { type: "button", tabIndex: 0, title: pick ? "choose this image" : "show larger" }, picture);
    button.dataset.place = place;
    if (pick) button.prepend(node("kbd", {}, String(place + 1)));
    button.addEventListener("click", () => pick ? pick(place, place) : enlarge(picture));
    return button;
  }));
}

function enlarge(picture) {
  const inside = large.querySelector("img");
  inside.src = picture.src;
  inside.className = picture.className;
  large.showModal();
}
large.addEventListener("click", () => large.close());

// What can be answered to a trial: [value, position, label, key, class], in the order shown.
function options(trial, seed) {
  if (data.design === "rating") return [
    ...SCALE.map((word, place) => [place + 1, place, word, String(place + 1)]), ["cannot_tell", 5, "Cannot tell", "0", "wide"]];
  if (data.design === "presence") return [["yes", 0, "Yes", "y"], ["no", 1, "No", "n"]];
  if (data.design === "choice") {
    const places = shuffled(trial.texts.map((_, place) => place), seed);
    return [...places.map((value, place) => [value, place, trial.texts[value], String(place + 1)]),
      ["none", places.length, "None of these", "0"]];
  }
  return trial.images.map((_, place) => [place, place, `image ${place + 1}`, String(place + 1)]);
}

// The question with its answers; `answer(value, position)` is called once.
function question(trial, seed, answer) {
  const choices = options(trial, seed);
  const inside = [node("h2", {}, data.question)];
  if (data.design === "rating" || data.design === "presence") inside.push(node("span", { className: "text" }, trial.texts[0]));
  inside.push(pictures(trial, data.design === "intruder" ? answer : null));
  if (data.design !== "intruder") {
    const kind = { rating: "scale", presence: "two", choice: "options" }[data.design];
    inside.push(node("div", { className: `answers ${kind}` }, ...choices.map(([value, position, label, key, wide]) => {
      const parts = kind === "scale" && !wide ? [node("b", {}, String(value)), node("small", {}, label)]
        : [node("kbd", {}, key.toUpperCase()), label];
      const button = node("button", { type: "button", className: wide ?? "" }, ...parts);
      button.dataset.answer = value;
      button.addEventListener("click", () => answer(value, position));
      return button;
    })));
  }
  choose = pressed => {
    const hit = choices.find(([, , , key]) => key === pressed.toLowerCase());
    if (hit) answer(hit[0], hit[1]);
    return Boolean(hit);
  };
  return inside;
}

function inWords(trial, accept) {
  const words = accept.map(value => value === "none" ? "none of these" : data.design === "choice" ? `“${trial.texts[value]}”`
    : data.design === "intruder" ? `image ${value + 1}` : data.design === "rating" ? `${value} (${SCALE[value - 1]})` : value);
  return words.join(" or ");
}

// The views ---------------------------------------------------------------------------------------------------------

const KEYS = { rating: "keys 1 to 5, or 0 for “cannot tell”", presence: "keys Y and N", choice: "the number keys, or 0 for none", intruder: "the number keys" };
const HOW = {
  rating: ["You see some images and a short description. Judge how well the description says what most of the images have in common.",
    "1 means that it is in none of them, 5 that it is clear in nearly all of them. If you cannot tell what the description or the images show, say so."],
  presence: ["You see a word or phrase and one image. Say whether what the words name can be seen in the image.",
    "It counts wherever it is in the image, and however small, if you can recognise it."],
  choice: ["You see some images and several descriptions. Choose the one that best says what most of the images have in common.",
    "If none of them fits, choose “None of these”."],
  intruder: ["You see some images. All but one have something in common. Choose the one that does not belong.",
    "It is not always easy: if you are unsure, choose the one that seems least like the others."],
};

const views = {
  consent() {
    const agree = node("button", { className: "go", type: "button", id: "agree" }, "I agree: start");
    agree.addEventListener("click", () => go("instructions"));
    const decline = node("button", { className: "plain", type: "button", id: "decline" }, "I do not agree");
    decline.addEventListener("click", () => { state.view = "declined"; draw(); });
    agree.disabled = preview;
    return [node("h2", {}, "Before you start"), ...data.consent.map(text => node("p", {}, text)),
      ...(data.contact ? [node("p", { className: "soft" }, `Questions: ${data.contact}`)] : []),
      node("p", {}, `There are ${order.length} short questions. You can use the mouse, touch or the keyboard; a reload goes on where you stopped.`),
      ...(preview ? [node("p", { className: "wrong" }, "This is a preview. Accept the task first.")] : []),
      node("div", { className: "row" }, agree, decline)];
  },
  declined: () => [node("h2", {}, "Thank you"), node("p", {}, "Nothing was recorded. You can close this page.")],
  instructions() {
    const [trial] = data.practice;
    const shown = question(trial, "example", () => {});
    choose = null;
    for (const button of shown.flatMap(part => [...part.querySelectorAll("button")])) {
      const value = button.dataset.answer ?? button.dataset.place;
      if (button.dataset.answer !== undefined || data.design === "intruder") {
        if (trial.accept.some(wanted => String(wanted) === value)) button.classList.add("wanted");
        button.disabled = true;
      }
    }
    const start = node("button", { className: "go", type: "button", id: "practise" }, "Practise");
    start.addEventListener("click", () => go("practice"));
    return [node("h2", {}, "What to do"), ...HOW[data.design].map(text => node("p", {}, text)),
      node("p", {}, "Some questions have a known answer. They are there to check that answers are given with care."),
      node("p", { className: "soft keys" }, `With the keyboard: ${KEYS[data.design]}; Backspace goes back one question.`),
      node("div", { className: "example" }, node("p", { className: "soft" }, "An example"), ...shown,
        node("p", { className: "right" }, `A good answer: ${inWords(trial, trial.accept)}.`)),
      node("div", { className: "row" }, start)];
  },
  practice() {
    const trial = data.practice[1 + state.practice], last = data.practice.length - 1;
    if (!trial) {
      const start = node("button", { className: "go", type: "button", id: "begin" }, "Begin");
      start.addEventListener("click", () => { state.started = new Date().toISOString(); go("tasks"); });
      return [node("h2", {}, "That was the practice"), node("p", {}, `Now ${order.length} questions follow. There is no feedback from here on.`), node("div", { className: "row" }, start)];
    }
    const said = node("div", { className: "row" });
    said.setAttribute("aria-live", "polite");
    let done = false;
    const asked = question(trial, `practice ${state.practice}`, value => answer(value));
    const answer = value => {
      if (done) return;
      done = true;
      for (const button of asked.flatMap(part => [...part.querySelectorAll("[data-answer], .pick [data-place]")])) {
        const own = button.dataset.answer ?? button.dataset.place;
        if (String(value) === own) button.classList.add("chosen");
        if (trial.accept.some(wanted => String(wanted) === own)) button.classList.add("wanted");
      }
      const fits = trial.accept.some(wanted => wanted === value);
      const next = node("button", { className: "go", type: "button", id: "next" }, "Next");
      next.addEventListener("click", () => { state.practice += 1; save(); draw(); });
      said.append(node("span", { className: fits ? "right" : "wrong" }, fits ? "Right." : `Look again: ${inWords(trial, trial.accept)} was expected.`), next);
      next.focus();
    };
    return [node("p", { className: "soft" }, `Practice ${state.practice + 1} of ${last}`), ...asked, said];
  },
  tasks() {
    const at = order.findIndex(id => !state.answers[id]);
    if (at < 0) { state.finished ??= new Date().toISOString(); state.view = "end"; save(); return views.end(); }
    const id = order[at], earlier = undone?.id === id ? undone.ms : 0;
    bar.value = at / order.length;
    const answer = (value, position) => {
      if (state.answers[id]) return;
      state.answers[id] = { answer: value, position, ms: earlier + Math.round(performance.now() - shownAt) };
      undone = null;
      save();
      draw();
    };
    const back = node("button", { className: "plain", type: "button", id: "back", disabled: at === 0 }, "Back");
    back.addEventListener("click", goBack);
    return [...question(data.tasks[id], `${rater} ${id}`, answer),
      node("div", { className: "row" }, back, node("span", { className: "soft", id: "count" }, `Question ${at + 1} of ${order.length}`))];
  },
  end() {
    const text = JSON.stringify(answersFile()), form = submission(text);
    const file = node("a", { className: form ? "plain" : "go", id: "download", download: `answers-${data.study}-${batch}-${(fnv(rater) >>> 0).toString(16)}.json`,
      href: URL.createObjectURL(new Blob([text], { type: "application/json" })) }, "Save the file of answers");
    const field = node("textarea", { readOnly: true, id: "answers", value: text });
    field.setAttribute("aria-label", "the answers as text");
    // Answers first: whoever goes back to the platform before they are sent or saved has worked for nothing.
    const parts = [node("h2", {}, "Thank you, that was all"),
      node("p", {}, form ? "First send your answers:" : "First save your answers, and send the file to whoever asked you:"),
      ...(form ? [form] : []), node("div", { className: "row" }, file),
      node("p", {}, "Then use your completion code:"), node("p", { className: "code", id: "code" }, data.code)];
    if (ids.PROLIFIC_PID) parts.push(node("p", {}, node("a", { className: "go", id: "prolific", href: `https://app.prolific.com/submissions/complete?cc=${encodeURIComponent(data.code)}` }, "Return to Prolific")));
    parts.push(node("details", {}, node("summary", {}, "The answers as text"), field));
    return parts;
  },
  lost: () => [node("h2", {}, "This link does not fit"), node("p", {}, `This page has no batch ${batch}. Please use the link that you were given.`)],
};

function goBack() {
  const at = order.findIndex(id => !state.answers[id]);
  const id = order[(at < 0 ? order.length : at) - 1];
  if (!id || state.view !== "tasks") return;
  undone = { id, ms: state.answers[id].ms };
  delete state.answers[id];
  save();
  draw();
}

// Where answers go: to MTurk, to an address of whoever runs the study, or nowhere but the file.
function submission(text) {
  const turk = ids.assignmentId && query.get("turkSubmitTo");
  if (!turk && !data.submit) return null;
  const form = node("form", { method: "post", action: turk ? `${turk.replace(/\/+$/, "")}/mturk/externalSubmit` : data.submit, id: "submit" });
  if (!turk) form.target = "_blank";  // the code stays in sight
  for (const [name, value] of [["assignmentId", ids.assignmentId ?? ""], ["answers", text], ["code", data.code]]) form.append(node("input", { type: "hidden", name, value }));
  form.append(node("button", { className: "go", type: "submit" }, "Send the answers"));
  return form;
}

function answersFile() {
  const answers = order.map(id => ({ task: id, ...state.answers[id] }));
  const line = answers.map(a => `${a.task},${a.answer},${a.position},${a.ms}`).join(";");
  return { schema: 1, study: data.study, batch: Number(batch), rater: Object.keys(ids).length ? ids : { anonymous: rater },
    started: state.started, finished: state.finished, reloads: state.reloads, answers, check: fnv(line).toString(16).padStart(8, "0") };
}

function draw() {
  if (!data.batches[batch]) state.view = "lost";
  choose = null;
  main.replaceChildren(...views[state.view]());
  bar.hidden = state.view !== "tasks";
  document.documentElement.dataset.view = state.view;
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
  shownAt = performance.now();
}

addEventListener("keydown", event => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || large.open) return;
  if (event.key === "Backspace" && state.view === "tasks") { goBack(); event.preventDefault(); }
  else if (choose?.(event.key)) event.preventDefault();
});

save();
draw();

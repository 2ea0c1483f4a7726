"use strict";

// Ids are whole numbers of up to 64 bits, of which a JavaScript number holds 53: longer
// ones are kept as they were written.
function parsed(text) {
  return JSON.parse(text, (key, value, context) =>
    Number.isInteger(value) && !Number.isSafeInteger(value) && context?.source
      ? BigInt(context.source)
      : value);
}

function written(value) {
  return JSON.stringify(value, (key, part) =>
    typeof part === "bigint" ? JSON.rawJSON(String(part)) : part);
}

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: written(body),
  };
  const answer = await fetch(path, options);
  const content = parsed(await answer.text());
  if (answer.ok) return content;
  const { detail } = content;
  throw new Error(Array.isArray(detail)
    ? detail.map((fault) => `${fault.loc.slice(1).join(".")}: ${fault.msg}`).join("; ")
    : detail);
}

const at = (id) => document.getElementById(id);
const session = [];
let about;
let asked = 0;

// Text is set as text, never as HTML: an item's id may hold anything.
function row(text, title, then) {
  const item = document.createElement("li");
  const button = item.appendChild(document.createElement("button"));
  button.type = "button";
  button.title = title;
  button.appendChild(document.createElement("span")).textContent = text;
  button.addEventListener("click", then);
  return item;
}

function withMeter(item, score, scores) {
  const meter = document.createElement("meter");
  const low = Math.min(...scores);
  const high = Math.max(...scores);
  meter.value = high > low ? 0.05 + 0.95 * (score - low) / (high - low) : 1;
  meter.title = `score ${score.toFixed(3)}`;
  item.firstChild.appendChild(meter);
  return item;
}

function add(item) {
  session.push(item);
  show();
}

function showSession() {
  at("session").replaceChildren(...session.map((item, place) =>
    row(String(item), "Take it out", () => {
      session.splice(place, 1);
      show();
    })));
  at("empty").hidden = session.length > 0;
}

function showItems(heading, items) {
  const scores = items.map(({ score }) => score).filter((score) => score !== null);
  at("heading").textContent = heading;
  at("list").replaceChildren(...items.map(({ item, score }) => {
    const made = row(String(item), "Click it", () => add(item));
    return score === null ? made : withMeter(made, score, scores);
  }));
}

async function show() {
  const number = ++asked;
  showSession();
  try {
    let heading = "Most popular";
    let items = about.popular.map((item) => ({ item, score: null }));
    if (session.length) {
      const body = { items: session, k: Math.min(20, about.most) };
      if (at("seen").checked) body.exclude = [...new Set(session)].slice(0, 1000);
      const found = await ask("/recommend", body);
      if (number !== asked) return; // a later click has been made
      if (!found.popular) heading = "Recommended next";
      items = found.items;
    }
    at("problem").textContent = "";
    showItems(heading, items);
  } catch (error) {
    if (number === asked) at("problem").textContent = error.message;
  }
}

function typed(text) {
  if (about.ids === "string") return text;
  if (!/^-?\d+$/.test(text)) throw new Error("expected a whole number");
  const number = BigInt(text);
  return Number.isSafeInteger(Number(number)) ? Number(number) : number;
}

at("add").addEventListener("submit", (event) => {
  event.preventDefault();
  try {
    add(typed(at("id").value));
    at("id").value = "";
  } catch (error) {
    at("problem").textContent = error.message;
  }
});
at("clear").addEventListener("click", () => {
  session.length = 0;
  show();
});
at("seen").addEventListener("change", show);

ask("/model").then((model) => {
  about = model;
  at("about").textContent = `${model.model}, step ${model.step.toLocaleString("en")}, `
    + `${model.may_be_recommended.toLocaleString("en")} of `
    + `${model.num_items.toLocaleString("en")} items`;
  show();
}).catch((error) => {
  at("problem").textContent = error.message;
});

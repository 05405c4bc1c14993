// View "New class": attributes that are searched for and set, a similar class, a text, a few photos.

import { post, send } from "/api.js";
import { announce, byId, clearErrors, make, showError, tooLarge } from "/parts.js";

const MOST_FOUND = 6, TYPICAL = 4;
let model, changed;
let base = null;  // a similar class: {name, values}
const chosen = new Map();  // attribute's place -> value
let photos = [];  // {number, name, address}

export function startDescribe(shared, whenChanged) {
  [model, changed] = [shared, whenChanged];
  const { can, attributes } = model.page;
  if (!can.describe) {
    byId("new-lead").textContent = "This model takes no new classes: its method cannot add one without training.";
    byId("new-form").hidden = true;
    return;
  }
  const named = attributes.length > 0;
  byId("find-block").hidden = byId("chosen-block").hidden = !named;
  byId("like-block").hidden = can.text;
  byId("text-block").hidden = !(named || can.text);
  byId("from-text").hidden = can.text;
  byId("text-block").open = can.text;
  byId("few-block").hidden = !can.photos;
  byId("text-note").textContent = named ? `Such as: “${attributes[0].label}, no ${attributes[attributes.length - 1].label}”.` : "";
  byId("find").addEventListener("input", find);
  byId("find").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    byId("found").querySelector("button")?.click();
  });
  byId("like").addEventListener("change", () => like(byId("like").value));
  byId("from-text").addEventListener("click", fromText);
  byId("few").addEventListener("change", () => { few([...byId("few").files]); byId("few").value = ""; });
  byId("new-form").addEventListener("submit", add);
  model.startFrom = (name) => { byId("like").value = name; like(name); };
  model.listeners.push(names);
  find();
  sliders();
}

function names() {
  const kept = byId("like").value, known = model.page.classes.map((one) => one.name);
  byId("like").replaceChildren(make("option", { value: "" }, "No class"), ...known.map((name) => make("option", { value: name }, name)));
  byId("like").value = known.includes(kept) ? kept : "";
}

function find() {
  const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const all = model.page.attributes.map((one, place) => ({ ...one, place })).filter((one) => !chosen.has(one.place) && words.every((word) => one.label.toLowerCase().includes(word)));
  byId("found").replaceChildren(...all.slice(0, MOST_FOUND).map((one) => make("li", {}, make("button", { type: "button", className: "chip", onclick: () => choose(one.place) }, `+ ${one.label}`))));
  const rest = all.length - MOST_FOUND;
  byId("find-note").textContent = !all.length ? "No attribute has these words." : rest > 0 ? `and ${rest} more: type a word of the name` : "";
}

function choose(place, value) {
  const one = model.page.attributes[place];
  chosen.set(place, value ?? one.most);
  find();
  sliders();
  announce(`${one.label} is chosen.`);
  if (value === undefined) byId(`slider-${place}`).focus();
}

function sliders() {
  const { attributes, lowest, highest } = model.page;
  byId("chosen-note").textContent = base
    ? `All other attributes are as in ${base.name}.`
    : photos.length ? "The other attributes are read from the photos." : chosen.size ? "The other attributes are filled in from classes that are described alike." : "Search an attribute and choose it, or start from a similar class.";
  byId("chosen").replaceChildren(...[...chosen].map(([place, value]) => {
    const id = `slider-${place}`, output = make("output", { htmlFor: id }, shown(value));
    return make("li", {}, make("label", { htmlFor: id }, attributes[place].label),
      make("input", { type: "range", id, min: lowest, max: highest, step: (highest - lowest) / 100, value, oninput: (event) => { chosen.set(place, Number(event.target.value)); output.textContent = shown(event.target.value); } }),
      output,
      make("button", { type: "button", className: "round", "aria-label": `Remove ${attributes[place].label}`, onclick: () => { chosen.delete(place); find(); sliders(); byId("find").focus(); } }, "×"));
  }));
}

const shown = (value) => String(Number(Number(value).toPrecision(3)));

async function like(name) {
  clearErrors(byId("view-new"));
  if (!name) {
    base = null;
    return sliders();
  }
  try {
    const found = await post("/api/class", { name });
    base = { name, values: found.values ?? [] };
    if (base.values.length) {
      const places = new Map(model.page.attributes.map((one, place) => [one.label, place]));
      if (!chosen.size) for (const row of found.rows.slice(0, TYPICAL)) if (places.has(row.name)) chosen.set(places.get(row.name), 0);
      for (const place of chosen.keys()) chosen.set(place, base.values[place]);
    }
    find();
    sliders();
    announce(`The description starts from ${name}.`);
  } catch (error) {
    showError(error, "attributes");
  }
  return undefined;
}

async function fromText() {
  clearErrors(byId("view-new"));
  try {
    const { found } = await post("/api/mentioned", { text: byId("text").value });
    for (const one of found) {
      const place = model.page.attributes.findIndex((known) => known.name === one.name);
      const known = model.page.attributes[place];
      chosen.set(place, one.has ? known.most : known.least);
    }
    find();
    sliders();
    announce(`${found.length} attributes are chosen.`);
  } catch (error) {
    showError(error, "text");
  }
}

async function few(files) {
  clearErrors(byId("view-new"));
  for (const file of files) {
    try {
      const large = tooLarge(file, model.page.photo_megabytes);
      if (large) throw Object.assign(new Error(large), { field: "photos" });
      const kept = await send("/api/photo", file);
      photos.push({ number: kept.number, name: file.name, address: URL.createObjectURL(file) });
    } catch (error) {
      showError(Object.assign(error, { message: error.message.replace("This file", file.name), field: "photos" }), "photos");
    }
  }
  fewShown();
  if (!photos.length) return;
  const alike = await post("/api/alike", { photos: photos.map((one) => one.number) }).catch(() => null);
  if (!alike) return;
  const start = make("button", { type: "button", onclick: () => { byId("like").value = alike.name; like(alike.name); } }, `Start from ${alike.name}`);
  byId("few-text").replaceChildren(`The photos are most like ${alike.name}. `, model.page.can.text ? "" : start);
}

function fewShown() {
  sliders();
  byId("few-text").textContent = "";
  byId("few-list").replaceChildren(...photos.map((one, index) => make("li", {}, make("img", { src: one.address, alt: one.name, onload: (event) => event.target.classList.toggle("pixels", event.target.naturalWidth <= 64) }),
    make("button", { type: "button", className: "round", "aria-label": `Remove ${one.name}`, onclick: () => { post("/api/drop", { photos: [one.number] }).catch(() => null); photos.splice(index, 1); fewShown(); byId("few").focus(); } }, "×"))));
}

async function add(event) {
  event.preventDefault();
  clearErrors(byId("view-new"));
  byId("added").replaceChildren();
  const { attributes, can } = model.page;
  const content = { name: byId("name").value, photos: photos.map((one) => one.number) };
  if (can.text) content.text = byId("text").value;
  else {
    if (base) content.like = base.name;
    if (chosen.size) content.values = Object.fromEntries([...chosen].map(([place, value]) => [attributes[place].name, value]));
  }
  byId("add").disabled = true;
  try {
    const found = await post("/api/add", content);
    changed(found);
    byId("added").replaceChildren(
      make("p", { className: "good" }, make("strong", {}, `${found.name} is added.`), ` Its description is most like ${found.near.join(", ")}.`),
      make("p", {}, make("a", { href: "#recognise" }, `Try a photo of ${found.name}`), ". Only this tab knows the class until you save it."));
    reset();
  } catch (error) {
    showError(error, can.text ? "text" : "new");
  } finally {
    byId("add").disabled = false;
  }
}

function reset() {
  byId("name").value = byId("text").value = byId("find").value = byId("like").value = "";
  base = null;
  chosen.clear();
  photos = [];
  find();
  sliders();
  fewShown();
}

// View "Recognise": one photo, its class, and why.

import { post, send } from "/api.js";
import { announce, byId, clearErrors, dropTarget, make, percentBar, showError, tag, tooLarge } from "/parts.js";

let model, last = null, number = 0;

export function startRecognise(shared) {
  model = shared;
  const view = byId("view-recognise"), input = byId("photo");
  byId("bias").min = -model.page.bias;
  byId("bias").max = model.page.bias;
  input.addEventListener("change", () => { if (input.files.length) choose(input.files[0]); input.value = ""; });
  dropTarget(view, (files) => choose(files[0]));
  addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])][0];
    if (file && !view.hidden) choose(file);
  });
  byId("bias").addEventListener("input", () => { byId("bias-value").textContent = signed(byId("bias").value); });
  byId("bias").addEventListener("change", () => { if (last) ask(); });
  model.listeners.push(examples);
}

const signed = (value) => (Number(value) > 0 ? `+${value}` : `${value}`);

function examples() {
  const list = model.examples ?? [];
  byId("examples-block").hidden = list.length === 0;
  if (byId("examples").childElementCount === list.length) return;
  byId("examples").replaceChildren(...list.map((one, index) => make("li", {}, make("button", {
    type: "button", className: "example", "aria-pressed": "false", "data-number": `${index}`, "aria-label": `Example ${index + 1}, a test image of ${one.seen ? "a seen" : "an unseen"} class`,
    onclick: () => { last = { example: index, name: `Example ${index + 1}` }; present(`/api/example?number=${index}`); ask(); },
  }, make("img", { src: `/api/example?number=${index}`, alt: "", loading: "lazy", onload: (event) => pixelated(event.target) })))));
}

function choose(file) {
  clearErrors(byId("view-recognise"));
  const large = tooLarge(file, model.page.photo_megabytes);
  if (large) return showError({ message: large, field: "photo" }, "photo");
  last = { file, name: file.name };
  present(URL.createObjectURL(file));
  return ask();
}

// Pictures of a few pixels are shown as they are, not smoothed.
function pixelated(image) {
  image.classList.toggle("pixels", Math.max(image.naturalWidth, image.naturalHeight) <= 64);
}

function present(address) {
  const picture = byId("photo-picture");
  if (last.shown?.startsWith("blob:")) URL.revokeObjectURL(last.shown);
  last.shown = address;
  picture.onload = () => pixelated(picture);
  picture.onerror = () => { picture.hidden = true; hint("The browser cannot show this file."); };  // a format that the browser does not show; the model may read it
  picture.hidden = false;
  picture.src = address;
  picture.alt = last.name;
  byId("stage-hint").hidden = true;
  for (const one of document.querySelectorAll(".example")) one.setAttribute("aria-pressed", `${one.dataset.number === String(last.example)}`);
  byId("photo-note").textContent = last.name;
  byId("maps").hidden = true;
  byId("bias").value = 0;
  byId("bias-value").textContent = "0";
}

function hint(text) {
  byId("stage-hint").textContent = text;
  byId("stage-hint").hidden = false;
}

async function ask() {
  const turn = (number += 1), asked = last, bias = Number(byId("bias").value);
  byId("result").setAttribute("aria-busy", "true");
  try {
    const found = asked.file
      ? await send(`/api/recognise?bias=${bias}`, asked.file)
      : await post("/api/example", { number: asked.example, bias });
    if (turn === number) show(found);
  } catch (error) {
    if (turn !== number) return;
    byId("result-found").hidden = true;
    byId("trial").classList.remove("found-one");
    byId("result-empty").hidden = false;
    byId("bias-block").hidden = true;
    byId("maps").hidden = true;
    showError(error, "photo");
  } finally {
    if (turn === number) byId("result").setAttribute("aria-busy", "false");
  }
}

function show(found) {
  clearErrors(byId("view-recognise"));
  byId("result-empty").hidden = true;
  byId("result-found").hidden = false;
  byId("trial").classList.add("found-one");
  byId("bias-block").hidden = false;
  byId("bias-text").textContent = found.bias ?? "";
  const title = [found.word, found.name].filter(Boolean).join(" ");
  byId("photo-picture").alt = `${last.name}: ${title}`;
  byId("result-found").replaceChildren(
    make("h2", { className: `verdict ${found.sure}` }, make("span", {}, found.word), found.name && " ", found.name && make("strong", {}, found.name)),
    make("p", { className: "known" }, found.kind && tag(found.kind), found.kind && " ", found.known_by),
    truth(found),
    make("h3", {}, found.sure === "none" ? "If it were one of the classes" : "How probable"),
    make("ol", { className: "bars" }, ...found.bars.map(bar)),
    (found.sentence || found.rival) && make("h3", {}, "Why"),
    found.sentence && make("p", {}, found.sentence),
    found.rival && make("p", {}, found.rival),
    reasons(found.reasons) ?? "",
  );
  pictures(found);
  announce(`${title}, ${found.bars[0].percent}. ${found.rival ?? ""}`);
}

function truth(found) {
  if (!found.truth) return "";
  const right = found.truth === found.name;
  return make("p", { className: "truth" }, make("span", { className: right ? "sign" : "sign wrong", "aria-hidden": "true" }, right ? "✓ " : "✗ "),
    right ? `Correct: this test image shows ${found.truth}.` : `Not correct: this test image shows ${found.truth}.`);
}

function bar(one) {
  return make("li", {}, make("span", {}, one.name, " ", tag(one.kind)), make("span", { className: "n" }, one.percent), percentBar(one.share));
}

function reasons(tables) {
  if (!tables.length) return null;
  const drawn = tables.map((table) => {
    const [first] = table.rows;
    const columns = [["described", "in the description"], ["shown", "in the photo"], ["accuracy", "read correctly"]].filter(([key]) => first[key] !== null);
    return make("table", { className: "reasons" }, make("caption", {}, table.title),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "attribute"), ...columns.map(([, title]) => make("th", { scope: "col", className: "n" }, title)))),
      make("tbody", {}, ...table.rows.map((row) => make("tr", {}, make("th", { scope: "row" }, row.name, row.where && make("span", { className: "note" }, ` ${row.where}`)), ...columns.map(([key]) => make("td", { className: "n" }, row[key] ?? "–"))))));
  });
  return make("details", {}, make("summary", {}, "All reasons, with numbers"),
    make("p", { className: "note" }, "In standard deviations above the mean of all classes. “Read correctly”: of pairs of photos of held-out classes; 50 % is chance."),
    ...drawn);
}

// The photo, what the model sees of it, and each map: one at a time on the stage.
function pictures(found) {
  const own = byId("photo-picture").hidden ? [] : [{ label: "Photo", picture: last.shown }];
  const all = [...own, { label: "As the model sees it", picture: found.picture }, ...found.maps];
  if (!own.length) present(found.picture);
  byId("maps").hidden = false;
  const buttons = all.map((one, index) => make("button", {
    type: "button", className: "chip", "aria-pressed": index === 0 ? "true" : "false",
    onclick: () => {
      for (const button of buttons) button.setAttribute("aria-pressed", button === buttons[index] ? "true" : "false");
      byId("photo-picture").src = one.picture;
      byId("photo-picture").alt = index ? `${last.name}: ${one.label}` : last.name;
    },
  }, one.label));
  byId("maps").replaceChildren(...buttons);
}

// View "Classes": a gallery with pictures and descriptions.

import { classPicture, post } from "/api.js";
import { byId, clearErrors, make, percentBar, showError, tag } from "/parts.js";

const STEP = 120;
let model, most = STEP;

export function startClasses(shared) {
  model = shared;
  byId("find-class").addEventListener("input", () => { most = STEP; list(); });
  for (const one of document.getElementsByName("kind")) one.addEventListener("change", () => { most = STEP; list(); });
  byId("more-classes").addEventListener("click", () => { most += STEP; list(); });
  model.listeners.push(list);
}

function list() {
  const words = byId("find-class").value.toLowerCase().split(/\s+/).filter(Boolean);
  const kind = document.querySelector("input[name=kind]:checked").value;
  const found = model.page.classes.filter((one) => {
    const text = `${one.name} ${one.traits.join(" ")}`.toLowerCase();
    return words.every((word) => text.includes(word)) && (kind === "all" || (one.kind === "seen") === (kind === "seen"));
  });
  const shown = [...found].sort((a, b) => Number(b.added) - Number(a.added)).slice(0, most);
  byId("class-number").textContent = found.length === model.page.classes.length ? "" : `${found.length} of ${model.page.classes.length} classes`;
  byId("gallery").replaceChildren(...shown.map(card));
  byId("more-classes").hidden = shown.length === found.length;
}

export function picture(name, className = "") {
  if (!model.pictured.has(name)) return make("span", { className: `no-picture ${className}`, "aria-hidden": "true" }, name.slice(0, 2));
  return make("img", { src: classPicture(name), alt: "", loading: "lazy", className, onload: (event) => event.target.classList.toggle("pixels", event.target.naturalWidth <= 64) });
}

function card(one) {
  return make("li", {}, make("button", { type: "button", className: "class", onclick: () => open(one.name) },
    picture(one.name), make("span", { className: "name" }, one.name), " ", tag(one.kind), one.added && make("span", { className: "tag" }, "not saved"),
    one.traits.length > 0 && make("span", { className: "traits" }, one.traits.join(", "))));
}

async function open(name) {
  clearErrors(byId("view-classes"));
  try {
    const found = await post("/api/class", { name });
    const dialog = byId("class-dialog");
    const known = { seen: "The model was trained with photos of this class.", unseen: "The model has never seen a photo of this class. It knows its description alone." };
    dialog.replaceChildren(
      make("div", { className: "dialog-top" }, make("h2", { id: "class-title" }, name, " ", tag(found.kind)),
        make("button", { type: "button", "aria-label": "Close", className: "round", onclick: () => dialog.close() }, "×")),
      model.pictured.has(name) ? picture(name, "large") : "",
      make("p", {}, known[found.kind] ?? "The model knows this class from its description and a few photos."),
      make("p", {}, found.text),
      table(found.rows) ?? "",
      model.page.can.describe ? make("button", { type: "button", onclick: () => { dialog.close(); location.hash = "#new"; model.startFrom(name); } }, "Describe a class like this one") : "",
    );
    dialog.showModal();
  } catch (error) {
    showError(error, "classes");
  }
}

function table(rows) {
  if (!rows.length) return null;
  const most = Math.max(...rows.map((row) => Math.abs(row.typical)), 1e-9);
  return make("details", {}, make("summary", {}, `All ${rows.length} attributes`),
    make("p", { className: "note" }, "Sorted: what the class has more of than other classes stands first."),
    make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Attributes" },
      make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "attribute"), make("th", { scope: "col", className: "n" }, "value"), make("th", { scope: "col" }, "against the mean"))),
        make("tbody", {}, ...rows.map((row) => make("tr", {}, make("th", { scope: "row" }, row.name), make("td", { className: "n" }, row.value),
          make("td", { className: row.typical < 0 ? "less" : "more" }, percentBar(Math.abs(row.typical) / most), make("span", { className: "quiet" }, row.typical > 0 ? `+${row.typical}` : `${row.typical}`))))))));
}

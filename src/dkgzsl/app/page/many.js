// View "Many photos": unlabelled photos in a batch, a table to download, adaptation.

import { post, send } from "/api.js";
import { announce, byId, clearErrors, dropTarget, make, showError, tag, tooLarge } from "/parts.js";

let model, changed, stopped = false;
let rows = [];  // {file, number, found, after} or {file, error}

export function startMany(shared, whenChanged) {
  [model, changed] = [shared, whenChanged];
  const input = byId("many");
  input.addEventListener("change", () => { read([...input.files]); input.value = ""; });
  dropTarget(byId("view-many"), read);
  byId("many-stop").addEventListener("click", () => { stopped = true; });
  byId("adapt").addEventListener("click", adapt);
  byId("download").addEventListener("click", download);
  byId("clear").addEventListener("click", clear);
  byId("adapt").hidden = !model.page.can.adapt;
  if (!model.page.can.adapt) byId("many-lead").textContent = "The model names each photo.";
}

const wait = (seconds) => new Promise((done) => { setTimeout(done, 1000 * seconds); });

// A busy page takes a photo later; all other refusals are of the photo itself.
async function sent(file) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await send("/api/photo", file);
    } catch (error) {
      if (!error.later || attempt === 5 || stopped) throw error;
      await wait(error.later);
    }
  }
}

async function read(files) {
  clearErrors(byId("view-many"));
  const room = model.page.kept_photos - rows.filter((row) => row.number).length;
  if (files.length > room) return showError(new Error(`The page takes ${model.page.kept_photos} photos at once; ${files.length} are too many.`), "many");
  stopped = false;
  byId("adapted").textContent = "";
  byId("moved").replaceChildren();
  byId("many-progress").hidden = false;
  byId("many-label").classList.remove("primary");
  let done = 0;
  for (const file of files) {
    byId("many-count").textContent = `${done} of ${files.length} photos read`;
    byId("many-bar").max = files.length;
    byId("many-bar").value = done;
    const row = { file: file.name, address: URL.createObjectURL(file) };
    try {
      const large = tooLarge(file, model.page.photo_megabytes);
      if (large) throw new Error(large);
      row.found = await sent(file);
      row.number = row.found.number;
    } catch (error) {
      row.error = error.message;
    }
    rows.push(row);
    byId("many-rows").append(drawn(row));
    byId("many-card").hidden = false;
    done += 1;
    if (stopped) break;
  }
  byId("many-progress").hidden = true;
  finished();
  return undefined;
}

function finished() {
  const good = rows.filter((row) => row.number), bad = rows.length - good.length;
  byId("many-buttons").hidden = rows.length === 0;
  byId("adapt").disabled = good.length === 0;
  byId("many-label").classList.toggle("primary", rows.length === 0);
  byId("many-label").textContent = rows.length ? "Add photos" : "Choose photos";
  byId("many-caption").textContent = `${rows.length} photos${bad ? `, ${bad} of them not readable` : ""}`;
  if (rows.length) announce(byId("many-caption").textContent);
}

const named = (found) => (found.none ? ["none of these, nearest: ", found.name] : [found.name, " ", tag(found.kind)]);

function drawn(row) {
  const photo = make("td", {}, make("img", { src: row.address, alt: "", onload: (event) => event.target.classList.toggle("pixels", event.target.naturalWidth <= 64), onerror: (event) => { event.target.hidden = true; } }), make("span", {}, row.file));
  if (row.error) return make("tr", {}, photo, make("td", { className: "error", colSpan: 3 }, row.error));
  const after = make("td", { className: "after", hidden: !row.after }, ...(row.after ? [...named(row.after), ` ${row.after.percent}`, row.after.name !== row.found.name && make("strong", {}, " changed")] : []));
  return make("tr", {}, photo, make("td", {}, ...named(row.found)), make("td", { className: "n" }, row.found.percent), after);
}

async function adapt() {
  clearErrors(byId("view-many"));
  const good = rows.filter((row) => row.number);
  byId("adapt").disabled = true;
  byId("adapted").textContent = "Adapting…";
  try {
    const found = await post("/api/adapt", { photos: good.map((row) => row.number) });
    byId("adapted").textContent = found.text;
    if (found.adapted) {
      good.forEach((row, index) => { row.after = found.rows[index]; });
      document.querySelector("th.after").hidden = false;
      byId("many-rows").replaceChildren(...rows.map(drawn));
      const other = good.filter((row) => row.after.name !== row.found.name).length;
      byId("adapted").textContent += ` ${other} of ${good.length} photos have another class now.`;
      byId("moved").replaceChildren(moved(found.moved));
    }
    changed(found);
  } catch (error) {
    byId("adapted").textContent = "";
    showError(error, "many");
  } finally {
    byId("adapt").disabled = false;
  }
}

function moved(list) {
  if (!list.length) return "";
  return make("details", {}, make("summary", {}, "How the classes have moved"),
    make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "class"), make("th", { scope: "col", className: "n" }, "photos taken"), make("th", { scope: "col", className: "n" }, "moved"))),
      make("tbody", {}, ...list.map((one) => make("tr", {}, make("th", { scope: "row" }, one.name), make("td", { className: "n" }, `${one.photos}`), make("td", { className: "n" }, one.moved < 0.01 ? "under 0.01" : `${one.moved}`))))),
    make("p", { className: "note" }, "Moved: in distances of a photo from the mean of its class."));
}

// A cell that a spreadsheet would take for a formula begins with a quote.
const cell = (value) => `"${String(value ?? "").replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;

function download() {
  const adapted = rows.some((row) => row.after);
  const head = ["photo", "class", "probability", "seen or unseen", ...(adapted ? ["class after", "probability after"] : []), "remark"];
  const line = (row) => {
    const part = (found) => [found?.none ? "none of these" : found?.name, found?.none ? "" : found?.share];
    return [row.file, ...part(row.found), row.found?.none ? "" : row.found?.kind, ...(adapted ? part(row.after) : []), row.error ?? (row.found.none ? `nearest: ${row.found.name}` : "")];
  };
  const text = [head, ...rows.map(line)].map((one) => one.map(cell).join(",")).join("\r\n");
  const address = URL.createObjectURL(new Blob([`${text}\r\n`], { type: "text/csv" }));
  make("a", { href: address, download: "photos.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  announce("The table is downloaded as photos.csv.");
}

function clear() {
  clearErrors(byId("view-many"));
  post("/api/drop", { photos: rows.filter((row) => row.number).map((row) => row.number) }).catch(() => null);
  rows = [];
  byId("many-rows").replaceChildren();
  byId("many-card").hidden = true;
  byId("adapted").textContent = "";
  byId("moved").replaceChildren();
  document.querySelector("th.after").hidden = true;
  finished();
  byId("many").focus();
}

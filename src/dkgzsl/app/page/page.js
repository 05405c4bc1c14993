// The frame of the page: views, the state that they share, saving.

import { get, post } from "/api.js";
import { announce, byId, clearErrors, showError } from "/parts.js";
import { startRecognise } from "/recognise.js";
import { startClasses } from "/classes.js";
import { startDescribe } from "/describe.js";
import { startMany } from "/many.js";

const VIEWS = ["recognise", "classes", "new", "many"];
const model = { page: null, pictured: new Set(), listeners: [] };

// Classes and unsaved changes, after a request that changed them.
export function changed(state) {
  Object.assign(model.page, state);
  for (const one of document.querySelectorAll("[data-count]")) one.textContent = model.page.count;
  const names = model.page.unsaved;
  byId("unsaved").hidden = names.length === 0;
  byId("unsaved-text").textContent = `Not saved yet: ${names.join(", ")}.`;
  byId("version").textContent = `Version ${model.page.version} of the run.`;
  for (const listener of model.listeners) listener();
}

function show(first = false) {
  const asked = location.hash.slice(1);
  const name = VIEWS.includes(asked) ? asked : "recognise";
  for (const view of VIEWS) {
    byId(`view-${view}`).hidden = view !== name;
    const link = document.querySelector(`nav a[href="#${view}"]`);
    if (view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const heading = byId(`h-${name}`);
  document.title = `${heading.textContent} · ${model.page.title}`;
  if (first) return;
  scrollTo(0, 0);
  heading.focus({ preventScroll: true });
}

byId("save").addEventListener("click", async () => {
  clearErrors(byId("unsaved"));
  try {
    const saved = await post("/api/save");
    changed(saved);
    announce(saved.text);
    byId("version").textContent = saved.text;
    byId("main").focus({ preventScroll: true });
  } catch (error) {
    showError(error, "save");
  }
});

try {
  model.page = await get("/api/page");
  byId("title").textContent = model.page.title;
  startRecognise(model);
  startClasses(model);
  startDescribe(model, changed);
  startMany(model, changed);
  changed({});
  addEventListener("hashchange", () => { if (location.hash !== "#main") show(); });
  show(true);
  document.documentElement.dataset.ready = "true";
  const found = await get("/api/pictures");
  model.pictured = new Set(found.classes);
  model.examples = found.examples;
  for (const listener of model.listeners) listener();
  document.documentElement.dataset.pictures = "true";
} catch (error) {
  byId("stage-hint").textContent = error.message;
  console.error(error);
}

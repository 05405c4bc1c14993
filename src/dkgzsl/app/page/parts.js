// Small parts that all views share: elements, errors, announcements, files that are dropped.

export const byId = (id) => document.getElementById(id);

// Text becomes text nodes, so that a name is never read as HTML.
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((one) => one !== null && one !== undefined && one !== false));
  return element;
}

// What a screen reader says at once.
export function announce(text) {
  byId("status").textContent = text;
}

export function clearErrors(view) {
  for (const one of view.querySelectorAll("p.error")) one.textContent = "";
  for (const one of view.querySelectorAll("[aria-invalid]")) one.removeAttribute("aria-invalid");
}

// An error stands where it was caused; `fallback` names the place for those of the whole view.
export function showError(error, fallback) {
  if (!error.field && error.later === undefined) console.error(error);
  const place = byId(`error-${error.field}`);
  const view = byId(`error-${fallback}`).closest("section");
  const target = place && (!view || view.contains(place)) ? place : byId(`error-${fallback}`);
  target.textContent = error.message;
  const input = error.field && byId(error.field);
  if (input && input.matches("input, textarea, select") && target === place) {
    input.setAttribute("aria-invalid", "true");
    if (input.type !== "file") input.focus();
  }
}

export function tag(kind) {
  const known = kind === "seen" ? "seen" : kind === "unseen" ? "unseen" : "described";
  return make("span", { className: `tag ${known}` }, kind);
}

export function dropTarget(element, taken) {
  let inside = 0;
  const over = (on) => element.classList.toggle("over", on);
  element.addEventListener("dragenter", (event) => { event.preventDefault(); inside += 1; over(true); });
  element.addEventListener("dragleave", () => { inside -= 1; over(inside > 0); });
  element.addEventListener("dragover", (event) => event.preventDefault());
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    over(false);
    const files = [...event.dataTransfer.files];
    if (files.length) taken(files);
  });
}

export function percentBar(share) {
  const fill = make("span");
  fill.style.width = `${100 * share}%`;
  return make("span", { className: "bar", "aria-hidden": "true" }, fill);
}

export function tooLarge(file, megabytes) {
  return file.size > megabytes * 1e6
    ? `${file.name} is too large: the page takes photos of up to ${megabytes} MB. Make it smaller.`
    : null;
}

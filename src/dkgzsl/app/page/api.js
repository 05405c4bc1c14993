// Requests to the page's own server, and what they refuse.

const token = (() => {
  const kept = sessionStorage.getItem("visitor");
  if (kept) return kept;
  const made = [...crypto.getRandomValues(new Uint8Array(12))].map((n) => n.toString(16).padStart(2, "0")).join("");
  sessionStorage.setItem("visitor", made);
  return made;
})();

export class Refused extends Error {
  constructor(text, field, later) {
    super(text);
    this.field = field;
    this.later = later;
  }
}

async function asked(path, options) {
  let reply;
  try {
    reply = await fetch(path, { ...options, headers: { ...options.headers, "X-Visitor": token } });
  } catch {
    throw new Refused("The page's server does not reply. Start it again, then try once more.", null, null);
  }
  const content = await reply.json().catch(() => ({ error: "The reply cannot be read. Please try again." }));
  if (!reply.ok || content.error) throw new Refused(content.error, content.field, content.later);
  return content;
}

export const get = (path) => asked(path, {});
export const post = (path, content = {}) =>
  asked(path, { method: "POST", body: JSON.stringify(content), headers: { "Content-Type": "application/json" } });
export const send = (path, file) =>
  asked(path, { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
export const classPicture = (name) => `/api/picture?class=${encodeURIComponent(name)}`;

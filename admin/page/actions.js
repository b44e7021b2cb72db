
// call makes a management call and returns its answer.
async function call(method, path, body) {
  const answer = await fetch("/api/v2/admin/" + path, {method, body: body && JSON.stringify(body), cache: "no-store", credentials: "omit",
    headers: {Authorization: "Bearer " + key, ...(body && {"Content-Type": "application/json"})}});
  const data = await answer.json();
  if (answer.status === 401) lock("The key is not the management key any more.");
  if (!answer.ok) throw new Error(data.error);
  return data;
}

let saying;
function say(text) {
  setText($("said"), text);
  clearTimeout(saying);
  saying = setTimeout(() => setText($("said"), ""), 6000);
}

const field = (id, label, input) => [el("label", {for: id}, label), Object.assign(input, {id})];
const input = (value = "", attributes) => Object.assign(el("input", {type: "text", spellcheck: "false", autocomplete: "off", ...attributes}), {value});

// show opens the dialog, or shows something else in it. Each button has a function
// that is called when it is pressed; the first is what Enter does. While it runs, all
// buttons rest, and what it throws is shown.
function show(title, body, buttons, leave = "Cancel") {
  setText($("dialog-title"), title);
  $("dialog-body").replaceChildren(...body);
  setText($("dialog-error"), "");
  const run = async action => {
    const all = [...$("dialog-buttons").children];
    all.forEach(b => b.disabled = true);
    setText($("dialog-error"), "");
    try { await action(); } catch (error) { setText($("dialog-error"), error.message); }
    all.forEach(b => b.disabled = false);
  };
  $("dialog-form").onsubmit = event => { event.preventDefault(); if (buttons.length && buttons[0].enter) run(buttons[0].action); };
  $("dialog-buttons").replaceChildren(el("button", {type: "button", onclick: () => $("dialog").close()}, leave),
    ...buttons.map(b => el("button", {type: b.enter ? "submit" : "button", class: b.tone, onclick: b.enter ? null : () => run(b.action)}, b.name)));
  if (!$("dialog").open) $("dialog").showModal();
  ($("dialog-body").querySelector("input, select") ?? $("dialog-title")).focus();
}

function done(text) {
  $("dialog").close();
  say(text);
}

// showKey shows a key that nobody can be shown again.
function showKey(id, newKey, warning) {
  const shown = input(newKey, {readonly: true, class: "code"}), copied = el("p", {role: "status"}), said = warning ? el("p", {class: "warn"}, "Warning: " + warning + ".") : "";
  show("The key of " + id, [el("p", {}, "Copy it now: it is shown only this once."), ...field("new-key", "API key", shown), said, copied], [{name: "Copy", tone: "primary", action: async () => {
    shown.select();
    try {
      await navigator.clipboard.writeText(newKey);
      setText(copied, "It is in the clipboard.");
    } catch { throw new Error("The browser does not let this page copy: press Ctrl+C."); }
  }}], "Done");
  shown.select();
}

function addTenant() {
  const id = input(), quota = input("100", {inputmode: "numeric"}), mail = input();
  show("Add a tenant", [...field("add-id", "Id: small letters, digits and hyphens", id), ...field("add-quota", "Quota in MB, 0 for none", quota), ...field("add-mail", "Email of whoever is responsible (optional)", mail)],
    [{name: "Add", tone: "primary", enter: true, action: async () => {
      const made = await call("POST", "tenants/add", {tenant_id: id.value.trim(), quota_mb: number(quota), ...(mail.value && {admin_email: mail.value})});
      showKey(made.tenant_id, made.api_key);
    }}]);
}

function number(of) {
  if (!/^\d{1,12}$/.test(of.value.trim())) throw new Error("The quota is a whole number of megabytes.");
  return Number(of.value);
}

// manage shows a tenant and what can be done with it.
function manage(id) {
  const t = tenants.get(id), path = "tenants/" + encodeURIComponent(id), lines = el("pre", {tabindex: "0", "aria-label": "Last output of SQ"}, "…");
  const facts = {Status: t.status, "Data directory": t.data_dir, Stored: size(t.storage_used_bytes) + " in " + plural(t.phexts, "phext"), "Quota": t.quota_mb ? t.quota_mb + " MB" : "none",
    "Calls today": whole.format(t.api_calls_today), "Last call": ago(t.last_active), SQ: t.child, Email: t.admin_email};
  const list = el("dl", {}, ...Object.entries(facts).filter(([, value]) => value).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]));
  const archived = t.status === "archived", active = t.status === "active";
  const buttons = archived ? [{name: "Restore…", action: () => restoreArchive(id, path)}] : [
    {name: "Change quota…", action: () => changeQuota(id, path)},
    {name: "Rotate key…", action: () => rotateKey(id, path)},
    {name: "Restore…", action: () => restorePast(id, path)},
    {name: active ? "Disable…" : "Enable…", action: () => enable(id, path, !active)},
    {name: "Delete…", tone: "danger", action: () => remove(id, path)}];
  show(id, [list, el("h3", {}, "Last output of SQ"), lines], buttons, "Close");
  call("GET", path + "/logs").then(got => setText(lines, got.lines.slice(-40).join("\n") || "None: SQ did not run since sqgate was started."), error => setText(lines, error.message));
}

function enable(id, path, on) {
  show((on ? "Enable " : "Disable ") + id + "?", [el("p", {}, on ? "Its keys work again." : "Its calls are answered 403 until it is enabled again. Nothing is removed.")],
    [{name: on ? "Enable" : "Disable", tone: on ? "primary" : "danger", enter: true, action: async () => {
      await call("PATCH", path, {enabled: on});
      done(id + (on ? " is enabled." : " is disabled."));
    }}]);
}

function changeQuota(id, path) {
  const quota = input(tenants.get(id).quota_mb, {inputmode: "numeric"});
  show("Quota of " + id, field("quota", "MB, 0 for no limit", quota), [{name: "Change", tone: "primary", enter: true, action: async () => {
    const now = await call("PATCH", path, {quota_mb: number(quota)});
    done(`The quota of ${id} is ${now.quota_mb ? now.quota_mb + " MB" : "off"}.`);
  }}]);
}

function rotateKey(id, path) {
  const overlap = el("select", {}, ...[["0s", "stops at once"], ["1h", "works for an hour"], ["24h", "works for a day"], ["168h", "works for a week"]].map(([value, text]) => el("option", {value}, text)));
  overlap.value = "24h";
  show("New key for " + id + "?", field("overlap", "The old key", overlap), [{name: "Rotate", tone: "primary", enter: true, action: async () => {
    const made = await call("POST", path + "/rotate-key", {overlap: overlap.value});
    showKey(id, made.api_key, made.warning);
  }}]);
}

function remove(id, path) {
  show("Delete " + id + "?", [el("p", {}, "Its data goes to an archive and its directory is emptied. You can restore it here, as long as nobody purges it.")], [{name: "Delete", tone: "danger", enter: true, action: async () => {
    const gone = await call("DELETE", path);
    done(`${id} is archived in ${gone.archive}.`);
  }}]);
}

// restoreArchive learns where the archive is by deleting the tenant again, which
// changes nothing.
function restoreArchive(id, path) {
  show("Restore " + id + "?", [el("p", {}, "Its data comes back from its archive, and its keys work again.")], [{name: "Restore", tone: "primary", enter: true, action: async () => {
    const {archive} = await call("DELETE", path);
    await call("POST", path + "/restore", {archive});
    done(id + " is restored.");
  }}]);
}

// momentOf makes a time of a duration, which the API would count from now each time.
function momentOf(text) {
  const found = /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$/.exec(text);
  if (!text || !found) return text;
  const [, h, m, s] = found.map(Number);
  return new Date(Date.parse(state.at) - 1000 * ((h || 0) * 3600 + (m || 0) * 60 + (s || 0))).toISOString();
}

// restorePast shows what a restore would change before it is made.
function restorePast(id, path) {
  const at = input("10m"), phext = input();
  show("Restore " + id, [el("p", {}, "All phexts become as they were. A restore is a change like any other, and can be undone by another one."),
    ...field("at", "How far back, or a time: 10m, 24h, 2026-01-31T15:04:05Z", at), ...field("phext", "Only this phext (optional)", phext)],
    [{name: "See what would change", tone: "primary", enter: true, action: async () => {
      const moment = momentOf(at.value.trim());
      const dry = await call("POST", path + "/restore", {at: moment, ...(phext.value && {phext: phext.value}), dry_run: true});
      const changed = dry.restored.filter(one => one.changed);
      if (!changed.length) throw new Error("Nothing would change.");
      show("Restore " + id + "?", [el("p", {}, `As of ${moment}, this changes:`),
        el("pre", {tabindex: "0", "aria-label": "Phexts that change"}, changed.map(one => (one.phext || "(unnamed)") + (one.removed ? "   removed" : "")).join("\n"))],
        [{name: "Restore", tone: "danger", enter: true, action: async () => {
          const made = await call("POST", path + "/restore", {at: moment, ...(phext.value && {phext: phext.value})});
          done(`${plural(made.restored.filter(one => one.changed).length, "phext")} of ${id} restored.`);
        }}]);
    }}]);
}

makeColumns();
setText($("host"), location.host);
$("login-form").addEventListener("submit", event => {
  event.preventDefault();
  const given = $("key").value.trim();
  $("key").value = "";
  if (!/^[\x21-\x7e]+$/.test(given)) return lock("That is not the management key.");
  setText($("login-error"), "");
  key = given;
  live("Connecting…");
  watch();
});
$("lock").addEventListener("click", () => lock());
$("add").addEventListener("click", addTenant);
for (const id of ["filter", "show"]) $(id).addEventListener("input", () => { table.page = 0; showTenants(true); });
$("back").addEventListener("click", () => { table.page--; showTenants(true); });
$("forth").addEventListener("click", () => { table.page++; showTenants(true); });
// A key that is shown once does not stay in the document. The event comes after the
// dialog is closed, and it may be open again by then.
$("dialog").addEventListener("close", () => { if (!$("dialog").open) $("dialog-body").replaceChildren(); });
document.addEventListener("visibilitychange", () => {
  if (!key) return;
  if (!document.hidden) return watch();
  stream?.abort();
  live("Paused");
});
$("key").focus();

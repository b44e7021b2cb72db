"use strict";
// The key is in this variable and nowhere else.
let key = "";
let stream = null; // ends the stream of events
let state = {};    // the newest parts of the events
const tenants = new Map();
const perPage = 50;
const table = {sort: "id", down: false, page: 0, order: [], rows: new Map()};

const $ = id => document.getElementById(id);

// el makes an element. Text is always a text node: ids, emails and lines of logs are
// somebody else's.
function el(name, attributes, ...children) {
  const e = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes ?? {})) {
    if (attribute.startsWith("on")) e.addEventListener(attribute.slice(2), value);
    else if (value === true) e.setAttribute(attribute, "");
    else if (value !== false && value != null) e.setAttribute(attribute, value);
  }
  e.append(...children.filter(child => child != null));
  return e;
}

function setText(e, text) { if (e.textContent !== text) e.textContent = text; }

const whole = new Intl.NumberFormat("en");
const plural = (n, one, many = one + "s") => whole.format(n) + " " + (n === 1 ? one : many);

function size(bytes) {
  let unit = 0;
  while (bytes >= 1024 && unit < 4) { bytes /= 1024; unit++; }
  return (unit > 0 && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)) + " " + ["B", "KB", "MB", "GB", "TB"][unit];
}

function ago(time) {
  if (!time) return "never";
  const s = Math.max(0, (Date.parse(state.at) - Date.parse(time)) / 1000);
  for (const [length, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) if (s >= length) return Math.floor(s / length) + " " + unit + " ago";
  return s < 10 ? "just now" : Math.floor(s / 10) * 10 + " s ago";
}

const sum = list => (list ?? []).reduce((a, b) => a + b, 0);

// The API counts a megabyte as 1,048,576 bytes.
const used = t => t.quota_mb ? t.storage_used_bytes / (t.quota_mb * 1048576) : 0;

function svg(name, attributes) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [attribute, value] of Object.entries(attributes)) e.setAttribute(attribute, value);
  return e;
}

function newSpark() {
  const e = svg("svg", {class: "spark", viewBox: "0 0 58 20", preserveAspectRatio: "none", "aria-hidden": "true"});
  e.append(svg("line", {x1: 0, x2: 58, y1: 20, y2: 20}), svg("polyline", {class: "errors"}), svg("polyline", {}));
  return e;
}

// drawSpark leaves out the last slot, which is not over.
function drawSpark(e, calls, errors) {
  const top = Math.max(1, ...(calls ?? []), ...(errors ?? []));
  const points = list => list && sum(list) > 0 ? list.slice(0, -1).map((n, i) => i + "," + (20 - 19 * n / top).toFixed(1)).join(" ") : "";
  e.children[1].setAttribute("points", points(errors));
  e.children[2].setAttribute("points", points(calls));
}

function newBar() { return el("div", {class: "track", "aria-hidden": "true"}, el("div")); }

function drawBar(e, part) {
  e.className = "track" + (part >= 1 ? " bad" : part >= .9 ? " warn" : "");
  e.firstChild.style.width = Math.min(100, 100 * part) + "%";
}

const childTone = {ready: "good", starting: "warn", backoff: "bad", "crash-looping": "bad"};

const columns = [
  {id: "id", name: "Tenant", of: t => t.tenant_id},
  {id: "use", name: "Use of quota", of: used, numeric: true},
  {id: "recent", name: "Last 10 minutes", of: t => sum(t.calls) + sum(t.errors), numeric: true},
  {id: "today", name: "Calls today", of: t => t.api_calls_today, numeric: true, extra: true, right: true},
  {id: "active", name: "Last call", of: t => t.last_active ?? "", numeric: true, extra: true},
  {id: "sq", name: "SQ", of: t => t.child, extra: true},
];

function makeColumns() {
  $("columns").append(...columns.map(c => el("th", {role: "columnheader", scope: "col", class: c.right ? "number" : null},
    el("button", {type: "button", onclick: () => {
      table.down = table.sort === c.id ? !table.down : !!c.numeric;
      table.sort = c.id;
      table.page = 0;
      showTenants(true);
    }}, c.name))), el("th", {role: "columnheader", scope: "col"}, el("span", {class: "hidden"}, "Actions")));
}

const shows = {
  present: t => t.status !== "archived",
  active: t => t.status === "active",
  disabled: t => t.status === "disabled",
  archived: t => t.status === "archived",
  full: t => used(t) >= .9 && t.status !== "archived",
  errors: t => sum(t.errors) > 0,
};

function sortTenants() {
  const words = $("filter").value.trim().toLowerCase(), keep = shows[$("show").value];
  const {of} = columns.find(c => c.id === table.sort), sign = table.down ? -1 : 1;
  table.order = [...tenants.values()]
    .filter(t => keep(t) && (t.tenant_id.includes(words) || (t.admin_email ?? "").toLowerCase().includes(words)))
    .map(t => [of(t), t.tenant_id])
    .sort((a, b) => a[0] < b[0] ? -sign : a[0] > b[0] ? sign : a[1] < b[1] ? -1 : 1)
    .map(([, id]) => id);
}

// showTenants shows a page of the table. Rows keep their places while somebody points
// at one or has the focus in it, unless now is set.
function showTenants(now) {
  const busy = $("rows").matches(":hover, :focus-within");
  if (now || !busy) sortTenants();
  else table.order = table.order.filter(id => tenants.has(id));
  const last = Math.max(0, Math.ceil(table.order.length / perPage) - 1);
  table.page = Math.min(table.page, last);
  const from = table.page * perPage, ids = table.order.slice(from, from + perPage);
  for (const id of table.rows.keys()) if (!ids.includes(id)) table.rows.delete(id);
  const rows = ids.map(id => {
    if (!table.rows.has(id)) table.rows.set(id, newRow(id));
    return table.rows.get(id);
  });
  rows.forEach((row, i) => row.draw(tenants.get(ids[i])));
  const body = $("rows");
  if (body.children.length !== rows.length || rows.some((row, i) => body.children[i] !== row.tr)) body.replaceChildren(...rows.map(row => row.tr));
  columns.forEach((c, i) => {
    if (c.id === table.sort) $("columns").children[i].setAttribute("aria-sort", table.down ? "descending" : "ascending");
    else $("columns").children[i].removeAttribute("aria-sort");
  });
  setText($("shown"), table.order.length ? `${whole.format(from + 1)} to ${whole.format(from + ids.length)} of ${plural(table.order.length, "tenant")}` : "No tenant to show");
  $("back").hidden = $("forth").hidden = last === 0;
  $("back").disabled = table.page === 0;
  $("forth").disabled = table.page === last;
}

function newRow(id) {
  const badge = el("span", {class: "badge"}), mail = el("div", {class: "mail"});
  const bar = newBar(), use = el("span", {class: "small quiet"});
  const spark = newSpark(), calls = el("div", {class: "small quiet"}), errors = el("div", {class: "small bad"});
  const today = el("span"), active = el("span"), child = el("span");
  const cell = (name, ...children) => el("td", {role: "cell", class: name}, ...children);
  const tr = el("tr", {role: "row", "data-tenant": id},
    el("td", {role: "rowheader"}, el("span", {class: "id"}, id), badge, mail),
    cell("use", bar, use), cell("recent", el("div", {}, spark, el("div", {}, calls, errors))),
    cell("number extra", today), cell("extra", active), cell("extra", child),
    cell("number act", el("button", {type: "button", "aria-label": "Manage " + id, onclick: () => manage(id)}, "Manage")));
  const draw = t => {
    setText(badge, t.status);
    badge.hidden = t.status === "active";
    setText(mail, t.admin_email ?? "");
    bar.hidden = !t.quota_mb;
    drawBar(bar, used(t));
    setText(use, t.error || (t.quota_mb ? `${size(t.storage_used_bytes)} of ${size(t.quota_mb * 1048576)}, ${Math.round(100 * used(t))} %` : `${size(t.storage_used_bytes)}, no quota`));
    use.className = "small " + (t.error || used(t) >= 1 ? "bad" : used(t) >= .9 ? "warn" : "quiet");
    drawSpark(spark, t.calls, t.errors);
    setText(calls, plural(sum(t.calls), "call"));
    setText(errors, sum(t.errors) ? plural(sum(t.errors), "error") : "");
    setText(today, whole.format(t.api_calls_today));
    setText(active, ago(t.last_active));
    setText(child, t.child);
    child.className = "state " + (childTone[t.child] ?? "");
  };
  return {tr, draw};
}

const tiles = {};

function showTiles() {
  const all = [...tenants.values()], count = test => all.filter(test).length;
  const {calls, sq, config} = state, errors = sum(calls.errors), states = sq.states;
  const trouble = Object.entries(states).filter(([name]) => name !== "ready");
  const tile = (name, value, note, tone, spark) => {
    if (!tiles[name]) {
      const t = tiles[name] = {value: el("p", {class: "value"}), note: el("p", {class: "quiet"}), spark: spark ? newSpark() : null};
      $("tiles").append(el("div", {class: "tile"}, el("h2", {}, name), t.value, t.spark, t.note));
    }
    setText(tiles[name].value, value);
    tiles[name].value.className = "value " + (tone === "bad" ? tone : "");
    setText(tiles[name].note, note);
    tiles[name].note.className = tone === "warn" ? tone : "quiet";
    if (spark) drawSpark(tiles[name].spark, ...spark);
  };
  tile("Calls, last 10 min", whole.format(sum(calls.calls)), "", "", [calls.calls, null]);
  tile("Errors, last 10 min", whole.format(errors), "", errors ? "bad" : "", [null, calls.errors]);
  tile("Tenants", whole.format(count(shows.present)), `${count(shows.active)} active, ${count(shows.disabled)} disabled, ${count(shows.archived)} archived`);
  const full = count(shows.full);
  tile("Stored", size(sum(all.map(t => t.storage_used_bytes))), full ? plural(full, "tenant") + " above 90 %" : "nobody above 90 % of quota", full ? "warn" : "");
  tile("SQ processes", (states.ready ?? 0) + " ready", trouble.map(([name, n]) => n + " " + name).join(", ") || "none in trouble", trouble.length ? "warn" : "");
  tile("Tenants file", config.error ? "Refused" : "In force", "read " + ago(config.read_at), config.error ? "bad" : "");
}

const dead = h => !h.alive && !h.stopped;
const hostState = h => h.stopped ? "stopped" : !h.alive ? "dead" : h.draining ? "draining" : "alive";

function showAlerts() {
  const all = [], {config, sq, storage, hosts} = state;
  for (const h of hosts?.hosts ?? []) if (dead(h)) all.push(["", `Host ${h.name} does not live. The others serve its tenants.`]);
  if (config.error) all.push(["", "The tenants file was refused, and the one before it stays in force: " + config.error]);
  if (sq.data_dirs_missing) all.push(["", plural(sq.data_dirs_missing, "data directory is", "data directories are") + " missing, as if a disk were not mounted. The log says which."]);
  if (sq.states["crash-looping"]) all.push(["", "SQ ends again and again for " + plural(sq.states["crash-looping"], "data directory", "data directories") + "."]);
  for (const d of storage.disks) if (d.free_bytes < d.size_bytes / 10) all.push(["mild", `The disk of ${d.path} (${d.holds.join(", ")}) is nearly full: ${size(d.free_bytes)} left.`]);
  const text = JSON.stringify(all);
  if ($("alerts").dataset.text === text) return; // what was said is not said again
  $("alerts").dataset.text = text;
  $("alerts").replaceChildren(...all.map(([tone, sentence]) => el("p", {class: tone}, sentence)));
}

function showRest(e) {
  if (e.sq) $("sq").replaceChildren(el("ul", {class: "list"}, ...(e.sq.children.length ? e.sq.children.slice(0, 12).map(c => el("li", {},
    el("span", {class: "state " + (childTone[c.state] ?? "")}, c.state), el("span", {class: "grow code"}, c.data_dir),
    el("span", {class: "quiet"}, (c.pid ? "pid " + c.pid + ", " : "") + plural(c.starts, "start")))) : [el("li", {class: "quiet"}, "None runs. SQ is started when a tenant writes.")])),
    e.sq.children.length > 12 ? el("p", {class: "quiet"}, "and more: the table has the state of each tenant's") : "");
  if (e.hosts) $("hosts").replaceChildren(el("ul", {class: "list"}, ...e.hosts.hosts.map(h => el("li", {},
    el("span", {class: "state " + (dead(h) ? "bad" : h.draining ? "warn" : "")}, hostState(h)), el("span", {class: "grow"}, h.name + (h.name === e.hosts.host ? ", which shows this page" : "")),
    el("span", {class: "quiet"}, plural(h.directories, "directory", "directories") + ", " + h.version)))));
  $("hosts-card").hidden = !state.hosts;
  if (e.storage) $("storage").replaceChildren(el("p", {class: "disk"}, el("span", {class: "quiet"}, "Journal "), size(e.storage.journal_bytes)), ...e.storage.disks.map(d => {
    const bar = newBar();
    drawBar(bar, (d.size_bytes - d.free_bytes) / d.size_bytes);
    return el("div", {class: "disk"}, bar, el("span", {class: "small"}, `${size(d.free_bytes)} of ${size(d.size_bytes)} free`),
      el("span", {class: "small quiet"}, ` for ${d.holds.join(", ")}, at `), el("span", {class: "small code"}, d.path));
  }));
  if (e.audit) $("audit").replaceChildren(...(e.audit.length ? e.audit.map(line => el("li", {},
    el("time", {datetime: line.time, class: "quiet"}, line.time.slice(0, 19).replace("T", " ")), el("b", {}, line.what), el("span", {}, line.tenant ?? ""),
    el("span", {class: "quiet"}, line.from), el("span", {class: "code"}, [line.before, line.after].filter(Boolean).join(" → ")))) : [el("li", {class: "quiet"}, "Nothing was changed yet.")]));
}

function take(e) {
  for (const t of e.tenants ?? []) tenants.set(t.tenant_id, t);
  for (const id of e.removed ?? []) tenants.delete(id);
  Object.assign(state, e);
  showTenants();
  showTiles();
  showAlerts();
  showRest(e);
  if (state.ready) return;
  state.ready = true;
  $("login").hidden = true;
  $("status").hidden = $("lock").hidden = false;
  $("filter").focus();
}

function live(text, on) {
  setText($("live"), text);
  $("live").className = on ? "on" : "";
}

const quietest = 10000; // ms without an event until the connection counts as broken

// read takes the events of one stream.
async function read(answer, abort) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", timer;
  const wait = () => { clearTimeout(timer); timer = setTimeout(() => abort.abort(), quietest); };
  try {
    for (let first = true;;) {
      wait();
      const {value, done} = await reader.read();
      if (done || abort.signal.aborted) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        if (first) tenants.clear(); // the first event has everything
        first = false;
        take(JSON.parse(part.replace(/^data: /, "")));
        live("Live", true);
      }
    }
  } finally { clearTimeout(timer); }
}

// watch shows the events until the page is locked or hidden.
async function watch() {
  stream?.abort();
  const mine = key;
  while (key && key === mine && !document.hidden) {
    const abort = stream = new AbortController();
    try {
      const answer = await fetch("/api/v2/admin/events", {headers: {Authorization: "Bearer " + key}, signal: abort.signal, cache: "no-store", credentials: "omit"});
      if (answer.status === 401) return lock("That is not the management key.");
      if (!answer.ok) {
        const {error} = await answer.json().catch(() => ({error: `The answer is ${answer.status}, and not sqgate's: does a proxy keep management calls out?`}));
        if (!state.ready || answer.status === 403 || answer.status === 429) return lock(error);
        throw new Error(error);
      }
      await read(answer, abort);
    } catch (error) {
      if (stream !== abort) return; // another one has begun, or the page is locked
      if (!state.ready) return lock("sqgate does not answer: " + error.message);
    }
    if (stream !== abort || document.hidden) return;
    live("Reconnecting…");
    await new Promise(done => setTimeout(done, 1000));
    if (stream !== abort) return;
  }
}

// lock forgets the key and everything that was shown.
function lock(reason) {
  key = "";
  stream?.abort();
  stream = null;
  state = {};
  tenants.clear();
  table.rows.clear();
  for (const id of ["rows", "alerts", "sq", "storage", "hosts", "audit", "dialog-body"]) $(id).replaceChildren();
  delete $("alerts").dataset.text;
  if ($("dialog").open) $("dialog").close();
  $("status").hidden = $("lock").hidden = true;
  $("login").hidden = false;
  live("");
  setText($("login-error"), reason ?? "");
  $("key").focus();
}

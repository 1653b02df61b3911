// The dashboard: reads /api/v1/costs with the token of whoever signed in, and shows it as tables and charts; and asks
// /api/v1/reprice what a price book would change.
//
// Amounts are whole cents and stay so: they are added and written as BigInt. JSON.parse is exact to 2^53 cents, some
// 90 thousand billion dollars; beyond that the page refuses to show an amount rather than round it. Only the length of a
// bar is a float. Text from the database is only ever set as text. The place, the months and the tenants are in the
// address after the #, which browsers send to nobody; the token is in this tab's sessionStorage alone.

const TOKEN = "arcadia.token";
const FIRST_ROWS = 15; // as many are drawn, too
const MORE_ROWS = 50;
const MOST_ROWS = 500; // what the API answers at once
const MOST_TENANTS = 100; // so too
const LAST_MONTHS = 12; // unless chosen otherwise
const BAR_PIXELS = 30;
const MONTHS_PIXELS = 260;
const LARGEST_BOOK = 1_000_000; // bytes, as the API takes them
const MOST_LEFT_OUT = 10; // named
const PAGES = {
  months: { title: "Months", lead: "What tenants were invoiced, beside what the provider billed for the same month." },
  deployments: {
    title: "Deployments",
    lead: "Each deployment's revenue beside its part of the provider's bill, summed over the months chosen.",
    one: "deployment",
  },
  tenants: {
    title: "Tenants",
    lead: "Each tenant's revenue beside the cost of its deployments, summed over the months chosen.",
    one: "tenant",
  },
  kinds: {
    title: "Kinds",
    lead:
      "By resource kind, over all tenants. What a plan includes earns under plan_base and costs under its own kind, so " +
      "a kind's margin is not a price's: the sum is.",
    one: "kind",
  },
  reprice: {
    title: "What if",
    lead:
      "What past months would have come to at the prices of a price book, beside what they come to. The engine that invoices " +
      "months prices their frozen usage again, with discounts, commitments and GST. Nothing is changed.",
  },
  invoices: { title: "Invoices behind this revenue" },
  invoice: { title: "Invoice" },
};
const SORTS = {
  lowest_margin: "Lowest margin first",
  highest_margin: "Highest margin first",
  highest_cost: "Highest cost first",
  highest_revenue: "Highest revenue first",
};

const $ = (id) => document.getElementById(id);
const night = matchMedia("(prefers-color-scheme: dark)");
let months = null; // every month there is, as /costs/months tells them
let shown = 0; // counts what is asked to be shown: an answer that comes late is dropped
let drawn = []; // the charts on the page, to be drawn again by night or given up
let vega = null;

let captions = 0; // counts tables
let whatIf = {}; // what the page of that name was asked and answered: it stays while other pages are looked at

class Refused extends Error {}

class Invalid extends Error {
  constructor(message, errors) {
    super(message);
    this.errors = errors;
  }
}

// Money and text

function exact(cents) {
  if (!Number.isSafeInteger(cents)) {
    throw new Error("an amount is too large to be shown exactly here: download the table");
  }
  return BigInt(cents);
}

function dollars(cents, sign = "$") {
  const all = typeof cents === "bigint" ? cents : exact(cents);
  const size = all < 0n ? -all : all;
  const whole = String(size / 100n).replace(/\B(?=(\d{3})+$)/g, ",");
  return `${all < 0n ? "\u2212" : ""}${sign}${whole}.${String(size % 100n).padStart(2, "0")}`;
}

// An exact decimal with commas, and without the zeros at its end if asked for: "5000.00000000" is 5,000
function grouped(decimal) {
  const [whole, part] = decimal.split(".");
  return whole.replace(/\B(?=(\d{3})+$)/g, ",") + (part === undefined ? "" : `.${part}`);
}

// An amount that says its sign: +$10.00
function change(cents) {
  return `${cents > 0 ? "+" : ""}${dollars(cents)}`;
}

function trimmed(decimal) {
  return grouped(decimal.includes(".") ? decimal.replace(/\.?0+$/, "") : decimal);
}

// A unit price in cents, an exact decimal, in dollars: "0.74400000" is $0.00744, and "5000.00000000" is $50.00
function price(cents) {
  const [, minus, whole, part] = /^(-?)(\d+)\.?(\d*)$/.exec(cents);
  const digits = whole.padStart(3, "0") + part;
  const places = part.length + 2;
  const rest = digits.slice(-places).replace(/0+$/, "").padEnd(2, "0");
  return `${minus && "\u2212"}$${grouped(digits.slice(0, -places))}.${rest}`;
}

/** Of how many units that is the price, if of more than one: the days of a part month. */
function per(line) {
  return Number(line.price_per) === 1 ? "" : ` / ${trimmed(line.price_per)}`;
}

function percent(text) {
  return text === null ? "" : `${grouped(text).replace("-", "\u2212")} %`;
}

function count(number, one) {
  return `${number.toLocaleString("en-AU")} ${one}${number === 1 ? "" : "s"}`;
}

function sum(cents) {
  return cents.reduce((total, one) => total + exact(one), 0n);
}

// Elements: make("td", { class: "loss" }, "text", another element, null)

function make(tag, attributes = {}, ...content) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...content.filter((one) => one !== null && one !== undefined));
  return made;
}

// The place: #/page/id?from=2026-01&to=2026-04&tenant=a&tenant=b&... and, where invoices are behind a number, what it is
// of: month, of (a tenant), deployment and its name, kind; and the page to go back to
const BEHIND = ["from", "to", "tenant", "sort", "rows", "month", "of", "deployment", "name", "kind", "back"];

function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [page, id] = path.split("/");
  return { page: Object.hasOwn(PAGES, page) ? page : "months", id: id ? decoded(id) : null, query: new URLSearchParams(query) };
}

// An address that somebody cut off in the middle of a character stays as it is: the API says what is wrong with it
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function address(page, changes = {}, keep = ["from", "to", "tenant"]) {
  const query = new URLSearchParams([...place().query].filter(([name]) => keep.includes(name)));
  for (const [name, value] of Object.entries(changes)) {
    query.delete(name);
    for (const one of [value].flat()) if (one !== null) query.append(name, one);
  }
  return `#/${page}${String(query) ? `?${query}` : ""}`;
}

function range() {
  const { query } = place();
  const all = months.map((month) => month.period);
  return {
    from: query.get("from") ?? all.slice(-LAST_MONTHS)[0] ?? null,
    to: query.get("to") ?? all.at(-1) ?? null,
    tenants: query.getAll("tenant"),
  };
}

function behind() {
  const { query } = place();
  const { from, to, tenants } = range();
  const [month, of, kind] = [query.get("month"), query.get("of"), query.get("kind")];
  return { from: month ?? from, to: month ?? to, tenants: kind ? [] : of ? [of] : tenants, deployment: query.get("deployment"), kind };
}

function asked({ from, to, tenants }, more = {}) {
  if (tenants.length > MOST_TENANTS) {
    throw new Error(`${tenants.length} tenants are chosen, and at most ${MOST_TENANTS} can be shown at once: remove some of them.`);
  }
  const query = new URLSearchParams();
  if (from) query.set("from", from);
  if (to) query.set("to", to);
  for (const tenant of tenants) query.append("tenant_id", tenant);
  for (const [name, value] of Object.entries(more)) if (value !== null) query.set(name, value);
  return query;
}

// The API

async function read(path, body = null) {
  const token = sessionStorage.getItem(TOKEN);
  if (!token) throw new Refused("");
  let answer;
  try {
    const headers = { Authorization: `Bearer ${token}`, ...(body && { "Content-Type": "application/json" }) };
    answer = await fetch(`/api/v1/${path}`, { headers, cache: "no-store", ...(body && { method: "POST", body: JSON.stringify(body) }) });
  } catch {
    throw new Error("the server cannot be reached: try again");
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({ detail: answer.statusText }));
  if (answer.status === 401) throw new Refused(`The token was not accepted: ${problem.detail}.`);
  if (answer.status === 403) throw new Refused("This token may not see costs: sign in as a platform admin.");
  const why = `${problem.detail}${problem.request_id ? ` (request ${problem.request_id})` : ""}`;
  throw problem.errors ? new Invalid(why, problem.errors) : new Error(why);
}

async function json(path, body = null) {
  return (await read(path, body)).json();
}

async function download(path, button, body) {
  button.disabled = true;
  try {
    const answer = await read(path, body);
    const file = URL.createObjectURL(await answer.blob());
    const name = /filename="([^"]+)"/.exec(answer.headers.get("content-disposition") ?? "")?.[1] ?? "costs.csv";
    make("a", { href: file, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(file), 60_000);
    $("status").textContent = `${name} is downloaded.`;
  } catch (error) {
    failed(error);
  } finally {
    button.disabled = false;
    button.focus();
  }
}

// Charts: rows of {name, order, measure, dollars, label, href}, see charts.py

function bar(name, order, measure, cents, href) {
  const missing = cents === null;
  return {
    name,
    order,
    measure,
    dollars: missing ? null : cents / 100,
    label: missing ? "none yet" : dollars(cents),
    href,
  };
}

function pair(row, name, order, href) {
  return [bar(name, order, "Revenue", row.revenue_cents, href), bar(name, order, "Cost", row.cost_cents, href)];
}

function margin(row, name, order, href) {
  return bar(name, order, row.margin_cents < 0 ? "Loss" : "Margin", row.margin_cents, href);
}

function chart(kind, caption, rows, none = "None yet.") {
  if (rows.every((row) => row.dollars === null)) {
    return make("figure", { class: "card" }, make("figcaption", {}, caption), make("p", { class: "muted" }, none));
  }
  const canvas = make("div", { class: "chart", "aria-hidden": "true" }, "Drawing ..."); // Vega gives it a role of its own
  const picture = make("div", { role: "img", "aria-label": `${caption}. The table below has the numbers.` }, canvas);
  const height = kind.startsWith("row") ? BAR_PIXELS * new Set(rows.map((row) => row.order)).size : MONTHS_PIXELS;
  canvas.style.minHeight = `${height}px`; // so that what is below stays where it is
  const figure = make("figure", { class: "card" }, make("figcaption", {}, caption), picture);
  return Object.assign(figure, { drawing: { kind, canvas, rows, height, view: null } });
}

function forget() {
  for (const one of drawn) one.view?.finalize();
  drawn = [];
  $("vg-tooltip-element")?.remove(); // of the bar that was clicked
}

async function draw() {
  const mine = drawn;
  if (!mine.length) return;
  vega ??= Promise.all([import("/dashboard/vega.js"), fetch("/dashboard/charts.json").then((answer) => answer.json())]);
  try {
    const [, { charts, config }] = await vega;
    for (const one of mine) {
      if (mine !== drawn) return;
      one.view?.finalize();
      one.view = await window.vegaEmbed(
        one.canvas,
        { ...charts[one.kind], height: one.height, datasets: { rows: distinguishable(one.rows) } },
        {
          mode: "vega-lite",
          renderer: "svg",
          actions: false,
          ast: true, // interpreted: the page's policy forbids eval
          defaultStyle: false,
          tooltip: { disableDefaultStyle: true },
          config: config[night.matches ? "night" : "day"],
        },
      );
    }
  } catch (error) {
    vega = null;
    for (const one of mine) one.canvas.replaceChildren(make("p", { class: "muted" }, "The chart cannot be drawn; the table has its numbers."));
    console.warn(error);
  }
}

// Two rows of one name would be one bar: the second gets a mark that nobody sees.
function distinguishable(rows) {
  const names = new Map();
  return rows.map((row) => {
    const orders = names.get(row.name) ?? names.set(row.name, []).get(row.name);
    if (!orders.includes(row.order)) orders.push(row.order);
    return { ...row, name: row.name + "\u200b".repeat(orders.indexOf(row.order)) };
  });
}

// Tables: columns of {head, cell(row), text}, the first of which names the row

function money(cents, missing = "none yet", warns = false) {
  if (cents === null) return make("td", { class: "muted" }, missing);
  return make("td", { class: warns && cents < 0 ? "loss" : null }, dollars(cents));
}

function words(content, kind = null) {
  return make("td", { class: `text${kind ? ` ${kind}` : ""}` }, content);
}

function table(caption, columns, rows, { apart = [], total = null } = {}) {
  const id = `caption-${++captions}`;
  const head = columns.map((one) => make("th", { scope: "col", class: one.text ? "text" : null }, one.head));
  const line = (row, kind) =>
    make("tr", { class: kind }, make("th", { scope: "row" }, columns[0].cell(row)), ...columns.slice(1).map((one) => one.cell(row)));
  return make(
    "div",
    { class: "scroll", role: "region", tabindex: "0", "aria-labelledby": id },
    make(
      "table",
      {},
      make("caption", { id }, make("span", {}, caption)),
      make("thead", {}, make("tr", {}, ...head)),
      make("tbody", {}, ...rows.map((row) => line(row, row.counted ? "counted" : null)), ...apart.map((row) => line(row, "apart"))),
      total && make("tfoot", {}, line(total, null)),
    ),
  );
}

function sums(awaiting) {
  const columns = [
    { head: "Revenue", cell: (row) => money(row.revenue_cents) },
    { head: "Cost", cell: (row) => money(row.cost_cents, "no cost yet") },
    { head: "Margin", cell: (row) => money(row.margin_cents, "no margin yet", true) },
    { head: "Margin %", cell: (row) => make("td", { class: row.margin_cents < 0 ? "loss" : null }, percent(row.margin_percent)) },
  ];
  if (awaiting) columns.splice(1, 0, { head: "Revenue without cost yet", cell: (row) => money(row.awaiting_cents) });
  return columns;
}

function downloader(path, what = "Download CSV", body = null) {
  const button = make("button", { type: "button", class: "quiet", onclick: () => download(path, button, body) }, what);
  return button;
}

function tile(name, value, note = null, kind = null) {
  return make("div", {}, make("dt", {}, name), make("dd", { class: kind }, value), note && make("dd", {}, note));
}

function tiles(total, ...more) {
  const none = total.margin_cents === null;
  return make(
    "dl",
    { class: "tiles" },
    tile("Revenue", dollars(total.revenue_cents), total.awaiting_cents ? `${dollars(total.awaiting_cents)} of it has no cost yet` : null),
    tile("Cost", total.cost_cents === null ? "none yet" : dollars(total.cost_cents)),
    tile("Margin", none ? "none yet" : dollars(total.margin_cents), percent(total.margin_percent), total.margin_cents < 0 ? "loss" : null),
    ...more,
  );
}

// Why margins are of fewer months than are chosen
function openPoints(chosen) {
  const open = chosen.filter((month) => !month.reconciled);
  const card = make("section", { class: "card", "aria-labelledby": "open-head" }, make("h2", { id: "open-head" }, "Not yet reconciled"));
  if (!open.length) {
    card.append(make("p", {}, chosen.length ? "Every month chosen is reconciled: both ends are there and meet." : "No month is chosen."));
    return card;
  }
  const why = (month) =>
    make("li", {}, make("strong", {}, month.period), ": ", make("span", { class: "warn" }, month.open_points), month.cost_cents === null ? " (no margin yet)" : "");
  card.append(make("ul", { class: "open" }, ...open.map(why)));
  return card;
}

function awaited() {
  const { from, to } = range();
  const without = months.filter((month) => month.cost_cents === null && month.period >= from && month.period <= to);
  if (!without.length) return null;
  const why = without.map((month) => `${month.period} (${month.open_points})`).join(", ");
  return make("p", { class: "notice" }, `Margins leave out the revenue of ${why}: without a bill and a rate there is no cost to set it against.`);
}

// Pages. Each returns what stands below the filters.

async function monthsPage() {
  const query = asked(range());
  const { items, total } = await json(`costs/months?${query}`);
  if (!items.length) return [empty("There is neither an invoice nor a provider's bill in these months.")];
  const some = range().tenants.length > 0;
  const href = (row) => address("invoices", { month: row.period, back: "months" });
  const unallocated = sum(items.map((row) => row.unallocated_cents ?? 0));
  const open = items.filter((row) => !row.reconciled).length;
  const status = (row) => (row.reconciled ? words("reconciled") : words(`open: ${row.open_points}`, "warn"));
  const columns = [
    { head: "Month", cell: (row) => (row.revenue_cents === null ? row.period : make("a", { href: href(row) }, row.period)) },
    ...sums(false),
    { head: "Unallocated", cell: (row) => money(row.unallocated_cents ?? (row.cost_cents === null ? null : 0), "not known") },
    { head: "Bill, USD", cell: (row) => (row.bill_usd_cents === null ? make("td", { class: "muted" }, "no bill") : make("td", {}, dollars(row.bill_usd_cents, "US$"))) },
    { head: "USD per AUD", cell: (row) => (row.usd_per_aud === null ? make("td", { class: "muted" }, "no rate") : make("td", {}, row.usd_per_aud)) },
    { head: "Invoices", cell: (row) => make("td", {}, row.invoices.toLocaleString("en-AU")) },
    { head: "Status", text: true, cell: status },
  ];
  const foot = [...columns.slice(0, 5), ...columns.slice(5).map(() => ({ cell: () => make("td") }))];
  foot[5] = { cell: () => make("td", {}, dollars(unallocated)) };
  const region = table(
    "AUD ex GST, whole cents. A month leads to its invoices.",
    columns,
    items.map((row) => row),
  );
  region.querySelector("table").append(
    make("tfoot", {}, make("tr", {}, make("th", { scope: "row" }, "Sum"), ...foot.slice(1).map((one) => one.cell(total)))),
  );
  return [
    tiles(
      total,
      tile("Unallocated", dollars(unallocated), some ? "of all tenants' bills" : "of the bills, nobody's"),
      tile("Not reconciled", `${open} of ${count(items.length, "month")}`, null, open ? "warn" : null),
    ),
    some ? make("p", { class: "note" }, "Revenue, cost and margin are of the tenants chosen; all else is of the whole month.") : null,
    make(
      "div",
      { class: "charts" },
      chart("months", "Revenue against cost by month, AUD ex GST", items.flatMap((row, order) => pair(row, row.period, order, href(row)))),
      chart("month_margins", "Margin by month", items.map((row, order) => margin(row, row.period, order, href(row)))),
    ),
    openPoints(items),
    make(
      "section",
      { class: "card", "aria-labelledby": "table-head" },
      make("div", { class: "tools" }, make("h2", { id: "table-head" }, "Month by month"), downloader(`costs/months.csv?${query}`)),
      region,
    ),
  ];
}

const KEPT = ["from", "to", "tenant", "sort"];
const NAMES = {
  deployments: {
    name: (row) => row.deployment_name ?? (row.deployment_id ? `deleted: ${row.deployment_id}` : "no deployment: commitments, credits, adjustments, deleted"),
    bar: (row) => row.deployment_name ?? (row.deployment_id ? "deleted" : "no deployment"),
    href: (row) => row.tenant_id && address("invoices", { of: row.tenant_id, deployment: row.deployment_id ?? "none", name: row.deployment_name, back: "deployments" }, KEPT),
    more: [{ head: "Tenant", text: true, cell: (row) => words(row.tenant_id ?? "") }],
  },
  tenants: {
    name: (row) => row.tenant_name,
    bar: (row) => row.tenant_name,
    href: (row) => row.tenant_id && address("invoices", { of: row.tenant_id, back: "tenants" }, KEPT),
    more: [],
  },
  kinds: {
    name: (row) => row.resource_kind,
    bar: (row) => row.resource_kind,
    href: (row) => (row.revenue_cents ? address("invoices", { kind: row.resource_kind, back: "kinds" }, KEPT) : null),
    more: [],
  },
};

async function rankingPage(page) {
  const { query: now } = place();
  const { name, bar: short, href, more } = NAMES[page];
  const sort = Object.hasOwn(SORTS, now.get("sort")) ? now.get("sort") : "lowest_margin";
  const rows = Math.min(Math.max(Number(now.get("rows")) || FIRST_ROWS, 1), MOST_ROWS);
  const these = page === "kinds" ? { ...range(), tenants: [] } : range();
  const { items, unallocated, total, count: all } = await json(`costs/${page}?${asked(these, { sort, limit: rows })}`);
  const { tenants } = range();
  const again = (changes) => address(page, { sort, rows: rows === FIRST_ROWS ? null : rows, ...changes });
  const order = make(
    "select",
    { id: "sort", onchange: (event) => (location.hash = again({ sort: event.target.value, rows: null })) },
    ...Object.entries(SORTS).map(([value, text]) => make("option", { value, selected: value === sort }, text)),
  );
  if (!all && !unallocated) return [empty("Nothing was invoiced or billed for these months and tenants.")];
  const named = (row) => {
    if (row.is) return row.is;
    const to = href(row);
    return to ? make("a", { href: to }, name(row)) : name(row);
  };
  const columns = [{ head: PAGES[page].title.slice(0, -1), cell: named }, ...more, ...sums(total.awaiting_cents !== 0)];
  const first = [...items.slice(0, FIRST_ROWS), ...(unallocated ? [{ ...unallocated, is: "unallocated" }] : [])];
  const bars = first.map((row) => [row, row.is ?? short(row), row.is ? null : href(row)]);
  const left = all - items.length;
  const which = all > FIRST_ROWS ? `, the first ${FIRST_ROWS} of ${all.toLocaleString("en-AU")}` : "";
  return [
    tiles(
      total,
      these.tenants.length // what is nobody's is no tenant's
        ? null
        : tile("Unallocated", dollars(unallocated?.cost_cents ?? 0), "of the bills, nobody's"),
    ),
    awaited(),
    page === "kinds" && tenants.length ? make("p", { class: "note" }, "Kinds are of all tenants, whichever are chosen.") : null,
    make(
      "div",
      { class: "charts" },
      chart("rows", `Revenue against cost by ${PAGES[page].one}${which}, AUD ex GST`, bars.flatMap(([row, name, to], i) => pair(row, name, i, to))),
      chart("row_margins", `Margin by ${PAGES[page].one}`, bars.map(([row, name, to], i) => margin(row, name, i, to))),
    ),
    make(
      "section",
      { class: "card", "aria-labelledby": "table-head" },
      make(
        "div",
        { class: "tools" },
        make("h2", { id: "table-head" }, "Margin ranking"),
        make("div", {}, make("label", { for: "sort" }, "Order"), order),
        downloader(`costs/${page}.csv?${asked(these, { sort })}`),
      ),
      table(`AUD ex GST, whole cents. A ${PAGES[page].one} leads to the invoices behind its revenue.`, columns, items, {
        apart: unallocated ? [{ ...unallocated, is: "unallocated", tenant_id: null }] : [],
        total: { ...total, is: left ? `Sum of all ${all.toLocaleString("en-AU")}` : "Sum", tenant_id: null },
      }),
      left > 0 && rows < MOST_ROWS
        ? make("p", { class: "more" }, make("a", { id: "more", class: "button quiet", href: again({ rows: Math.min(rows + MORE_ROWS, MOST_ROWS) }) }, further(left, rows)), " The sum and the download have them all.")
        : left > 0
          ? make("p", { class: "more" }, `${count(left, "row")} more: the sum and the download have them all.`)
          : null,
    ),
  ];
}

// What if: the form, and what was answered or what is wrong with the book

async function repricePage() {
  const { from, to } = range();
  const known = months.filter((month) => month.invoices).map((month) => month.period);
  const month = (id, name, chosen) => {
    const all = [...new Set([...known, ...(chosen ? [chosen] : [])])].sort();
    const options = all.map((one) => make("option", { value: one, selected: one === chosen }, one));
    return make("div", { class: "field" }, make("label", { for: id }, name), make("select", { id, required: true }, ...options));
  };
  const text = make("textarea", {
    id: "book", rows: "12", spellcheck: "false", autocomplete: "off", wrap: "off", required: true, "aria-describedby": "book-help",
    placeholder: "plans:\n  studio:\n    price_aud: 60.00\n    ...",
    oninput: (event) => Object.assign(whatIf, { text: event.target.value, name: null }),
  });
  text.value = whatIf.text ?? "";
  const file = make("input", { id: "book-file", type: "file", accept: ".yaml,.yml,.json", onchange: (event) => pick(event.target.files[0]) });
  const form = make(
    "form",
    { id: "what-if", class: "card", onsubmit: reprice },
    make("label", { for: "book-file" }, "Price book, as a file"),
    file,
    make("label", { for: "book" }, whatIf.name ? `Its text, from ${whatIf.name}` : "or as text"),
    text,
    make("p", { id: "book-help", class: "hint" }, "The whole book as YAML: ", make("code", {}, "arcadia prices export"), " writes the one in effect; change a price in it."),
    make(
      "div",
      { class: "asked" },
      month("first", "From", whatIf.first ?? (known.includes(from) ? from : known[0])),
      month("last", "To", whatIf.last ?? (known.includes(to) ? to : known.at(-1))),
      make("div", { class: "field wide" }, make("label", { for: "one-tenant" }, "Only tenant (its id)"), make("input", { id: "one-tenant", autocomplete: "off", spellcheck: "false", maxlength: "200", placeholder: "all tenants", value: whatIf.tenant ?? "" })),
      make("button", { type: "submit", id: "reprice" }, "Reprice"),
    ),
  );
  return [form, ...(whatIf.faults ? [faults()] : []), ...(whatIf.outcome ? outcome() : [])];
}

async function pick(file) {
  if (!file) return;
  const found = { name: file.name, text: whatIf.text, faults: null, outcome: null };
  try {
    if (file.size > LARGEST_BOOK) throw new Error(`${file.name} has ${file.size.toLocaleString("en-AU")} bytes, and a price book at most ${LARGEST_BOOK.toLocaleString("en-AU")}`);
    found.text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
  } catch (error) {
    found.name = null;
    found.faults = [{ what: error instanceof TypeError ? `${file.name} is not UTF-8: save the file in that encoding` : error.message }];
  }
  Object.assign(whatIf, found, choices());
  await show({ moved: false });
}

function choices() {
  return { first: $("first").value, last: $("last").value, tenant: $("one-tenant").value };
}

async function reprice(event) {
  event.preventDefault();
  const asking = whatIf;
  const mine = shown;
  Object.assign(asking, choices(), { rows: FIRST_ROWS, faults: null, outcome: null });
  const { text, first, last, tenant } = asking;
  const asked = { prices: text ?? "", months: `${first}..${last}`, ...(tenant && { tenant }) };
  $("reprice").disabled = true;
  $("main").setAttribute("aria-busy", "true");
  $("status").textContent = "Pricing ...";
  try {
    asking.outcome = { asked, ...(await json("reprice", { ...asked, amounts: false })) };
  } catch (error) {
    if (error instanceof Refused) return failed(error);
    asking.faults = error.errors ?? [{ what: error.message }];
  }
  if (mine !== shown) return; // another page is looked at meanwhile: the answer is kept for this one
  await show({ moved: false });
  $("answered")?.focus({ preventScroll: true });
  $("answered")?.scrollIntoView({ block: "start" });
}

function faults() {
  const where = (fault) => fault.where?.replace(/^body\.(prices\.?)?/, "");
  const line = (fault) => make("button", { type: "button", class: "quiet", onclick: () => mark(fault.line) }, `Line ${fault.line}`);
  const item = (fault) => make("li", {}, fault.line ? line(fault) : null, make("span", {}, [where(fault), fault.what].filter(Boolean).join(": ")));
  return make(
    "section",
    { class: "card", role: "alert", "aria-labelledby": "answered" },
    make("h2", { id: "answered", tabindex: "-1", class: "error" }, "Nothing was priced"),
    make("ul", { class: "faults" }, ...whatIf.faults.map(item)),
  );
}

// Select a line of the book, a few lines below the top of what is seen of it
function mark(number) {
  const text = $("book");
  const lines = text.value.split("\n");
  const start = lines.slice(0, number - 1).join("\n").length + (number > 1 ? 1 : 0);
  text.focus();
  text.setSelectionRange(start, start + (lines[number - 1] ?? "").length);
  text.scrollTop = (text.scrollHeight / lines.length) * Math.max(number - 4, 0);
}

function changes(...more) {
  return [
    { head: "Difference", cell: (row) => make("td", { class: row.difference_cents < 0 ? "loss" : null }, change(row.difference_cents)) },
    { head: "Before", cell: (row) => money(row.before_cents) },
    { head: "After", cell: (row) => money(row.after_cents) },
    ...more,
  ];
}

function totals(rows) {
  const of = (name) => Number(sum(rows.map((row) => row[name])));
  return { before_cents: of("before_cents"), after_cents: of("after_cents"), difference_cents: of("difference_cents") };
}

function outcome() {
  const { asked, months: of, tenants, plans, kinds, left_out: left } = whatIf.outcome;
  const total = totals(of);
  const differing = tenants.filter((row) => row.difference_cents);
  const more = differing.filter((row) => row.difference_cents > 0).length;
  const costed = of.filter((month) => month.cost_cents !== null);
  const margins = [["Margin before", "margin_before_cents"], ["Margin after", "margin_after_cents"]];
  const span = of.length > 1 ? `${of[0].month} to ${of.at(-1).month}` : of[0].month;
  const one = (caption, head, name, rows, columns = []) =>
    table(caption, [{ head, cell: (row) => row.is ?? name(row) }, ...changes(...columns)], rows, { total: { is: "Sum", ...totals(rows) } });
  const monthly = costed.length
    ? [{ head: "Cost", cell: (row) => (row.is ? make("td") : money(row.cost_cents, "no cost yet")) }, ...margins.map(([head, name]) => ({ head, cell: (row) => (row.is ? make("td") : money(row[name], "no margin", true)) }))]
    : [];
  const head = make("h2", { id: "answered", tabindex: "-1" }, `${span}${asked.tenant ? `, ${asked.tenant}` : ""}, at the book's prices`);
  if (!tenants.length) return [head, left.length ? leftOut(left) : empty("Nothing was billed in these months.")];
  const card = (id, title, content) => make("section", { class: "card", "aria-labelledby": id }, make("h2", { id }, title), content);
  const sorted = "AUD ex GST, the largest differences first.";
  const ofMonths = `AUD ex GST. A month without a provider's bill has no margin${left.length ? ", nor has one in which a tenant is left out: its cost is of all tenants." : "."}`;
  return [
    head,
    make(
      "dl",
      { class: "tiles" },
      tile("Before", dollars(total.before_cents), "at the prices in effect"),
      tile("After", dollars(total.after_cents), "at the book's prices"),
      tile("Difference", change(total.difference_cents), "AUD ex GST", total.difference_cents < 0 ? "loss" : null),
      tile("Would pay more", count(more, "tenant")),
      tile("Would pay less", count(differing.length - more, "tenant")),
    ),
    left.length ? leftOut(left) : null,
    make("div", { class: "charts" }, ...pictures(of, differing)),
    make(
      "section",
      { class: "card", "aria-labelledby": "tenants-head" },
      make("div", { class: "tools" }, make("h2", { id: "tenants-head" }, "Who would pay more or less"), downloader("reprice.csv", "Download CSV", asked)),
      ...payers(differing, span),
    ),
    card("months-head", "Month by month", one(ofMonths, "Month", (row) => row.month, of, monthly)),
    card("plans-head", "By plan", one(sorted, "Plan", (row) => row.plan ?? "no deployment", plans)),
    card("kinds-head", "By kind of line", one(sorted, "Kind", (row) => row.kind, kinds)),
  ];
}

function pictures(of, differing) {
  const sides = of.flatMap((row, order) => [bar(row.month, order, "Before", row.before_cents, null), bar(row.month, order, "After", row.after_cents, null)]);
  const which = differing.length > FIRST_ROWS ? `, the first ${FIRST_ROWS} of ${differing.length.toLocaleString("en-AU")}` : "";
  const first = differing.slice(0, FIRST_ROWS).map((row, order) => bar(row.tenant_id, order, row.difference_cents > 0 ? "More" : "Less", row.difference_cents, null));
  return [
    chart("repriced_months", "Revenue by month before and after, AUD ex GST", sides),
    chart("row_changes", `Who would pay more or less${which}`, first, "Nobody."),
  ];
}

function payers(differing, span) {
  if (!differing.length) return [make("p", {}, "Nobody: at the book's prices each tenant pays what it pays.")];
  const rows = whatIf.rows ?? FIRST_ROWS;
  const left = differing.length - rows;
  const open = (row) => make("a", { href: address("invoices", { of: row.tenant_id, from: whatIf.first, to: whatIf.last, tenant: null, back: "reprice" }, []) }, row.tenant_id);
  const further = () => {
    whatIf.rows = Math.min(rows + MORE_ROWS, MOST_ROWS);
    Object.assign(whatIf, choices());
    show({ moved: false });
  };
  return [
    table(`${span}, AUD ex GST, the largest differences first. A tenant leads to its invoices.`, [{ head: "Tenant", cell: (row) => row.is ?? open(row) }, ...changes()], differing.slice(0, rows), {
      total: { is: left > 0 ? `Sum of all ${differing.length.toLocaleString("en-AU")}` : "Sum", ...totals(differing) },
    }),
    left > 0
      ? make("p", { class: "more" }, rows < MOST_ROWS ? make("button", { type: "button", id: "more", class: "quiet", onclick: further }, `Show ${Math.min(left, MORE_ROWS)} more`) : null, " The sum and the download have them all.")
      : null,
  ].filter(Boolean);
}

function leftOut(left) {
  const tenants = [...new Map(left.map((one) => [one.tenant_id, one])).values()];
  const shownOf = tenants.slice(0, MOST_LEFT_OUT).map((one) => make("li", {}, make("strong", {}, one.tenant_id ?? "no tenant"), `: ${one.detail}`));
  const rest = tenants.length - shownOf.length;
  return make(
    "section",
    { class: "notice", "aria-labelledby": "left-head" },
    make("h2", { id: "left-head" }, `${count(tenants.length, "tenant")} cannot be priced at the book, and ${tenants.length === 1 ? "is" : "are"} in no amount`),
    make("ul", { class: "open" }, ...shownOf, rest > 0 ? make("li", {}, `and ${rest.toLocaleString("en-AU")} more`) : null),
  );
}

async function invoicesPage() {
  const { query: now } = place();
  const of = behind();
  const { from, to, tenants, deployment, kind } = of;
  const lines = { deployment_id: deployment, resource_kind: kind };
  const rows = Math.min(Math.max(Number(now.get("more")) || MORE_ROWS, 1), MOST_ROWS);
  const found = await json(`costs/invoices?${asked(of, { ...lines, limit: rows })}`);
  const facts = [
    ["Months", from === to ? from : `${from} to ${to}`],
    ["Tenants", tenants.length ? tenants.join(", ") : "all"],
    deployment && ["Deployment", deployment === "none" ? "none: commitments, credits, adjustments, deleted deployments" : (now.get("name") ?? deployment)],
    kind && ["Kind", kind],
    ["Revenue", `${dollars(found.revenue_cents)} in ${count(found.count, "invoice")}`],
  ].filter(Boolean);
  const part = Boolean(deployment || kind);
  const left = found.count - found.items.length;
  const open = (row) => make("a", { href: address(`invoice/${row.id}`, {}, BEHIND) }, row.invoice_number);
  const back = Object.hasOwn(PAGES, now.get("back")) ? now.get("back") : "months";
  const top = make("p", {}, make("a", { href: address(back, {}, KEPT) }, `Back to ${PAGES[back].title}`));
  const list = make("dl", { class: "facts" }, ...facts.flatMap(([term, fact]) => [make("dt", {}, term), make("dd", {}, fact)]));
  if (!found.count) return [top, list, empty("No issued or paid invoice is behind this: it is a cost only.")];
  return [
    top,
    list,
    make(
      "section",
      { class: "card", "aria-labelledby": "table-head" },
      make("div", { class: "tools" }, make("h2", { id: "table-head" }, "Invoices"), downloader(`costs/invoices.csv?${asked(of, lines)}`)),
      table(
        part ? "What of each invoice is in this revenue, AUD ex GST. A number leads to the invoice's lines." : "AUD ex GST. A number leads to the invoice's lines.",
        [
          { head: "Invoice", cell: (row) => row.is ?? open(row) },
          { head: "Month", text: true, cell: (row) => words(row.period ?? "") },
          { head: "Tenant", text: true, cell: (row) => words(row.tenant_name ?? row.tenant_id ?? "") },
          { head: "Status", text: true, cell: (row) => words(row.status ?? "") },
          { head: part ? "Revenue of it" : "Revenue", cell: (row) => money(row.revenue_cents) },
        ],
        found.items,
        { total: { is: left ? `Sum of all ${found.count.toLocaleString("en-AU")}` : "Sum", revenue_cents: found.revenue_cents } },
      ),
      left > 0 && rows < MOST_ROWS
        ? make("p", { class: "more" }, make("a", { id: "more", class: "button quiet", href: address("invoices", { more: Math.min(rows + MORE_ROWS, MOST_ROWS) }, BEHIND) }, further(left, rows)), " The sum and the download have them all.")
        : left > 0
          ? make("p", { class: "more" }, `${count(left, "invoice")} more: the sum and the download have them all.`)
          : null,
    ),
  ];
}

async function invoicePage() {
  const found = await json(`invoices/${encodeURIComponent(place().id ?? "")}`);
  const { deployment, kind } = behind();
  const counted = (line) =>
    (!deployment || (deployment === "none" ? line.deployment_id === null : line.deployment_id === deployment)) &&
    (!kind || (line.resource_kind ?? line.kind) === kind);
  const part = Boolean(deployment || kind);
  const facts = [
    ["Tenant", found.meta.tenant_name ? `${found.meta.tenant_name} (${found.tenant_id})` : found.tenant_id],
    ["Month", found.period],
    ["Status", `${found.status}, revision ${found.revision}`],
    ["Issued", found.issued_at ? `${found.issued_at.slice(0, 16).replace("T", " ")} UTC` : "not yet"],
  ];
  const lines = found.lines.filter((line) => line.kind !== "tax").map((line) => ({ ...line, counted: part && counted(line) }));
  const columns = [
    { head: "Line", cell: (row) => `${row.line_no}. ${row.description}` },
    { head: "Deployment", text: true, cell: (row) => words(row.deployment_name ?? "") },
    { head: "Quantity", cell: (row) => make("td", {}, `${trimmed(row.qty)} ${row.unit ?? ""}`.trim()) },
    { head: "Unit price", cell: (row) => make("td", {}, price(row.unit_price_cents) + per(row)) },
    { head: "Amount", cell: (row) => money(row.amount_cents) },
  ];
  if (part) columns.push({ head: "In this revenue", text: true, cell: (row) => words(row.counted ? "counted" : "") });
  const region = table("Prices and amounts in AUD; lines ex GST.", columns, lines);
  const foot = (name, cents) => make("tr", {}, make("th", { scope: "row" }, name), make("td"), make("td"), make("td"), money(cents), part ? make("td") : null);
  region.querySelector("table").append(
    make("tfoot", {}, foot("Subtotal ex GST", found.subtotal_cents), foot(gst(found), found.tax_cents), foot("Total", found.total_cents)),
  );
  const content = [
    make("p", {}, make("a", { href: address("invoices", {}, BEHIND) }, "Back to the invoices")),
    make("dl", { class: "facts" }, ...facts.flatMap(([term, fact]) => [make("dt", {}, term), make("dd", {}, fact)])),
    make("section", { class: "card", "aria-labelledby": "table-head" }, make("div", { class: "tools" }, make("h2", { id: "table-head" }, "Lines"), downloader(`invoices/${found.id}.pdf`, "Download PDF")), region),
  ];
  return Object.assign(content, { title: `Invoice ${found.invoice_number ?? "(draft)"}` });
}

// What an invoice calls its GST, and what it is of where that is not the whole subtotal
function gst(invoice) {
  const line = invoice.lines.find((one) => one.kind === "tax");
  const taxable = line?.meta.taxable_cents ?? invoice.subtotal_cents;
  return `${line?.description ?? "GST"}${line && taxable !== invoice.subtotal_cents ? ` of ${dollars(taxable)}` : ""}`;
}

function further(left, rows) {
  const next = Math.min(left, MORE_ROWS, MOST_ROWS - rows);
  return `Show ${next} more${next < left ? ` of ${left.toLocaleString("en-AU")}` : ""}`;
}

function empty(text) {
  return make("p", { class: "card" }, text);
}

// Showing

// A table that is wider than its place says so, until its right end is in sight
function sayWhereItScrolls() {
  for (const region of document.querySelectorAll(".scroll")) {
    region.classList.toggle("more", region.scrollLeft + region.clientWidth < region.scrollWidth - 1);
  }
}

async function show({ moved = true } = {}) {
  const mine = ++shown;
  const { page } = place();
  try {
    if (!sessionStorage.getItem(TOKEN)) return signedOut("");
    $("main").setAttribute("aria-busy", "true");
    $("status").textContent = "Loading ...";
    months ??= (await json("costs/months")).items;
    if (mine !== shown) return;
    signedIn(page);
    const work = { months: monthsPage, reprice: repricePage, invoices: invoicesPage, invoice: invoicePage }[page] ?? (() => rankingPage(page));
    const content = await work();
    if (mine !== shown) return;
    forget();
    const { lead } = PAGES[page];
    const title = content.title ?? PAGES[page].title;
    const head = make("h1", { tabindex: "-1" }, title);
    const focused = document.activeElement?.id;
    $("view").replaceChildren(head, ...(lead ? [make("p", { class: "lead" }, lead)] : []), ...content.filter(Boolean));
    for (const region of document.querySelectorAll(".scroll")) region.addEventListener("scroll", sayWhereItScrolls, { passive: true });
    sayWhereItScrolls();
    drawn = [...document.querySelectorAll("figure")].map((figure) => figure.drawing).filter(Boolean);
    document.title = `${title} - Arcadia`;
    $("status").textContent = "";
    if (moved) {
      head.focus({ preventScroll: true });
      scrollTo(0, 0);
    } else if (focused && document.activeElement === document.body) {
      ($(focused) ?? head).focus({ preventScroll: true });
    }
    document.body.dataset.shown = location.hash;
    await draw();
  } catch (error) {
    if (mine === shown) failed(error);
  } finally {
    if (mine === shown) $("main").removeAttribute("aria-busy");
  }
}

function failed(error) {
  if (error instanceof Refused) {
    signedOut(error.message);
    return;
  }
  $("status").textContent = "";
  const again = make("button", { type: "button", onclick: () => show() }, "Try again");
  $("view").replaceChildren(make("div", { class: "card" }, make("p", { class: "error", role: "alert" }, `This cannot be shown: ${error.message}`), again));
  again.focus();
}

function signedOut(why) {
  sessionStorage.removeItem(TOKEN);
  shown += 1;
  months = null;
  whatIf = {};
  forget();
  $("view").replaceChildren();
  $("chosen").replaceChildren();
  $("tenants").replaceChildren();
  for (const id of ["from", "to"]) $(id).replaceChildren();
  for (const id of ["nav", "find", "sign-out", "filters"]) $(id).hidden = true;
  $("number").value = "";
  $("main").removeAttribute("aria-busy");
  $("status").textContent = "";
  $("sign-in").hidden = false;
  $("refused").textContent = why;
  $("token").value = "";
  $("token").focus();
  document.title = "Sign in - Arcadia";
  delete document.body.dataset.shown;
}

function signedIn(page) {
  $("sign-in").hidden = true;
  $("nav").hidden = $("find").hidden = $("sign-out").hidden = false;
  for (const link of document.querySelectorAll("nav a")) {
    link.href = address(link.dataset.page);
    if (link.dataset.page === page) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" }); // the links of a narrow page scroll sideways
    } else link.removeAttribute("aria-current");
  }
  $("filters").hidden = page.startsWith("invoice") || page === "reprice";
  $("tenant-field").hidden = $("add-tenant").hidden = page === "kinds";
  const { from, to, tenants } = range();
  for (const [id, chosen] of [["from", from], ["to", to]]) {
    const all = [...new Set([...months.map((month) => month.period), ...(chosen ? [chosen] : [])])].sort();
    $(id).replaceChildren(...all.map((one) => make("option", { value: one, selected: one === chosen }, one)));
  }
  const drop = (tenant) => {
    choose({ tenant: tenants.filter((one) => one !== tenant) });
    $("tenant").focus();
  };
  $("chosen").replaceChildren(
    ...(page === "kinds" ? [] : tenants).map((tenant) =>
      make("li", {}, make("button", { type: "button", class: "quiet", "aria-label": `Remove tenant ${tenant}`, onclick: () => drop(tenant) }, `${tenant} \u00d7`)),
    ),
  );
}

// What people do

function choose(changes) {
  location.hash = address(place().page, changes, ["from", "to", "tenant", "sort"]);
}

let typing = null;

async function suggest() {
  const search = $("tenant").value.trim();
  const query = new URLSearchParams({ sort: "highest_revenue", limit: "20" });
  if (search) query.set("search", search.slice(0, 100));
  const { items } = await json(`costs/tenants?${query}`);
  $("tenants").replaceChildren(...items.map((one) => make("option", { value: one.tenant_id }, one.tenant_name)));
  return items;
}

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value.trim());
  $("token").value = "";
  show();
});
$("sign-out").addEventListener("click", () => signedOut(""));
$("from").addEventListener("change", (event) => {
  const from = event.target.value;
  choose({ from, to: range().to < from ? from : range().to });
});
$("to").addEventListener("change", (event) => {
  const to = event.target.value;
  choose({ to, from: range().from > to ? to : range().from });
});
$("tenant").addEventListener("focus", () => suggest().catch(failed), { once: true });
$("tenant").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => suggest().catch(failed), 200);
});
$("filters").addEventListener("submit", async (event) => {
  event.preventDefault();
  const wanted = $("tenant").value; // as it is: a space before an id makes another id
  if (!wanted.trim()) return;
  if (range().tenants.length >= MOST_TENANTS) {
    $("status").textContent = `${range().tenants.length} tenants are chosen, and at most ${MOST_TENANTS} can be shown at once: remove one to add another.`;
    return;
  }
  try {
    const found = await suggest();
    const match = found.find((one) => [one.tenant_id, one.tenant_name].includes(wanted)) ?? (found.length === 1 ? found[0] : null);
    if (match) {
      $("tenant").value = "";
      choose({ tenant: [...new Set([...range().tenants, match.tenant_id])] });
    } else {
      $("status").textContent = found.length ? `More than one tenant has ${wanted} in its name or id: choose one.` : `No tenant has ${wanted} in its name or id.`;
    }
  } catch (error) {
    failed(error);
  }
});
$("find").addEventListener("submit", async (event) => {
  event.preventDefault();
  const number = $("number").value.trim();
  if (!number) return;
  try {
    const [found] = (await json(`invoices?${new URLSearchParams({ invoice_number: number })}`)).items;
    if (found) {
      $("number").value = "";
      location.hash = address(`invoice/${found.id}`, {}, BEHIND);
    } else {
      $("status").textContent = `No invoice has the number ${number}.`;
    }
  } catch (error) {
    failed(error);
  }
});
$("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address after the # is the place
  $("main").focus();
});
let page = place().page;
addEventListener("hashchange", () => {
  const moved = place().page !== page || page.startsWith("invoice");
  page = place().page;
  show({ moved });
});
night.addEventListener("change", () => draw());
addEventListener("resize", sayWhereItScrolls);
show({ moved: false });

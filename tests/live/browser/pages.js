// The agent's pages in a real browser. Arguments: the agent's URL, the label of the server that a storm will hit. The first check that
// fails ends this. What the other side is waiting for is said on standard error.
"use strict";

const assert = require("node:assert/strict");
const { chromium } = require("playwright-core");

const [url, server] = process.argv.slice(2);
const AXE = require.resolve("axe-core/axe.min.js");

// Longer than anything here takes on a busy machine.
const WITHIN = 15_000;

const WIDE = { width: 1280, height: 900 };
const PHONE = { width: 360, height: 740 };

let browser;

// A tab in a context of its own that takes note of everything that nobody should see.
async function open(options = {}) {
  const context = await browser.newContext({ viewport: WIDE, reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(WITHIN);
  page.complaints = [];
  page.asked = [];
  page.on("console", (message) => page.complaints.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => page.complaints.push(`error: ${error.message}`));
  page.on("request", (request) => page.asked.push(request.url()));
  return page;
}

function assertSilent(page, what) {
  assert.deepEqual(page.complaints, [], `${what}: something was written to the console`);
  const elsewhere = page.asked.filter((asked) => new URL(asked).origin !== new URL(url).origin);
  assert.deepEqual(elsewhere, [], `${what}: another origin was asked`);
}

async function assertAccessible(page, what) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    // Not as a script of the page, which its policy would refuse.
    await page.evaluate(require("node:fs").readFileSync(AXE, "utf8"));
    const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
    const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join("\n  ")}`);
    assert.deepEqual(found, [], `${what}, ${colorScheme}: axe has found barriers`);
  }
  await page.emulateMedia({ colorScheme: "light" });
}

async function assertNarrow(page, what) {
  await page.setViewportSize(PHONE);
  const wide = await page.evaluate(() => {
    const { clientWidth } = document.documentElement;
    const beyond = (element) => element.getBoundingClientRect().right > clientWidth + 0.5 && !element.closest("thead, .unseen, .skip");
    return [...document.querySelectorAll("body *")].filter(beyond).map((element) => element.outerHTML.slice(0, 120));
  });
  assert.deepEqual(wide, [], `${what}: something is wider than a phone`);
  const scrolls = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  assert.equal(scrolls, false, `${what}: a phone would scroll sideways`);
}

const row = (page) => page.locator("#servers-table tbody tr", { hasText: server });
const connections = (page) => row(page).locator('td[data-label="connections"]');

// What others chose as their names is text, and what somebody might smuggle in does not run.
async function namesAreText(page) {
  assert.match(await page.locator("#prefixes-table").innerText(), /<script>alert\(1\)<\/script>/);
  assert.match(await page.locator("#libraries-table").innerText(), /<img\/src=x\/onerror=alert\(1\)>/);
  assert.equal(await page.locator("img:not(.brand img), script:not([src])").count(), 0);
}

async function policyHolds() {
  const page = await open();
  await page.goto(url);
  const refused = await page.evaluate(async () => {
    const seen = [];
    document.addEventListener("securitypolicyviolation", (event) => seen.push(`${event.effectiveDirective} ${event.blockedURI}`));
    const add = (name, attributes) => document.body.append(Object.assign(document.createElement(name), attributes));
    add("script", { textContent: "window.ran = true" });
    add("script", { src: "https://elsewhere.invalid/x.js" });
    add("link", { rel: "stylesheet", href: "https://elsewhere.invalid/x.css" });
    add("style", { textContent: "body { display: none }" });
    add("img", { src: "https://elsewhere.invalid/" });
    add("div", { innerHTML: "<button onclick='window.ran = true'>x</button>" });
    document.querySelector("div button").click();
    await fetch("https://elsewhere.invalid/").catch(() => {});
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    return { seen: [...new Set(seen)].sort(), ran: window.ran === true };
  });
  assert.deepEqual(refused, {
    seen: [
      "connect-src https://elsewhere.invalid/",
      "img-src https://elsewhere.invalid/",
      "script-src-attr inline",
      "script-src-elem https://elsewhere.invalid/x.js",
      "script-src-elem inline",
      "style-src-elem https://elsewhere.invalid/x.css",
      "style-src-elem inline",
    ],
    ran: false,
  });
  await page.context().close();
}

// Focus, selection and scrolling, as somebody has them who reads.
async function settle(page) {
  await page.evaluate(() => {
    window.stayed = true;
    document.querySelector('a[href="/metrics"]').focus();
    getSelection().selectAllChildren(document.querySelector("#agent"));
    scrollTo(0, 300);
  });
}

async function assertSettled(page) {
  const now = await page.evaluate(() => ({
    stayed: window.stayed,
    focus: document.activeElement.getAttribute("href"),
    selection: getSelection().toString(),
  }));
  assert.deepEqual(now, { stayed: true, focus: "/metrics", selection: "Agent" }, "the reader was disturbed");
  assert.ok((await page.evaluate(() => scrollY)) > 0, "the page has scrolled back");
}

async function stormArrives(page) {
  assert.equal(await page.locator("#said").innerText(), "", "something was said before there was anything to say");
  await settle(page);
  process.stderr.write("ready for the storm\n");
  const card = page.locator("[data-storm]");
  await card.waitFor();
  const said = page.locator("#said");
  await page.waitForFunction(() => document.getElementById("said").textContent !== "");
  assert.match(await said.textContent(), /^New storm: accept queue saturation/);
  assert.match(await card.innerText(), new RegExp(`^warning accept queue saturation at ${server}`));
  assert.equal(await said.getAttribute("aria-live"), "polite");
  await page.waitForFunction((cell) => cell.textContent === "61", await connections(page).elementHandle());
  await assertSettled(page);
  assert.equal(await page.locator("#state").innerText(), "live");
}

async function agentGoesAway(page) {
  await page.context().setOffline(true);
  await page.locator("body.away #state", { hasText: "has not answered since" }).waitFor();
  await page.context().setOffline(false);
  await page.locator("body:not(.away) #state", { hasText: "live" }).waitFor();
  page.complaints = page.complaints.filter((complaint) => !complaint.includes("ERR_INTERNET_DISCONNECTED"));
}

// Nobody looks: nothing is asked. Somebody looks again: at once.
async function pausesWhenHidden() {
  const page = await open();
  await page.clock.install();
  await page.goto(url);
  const show = (hidden) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  await show(true);
  const before = page.asked.length;
  await page.clock.fastForward(60_000);
  assert.equal(page.asked.length, before, "a hidden page asks");
  const again = page.waitForRequest(url + "/");
  await show(false);
  await again;
  await page.context().close();
}

async function incident(page) {
  await page.getByRole("link", { name: "Course and evidence" }).click();
  await page.waitForURL(/\/incidents\/\d+-\d+$/);
  const lines = page.locator(".plot polyline");
  assert.ok((await lines.count()) >= 4, "too few lines");
  // Traffic has a point a second: the lines grow while somebody looks.
  await page.waitForFunction(() => [...document.querySelectorAll(".plot polyline")].every((line) => line.points.length > 5));
  for (const line of await lines.all()) {
    assert.ok((await line.boundingBox()).width > 300, "a line that nobody sees");
  }
  const queue = page.getByRole("img", { name: /^Accept queue, connections that wait: waiting at most (60|6\d)/ });
  assert.equal(await queue.count(), 1, "the queue is not told in words");
  assert.equal(await page.getByText("onset", { exact: true }).count() > 3, true);
  await page.getByText("The course as a table").click();
  assert.ok((await page.locator("#steps-table tbody tr").count()) > 3);
  const drawn = await lines.first().getAttribute("points");
  await page.waitForFunction((drawn) => document.querySelector(".plot polyline").getAttribute("points") !== drawn, drawn);
  assert.ok(await page.locator("details[open]").isVisible(), "the table was closed again");
  await assertAccessible(page, "the incident");
  await assertNarrow(page, "the incident");
  await page.setViewportSize(WIDE);
  return page.url();
}

// The list has the storm that goes on, says of what it is, and leads to its page.
async function incidents(page, addressOfIncident) {
  await page.goto(`${url}/incidents`);
  const recorded = page.locator("#list-table tbody tr", { hasText: server });
  assert.equal(await recorded.count(), 1, "the storm is not listed");
  assert.match(await recorded.innerText(), /goes on[\s\S]*accept queue saturation[\s\S]*warning/);
  await assertAccessible(page, "the list of incidents");
  await assertNarrow(page, "the list of incidents");
  await page.setViewportSize(WIDE);
  await recorded.getByRole("link").click();
  await page.waitForURL(addressOfIncident);
}

async function withoutScript(addressOfIncident) {
  const page = await open({ javaScriptEnabled: false });
  await page.goto(url);
  assert.equal(await connections(page).innerText(), "61");
  assert.equal(await page.locator("[data-storm]").count(), 1);
  assert.equal(await page.locator("#state").isVisible(), false, "it claims to be live");
  await page.goto(addressOfIncident);
  assert.ok(await page.locator(".plot polyline").first().isVisible());
  assertSilent(page, "without script");
  await page.context().close();
}

async function main() {
  browser = await chromium.launch({
    executablePath: process.env.STORMGLASS_LAB_CHROMIUM,
    args: ["--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  const page = await open();
  await page.goto(url);
  await row(page).waitFor();
  await namesAreText(page);
  await assertAccessible(page, "the calm");
  await Promise.all([policyHolds(), pausesWhenHidden()]);
  await stormArrives(page);
  await assertAccessible(page, "the storm");
  await assertNarrow(page, "the storm");
  await page.setViewportSize(WIDE);
  await agentGoesAway(page);
  const address = await incident(page);
  await incidents(page, address);
  assertSilent(page, "the storm");
  await withoutScript(address);
  await browser.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

// Pictures of the pages for docs/STATUS_PAGE.md. Arguments: the agent's URL, the folder of pictures. What the other side is waiting for is
// said on standard error.
"use strict";

const path = require("node:path");
const { chromium } = require("playwright-core");

const [url, folder] = process.argv.slice(2);

// A storm is over some ten seconds after its last sign, and recorded for some more.
const WITHIN = 90_000;

const WIDE = { width: 1120, height: 800 };
const HIGH = { width: 1120, height: 1220 };
const LOW = { width: 1120, height: 340 };
const PHONE = { width: 360, height: 760 };

async function main() {
  const browser = await chromium.launch({ executablePath: process.env.STORMGLASS_LAB_CHROMIUM });
  const page = await browser.newPage({ viewport: WIDE, reducedMotion: "reduce" });
  page.setDefaultTimeout(WITHIN);
  const take = async (name, viewport, colorScheme) => {
    await page.setViewportSize(viewport);
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: path.join(folder, `${name}.png`) });
  };
  await page.goto(url);
  process.stderr.write("ready for the storm\n");
  await page.locator("[data-storm]", { hasText: "workload cart-api" }).waitFor();
  await page.waitForTimeout(2_500);
  await take("storm", WIDE, "light");
  await take("storm-dark", WIDE, "dark");
  await take("storm-phone", PHONE, "light");
  const address = await page.getByRole("link", { name: "Course and evidence" }).getAttribute("href");
  process.stderr.write("ready for the calm\n");
  await page.locator("[data-storm]").waitFor({ state: "detached" });
  await page.goto(url + address);
  await page.locator("#state:empty").waitFor({ state: "attached" });
  await take("incident", HIGH, "light");
  await take("incident-phone", PHONE, "light");
  await page.goto(`${url}/incidents`);
  await page.locator("#list-table tbody tr").first().waitFor();
  await take("incidents", LOW, "light");
  await browser.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

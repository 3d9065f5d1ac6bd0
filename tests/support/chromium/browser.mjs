// A real browser for the tests: Debian's Chromium, driven by playwright-core. It is told on its standard input what to do, a
// line of JSON each, and answers each with a line of JSON on its standard output. It ends with its standard input.
// tests/support/chromium.py starts it, and names the folder that playwright-core is installed in.
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const { chromium } = (await import(pathToFileURL(`${process.argv[2]}/node_modules/playwright-core/index.js`))).default;

const PATIENCE = 60000;
const STATUS = /^Failed to load resource: the server responded with a status of \d+/;

let browser;
const people = new Map(); // by name: one browser profile each, with a page, and what was seen at it

// What a page complains of, violations of its policy among them, and which hosts were asked for anything.
function watch(context, page) {
  const seen = { complaints: [], hosts: new Set() };
  page.on('console', (message) => {
    const ofThePage = message.location().url === page.url() && STATUS.test(message.text()); // which is told as its status
    if (['error', 'warning'].includes(message.type()) && !ofThePage) seen.complaints.push(message.text());
  });
  page.on('pageerror', (error) => seen.complaints.push(String(error)));
  page.on('requestfailed', (request) => seen.complaints.push(`${request.url()}: ${request.failure().errorText}`));
  context.on('request', (request) => seen.hosts.add(new URL(request.url()).host));
  return seen;
}

const isRedirect = (response) => response.status() >= 300 && response.status() < 400;

const does = {
  async launch({ program, args }) {
    browser = await chromium.launch({ executablePath: program, args, timeout: PATIENCE });
    return { version: browser.version() };
  },

  async person({ who, width, scheme }) {
    const context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme: scheme });
    context.setDefaultTimeout(PATIENCE);
    const page = await context.newPage();
    people.set(who, { page, seen: watch(context, page) });
  },

  // Somebody types an address; the status is the last answer's.
  async open({ who, url }) {
    const answer = await people.get(who).page.goto(url);
    return { status: answer.status() };
  },

  async fill({ who, field, text }) { await people.get(who).page.fill(`[name="${field}"]`, text); },

  // Presses the button or the link that has this label, and waits for the page that it leads to.
  async press({ who, label }) {
    const { page } = people.get(who);
    const named = (role) => page.getByRole(role, { name: label, exact: true });
    const [answer] = await Promise.all([
      page.waitForResponse((response) => response.request().isNavigationRequest() && !isRedirect(response)),
      named('button').or(named('link')).click(),
    ]);
    await page.waitForLoadState();
    return { status: answer.status() };
  },

  async resize({ who, width, scheme }) {
    const { page } = people.get(who);
    await page.setViewportSize({ width, height: 800 });
    await page.emulateMedia({ colorScheme: scheme });
  },

  // What somebody sees, and what is behind it.
  async look({ who }) {
    const { page, seen } = people.get(who);
    const found = await page.evaluate(() => {
      const box = document.documentElement;
      return {
        title: document.title,
        text: document.body.innerText,
        html: box.outerHTML,
        sideways: box.scrollWidth > box.clientWidth,
      };
    });
    return { ...found, url: page.url(), complaints: seen.complaints, hosts: [...seen.hosts] };
  },

  async picture({ who, path }) { await people.get(who).page.screenshot({ path, fullPage: true }); },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { what, ...how } = JSON.parse(line);
  let answer;
  try {
    answer = await does[what](how) ?? {};
  } catch (error) {
    answer = { failed: String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser?.close();

// Opens the demo's chat page in Chromium, waits until the messages that the recordings hold have
// appeared, and keeps a picture. Arguments: the page's address, the picture's path, and the time in
// seconds. Prints the messages it saw, one a line.
import { chromium } from 'playwright-core';

const [address, picture, seconds] = process.argv.slice(2);
const deadline = Number(seconds) * 1000;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
});
try {
  const page = await browser.newPage({ viewport: { width: 1200, height: 900 } });
  await page.goto(address);
  // What a person must be able to read: that this is a replay, and the three turns of the story.
  const expected = [/replay/i, /exceeded the high threshold/, /back within the thresholds/, /below the low threshold/];
  for (const words of expected) {
    await page.getByText(words).first().waitFor({ timeout: deadline });
  }
  // A daily alert names San Francisco, a live one Paris.
  await page.getByText(/KSFO/).first().waitFor({ timeout: deadline });
  await page.getByText(/LFPG/).first().waitFor({ timeout: deadline });
  await page.screenshot({ path: picture, fullPage: false });
  for (const text of await page.locator('[data-message]').allInnerTexts()) {
    console.log(text.replaceAll('\n', ' | '));
  }
} finally {
  await browser.close();
}

import type { Page } from 'playwright-core'
import type { Browser } from '../../support/browser.ts'
import { launchChromium } from '../../support/chromium.ts'

/**
 * Chromium, for applications whose library runs in the browser. Such an application shows the answer
 * of each of its pages as JSON in a `pre`, or an object with `error`.
 */
export async function openChromium(): Promise<Browser & AsyncDisposable> {
  const chromium = await launchChromium()
  // The certificate comes from the server's own authority.
  const page = await chromium.newPage({ ignoreHTTPSErrors: true })
  return {
    async visit(url) {
      await page.goto(String(url))
      return settled(page)
    },
    async submit(_page, button, fields = {}) {
      for (const [name, value] of Object.entries(fields)) {
        const field = page.locator(`input[name=${name}]`)
        if ((await field.count()) > 0) await field.fill(value)
      }
      const left = page.waitForEvent('framenavigated')
      await page.getByRole('button', { name: button, exact: true }).click()
      await left
      return settled(page)
    },
    [Symbol.asyncDispose]: () => chromium.close(),
  }
}

/** What the page shows once no script of the application is going to leave it. */
async function settled(page: Page) {
  await page.waitForFunction('document.querySelector("pre")?.textContent !== ""')
  const answer = page.locator('pre')
  const html = (await answer.count()) > 0 ? await answer.innerText() : await page.content()
  return { url: new URL(page.url()), status: html.startsWith('{"error"') ? 500 : 200, html }
}

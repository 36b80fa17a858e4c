import { randomBytes } from 'node:crypto'
import { type Browser, createBrowser, type Page } from '../../support/browser.ts'

/** One mailbox, as it can be written. */
const spellings = [
  'victim@example.com',
  ' victim@example.com ',
  'Victim@Example.COM',
  'victim@ＥＸＡＭＰＬＥ.com',
  'victim@exam\u00adple.com',
  'victim@example。com',
  'VICTIM@example.com',
  'victim@e\u200bxample.com',
]

/**
 * Guesses the password of one account at a page of sign-in that was opened once, by a new spelling
 * of its address each time.
 */
export function createGuesser(
  issuer: string,
  fetch: typeof globalThis.fetch,
): { guess(): Promise<void> } {
  const url = `${issuer}/authorize?${new URLSearchParams({
    client_id: 'app',
    response_type: 'code',
    redirect_uri: 'http://127.0.0.1/callback',
    scope: 'openid',
    code_challenge: 'x'.repeat(43),
    code_challenge_method: 'S256',
  })}`
  async function open(): Promise<Opened> {
    const browser = createBrowser({ fetch })
    return { browser, page: await browser.visit(url) }
  }
  let opened: Promise<Opened> | undefined
  let guesses = 0
  return {
    async guess() {
      if (!opened) {
        opened = open()
        opened.catch(() => {
          opened = undefined
        })
        await opened
        return
      }
      const { browser, page } = await opened
      if (!page.html.includes('>Sign in<')) {
        opened = undefined
        return
      }
      const email = spellings[guesses++ % spellings.length] ?? ''
      const password = randomBytes(16).toString('hex')
      const answer = await browser.submit(page, 'Sign in', { email, password })
      opened = Promise.resolve({ browser, page: answer })
    },
  }
}

interface Opened {
  readonly browser: Browser
  readonly page: Page
}

/** Forms that were sent without a session, kept over the sign-in: sealed in a cookie of the browser. */
import { type Answer, escapeHtml, page, redirect } from './answers.ts'
import { expiredCookie, formCookies, setCookie } from './cookies.ts'
import type { Sealer } from './sealing.ts'

/** Reads the body of a request as text. @throws {@link Refusal} `body_too_large` */
export type ReadText = (limitBytes: number) => Promise<string>

/** What fits into a cookie, sealed. */
export const keptBytes = 2048

const lifeMs = 600_000

/** Kept forms of one application. */
export type KeptForms = Readonly<{
  /** Keeps a form and leads to the sign-in. */
  keep(
    form: Readonly<{ target: string; body: string }>,
    cookies: ReadonlyMap<string, string>,
  ): Answer
  /** A page that sends a kept form, and forgets it. */
  send(slot: string | null, cookies: ReadonlyMap<string, string>): Answer
}>

const script = 'document.forms[0].submit()'

/** Makes the kept forms of an application. */
export function createKeptForms({
  origin,
  sealer,
  now,
}: Readonly<{ origin: string; sealer: Sealer; now: () => number }>): KeptForms {
  const purpose = `form ${origin}`
  return Object.freeze({
    keep({ target, body }, cookies) {
      const free = formCookies.findIndex((name) => !cookies.has(name))
      const slot = Math.max(0, free)
      const sealed = sealer.seal(purpose, { target, body }, now() + lifeMs)
      const query = new URLSearchParams({ return: target, form: String(slot) })
      const name = formCookies[slot] as string
      return redirect(`/.gate/sign-in?${query}`, [setCookie(name, sealed, lifeMs / 1000)])
    },

    send(slot, cookies) {
      const name = /^[01]$/.test(slot ?? '') ? formCookies[Number(slot)] : undefined
      const form = name && sealer.open(purpose, cookies.get(name) ?? '', now())
      if (!name || !form) return redirect('/')
      const fields = [...new URLSearchParams(String(form.body))].map(
        ([field, value]) =>
          `<textarea hidden name="${escapeHtml(field)}">\n${escapeHtml(value)}</textarea>`,
      )
      const html = `<form method="post" action="${escapeHtml(String(form.target))}">${fields.join('')}
<p>You are signed in. Continue with what you were about to send.</p><button>Continue</button></form>`
      const content = { title: 'Continue', html, script, formAction: 'https: http:' }
      return page(200, content, ['Set-Cookie', expiredCookie(name)])
    },
  })
}

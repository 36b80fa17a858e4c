/**
 * Pages in sessions that are held by a page key. Browsers refresh nothing for them: a script proves the
 * key while a page is open, and a navigation that arrives after the bound cookie has expired gets
 * a page in between, whose script proves the key and opens the same address again.
 */
import type { PageKeys } from '@holdfast/verify/page-keys'
import type { Context } from 'koa'
import type { NamedSession } from '../engine/browser-request.ts'
import { allowConnection, allowScript } from '../http/script-source.ts'

/** Seconds after which the page in between continues without a proof, if its script does not run. */
const patienceS = 5

export interface PageKeyPages {
  /** Adds the script to a page in a session that is held by a page key; leaves all others alone. */
  addScript(ctx: PageContext, found: NamedSession | undefined): void
  /** @param to another page of ours, or nothing for the address of the request. */
  interstitial(ctx: PageContext, to: string, found: NamedSession): void
}

type PageContext = Pick<Context, 'set' | 'response' | 'body' | 'type'>

export interface PageKeyPagesOptions {
  readonly pageKeys: Pick<PageKeys, 'refreshUrl' | 'stateOf'>
  /** Of the script, absolute. */
  readonly scriptUrl: string
  readonly interstitial: (to: string, afterS: number) => string
}

/** Makes what such pages have beside others. */
export function createPageKeyPages({
  pageKeys,
  scriptUrl,
  interstitial,
}: PageKeyPagesOptions): PageKeyPages {
  function insertScript(ctx: PageContext, { session, provenAt }: NamedSession, next?: string) {
    const { challenge, seconds } = pageKeys.stateOf(session.uid, provenAt)
    const data = { key: session.binding?.jkt, challenge, seconds, next }
    // None of the values has a character that HTML knows: they are base64url, digits and our paths.
    const attributes = Object.entries(data)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => ` data-${name}="${value}"`)
    const element = `<script src="${scriptUrl}" type="module"${attributes.join('')}></script>`
    allowScript(ctx, scriptUrl)
    allowConnection(ctx, pageKeys.refreshUrl)
    ctx.body = String(ctx.body).replace('</head>', `${element}\n</head>`)
  }

  return {
    addScript(ctx, found) {
      if (found?.session.binding?.method !== 'page-key' || found.provenAt === undefined) return
      if (ctx.response.type !== 'text/html' || typeof ctx.body !== 'string') return
      insertScript(ctx, found)
    },

    interstitial(ctx, to, found) {
      ctx.type = 'html'
      ctx.body = interstitial(to, patienceS)
      insertScript(ctx, found, to)
    },
  }
}

/**
 * The page in between, which opens the same address or another page of ours again, as a request of
 * our own: for a session with a page key by the script that proves it, else at once.
 *
 * @param view as HTML.
 */
export function createInterstitial(
  view: (to?: string) => string,
  pageKeyPages: Pick<PageKeyPages, 'interstitial'> | undefined,
): (ctx: PageContext, to: string, found: NamedSession | undefined) => void {
  return (ctx, to, found) => {
    if (pageKeyPages && found?.session.binding?.method === 'page-key') {
      pageKeyPages.interstitial(ctx, to, found)
      return
    }
    ctx.type = 'html'
    ctx.body = view(to)
  }
}

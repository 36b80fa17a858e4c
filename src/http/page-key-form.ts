import { VerifyError } from '@holdfast/verify'
import type { PageKeys } from '@holdfast/verify/page-keys'
import type { Context } from 'koa'
import type { InteractionResults } from 'oidc-provider'
import type { SecurityEvents } from '../observability/security-events.ts'
import type { PageKey } from '../storage/browser-session-table.ts'
import { clientInfo } from './client-info.ts'
import type { FormBody } from './form-body.ts'
import { allowScript } from './script-source.ts'

/** What the script of a sign-in page needs to register a key. */
export interface PageKeyRequest {
  readonly challenge: string
  /** The thumbprint of a key that the script must not delete: it holds the session of the browser. */
  readonly keep: string
}

/** Page keys in forms of our sign-in pages. */
export interface PageKeyForms {
  /** Lets the page run the script. */
  request(
    ctx: Pick<Context, 'set' | 'response'>,
    uid: string,
    keep: string | undefined,
  ): PageKeyRequest
  /**
   * The key that the form of an interaction has registered by the field `page_key`; undefined without
   * one. A proof that is refused is no key either: one who can change the field can leave it out.
   */
  read(
    ctx: Pick<Context, 'get' | 'state'>,
    given: { form: FormBody; uid: string; accountId: string },
  ): Promise<PageKey | undefined>
}

/** @param scriptUrl of the script of such pages, absolute. */
export function createPageKeyForms({
  pageKeys,
  securityEvents,
  scriptUrl,
}: {
  pageKeys: Pick<PageKeys, 'pageChallenge' | 'verifyRegistration'>
  securityEvents: Pick<SecurityEvents, 'record'>
  scriptUrl: string
}): PageKeyForms {
  return {
    request(ctx, uid, keep = '') {
      allowScript(ctx, scriptUrl)
      return { challenge: pageKeys.pageChallenge(uid), keep }
    },

    async read(ctx, { form, uid, accountId }) {
      const proof = form.get('page_key')
      // Where a browser does not say what has led it to an address, no page could ask for a proof.
      if (!proof || !ctx.get('sec-fetch-site')) return undefined
      try {
        const { jkt, jwk } = pageKeys.verifyRegistration(proof, uid)
        const { x = '', y = '' } = jwk
        return { jkt, x, y }
      } catch (error) {
        if (!(error instanceof VerifyError)) throw error
        const { code } = error
        await securityEvents.record('proof_refused', { accountId, code, ...clientInfo(ctx) })
        return undefined
      }
    },
  }
}

/** The name of the key in the result of an interaction, which is sealed on its way. */
const resultName = 'pageKey'

/** What a page of the sign-in adds to its result. */
export function pageKeyResult(pageKey: PageKey | undefined): { [resultName]?: PageKey } {
  return pageKey ? { [resultName]: pageKey } : {}
}

/** The page key that came with the sign-in of an interaction. */
export function pageKeyOf(result: InteractionResults | undefined): PageKey | undefined {
  return result?.[resultName] as PageKey | undefined
}

import type { Context } from 'koa'
import type { NetworkLimit } from '../limits/network-limit.ts'
import type { Events, Facts } from '../observability/events.ts'
import type { SecurityEvents } from '../observability/security-events.ts'
import type { Message, MessageKey } from '../pages/messages.ts'
import type { Passkeys, RequestOptions } from '../passkeys/passkeys.ts'
import type { PasskeySignals } from '../passkeys/signals.ts'
import type { Account } from '../storage/account-store.ts'
import type { Passkey } from '../storage/passkey-table.ts'
import { clientInfo } from './client-info.ts'
import type { FormBody } from './form-body.ts'
import { allowScript } from './script-source.ts'

/** What a page says instead, and with which status. */
export interface FormProblem {
  readonly status: 400 | 401 | 429 | 503
  readonly problem: MessageKey | Message
}

/**
 * Whose passkey was shown. Where there is a problem, it is the same one whatever is wrong, but for a
 * passkey of the person that is not allowed any more.
 */
export type ShownPasskey =
  | { readonly account: Account; readonly passkey: Passkey }
  | ({
      readonly account: undefined
      /** For the browser, where the page that follows has the script of passkeys. */
      readonly signals?: PasskeySignals | undefined
    } & FormProblem)

/** Passkeys in forms of our pages. */
export interface PasskeyForms {
  /**
   * What the script of a page is to ask the browser for; lets the page run that script.
   *
   * @param purpose what an answer to it counts for.
   * @param allow the passkeys that count; by default all that the browser has.
   */
  request(
    ctx: Pick<Context, 'set' | 'response'>,
    purpose: string,
    allow?: readonly Passkey[],
  ): RequestOptions
  /**
   * Authenticates by the field `credential`.
   *
   * @param accountId the account that the page is for, if it is for one.
   */
  authenticate(
    ctx: Pick<Context, 'get' | 'set' | 'state'>,
    given: { form: FormBody; purpose: string; facts: Facts; accountId?: string },
  ): Promise<ShownPasskey>
}

export interface PasskeyFormsOptions {
  readonly passkeys: Pick<Passkeys, 'authenticate' | 'requestOptions'>
  /** Refused passkeys of a network. Whose they claim to be makes no difference. */
  readonly limit: NetworkLimit
  readonly events: Pick<Events, 'passkeyRefused' | 'rateLimited'>
  readonly securityEvents: Pick<SecurityEvents, 'record'>
  /** The script of such pages. */
  readonly scriptUrl: string
}

/**
 * A passkey cannot be guessed, so that what is limited is the work that refusals cost: those of a
 * network are counted, and nobody elsewhere waits for them.
 */
export function createPasskeyForms({
  passkeys,
  limit,
  events,
  securityEvents,
  scriptUrl,
}: PasskeyFormsOptions): PasskeyForms {
  return {
    request(ctx, purpose, allow) {
      allowScript(ctx, scriptUrl)
      return passkeys.requestOptions(purpose, allow)
    },

    async authenticate(ctx, { form, purpose, facts, accountId }) {
      const address = facts.address ?? ''
      const waitS = limit.wait(address)
      if (waitS !== undefined) {
        events.rateLimited(facts, 'passkeys')
        ctx.set('retry-after', String(waitS))
        return { account: undefined, status: 429, problem: limited(waitS) }
      }
      const shown = await passkeys.authenticate(form.get('credential') ?? '', purpose, accountId)
      if (shown.account) return shown
      const { reason, of, signals } = shown
      await limit.take(address)
      events.passkeyRefused({ ...facts, account: of }, reason)
      if (reason === 'counter' && of) {
        await securityEvents.record('passkey_counter_refused', {
          accountId: of,
          ...clientInfo(ctx),
        })
      }
      const isOurs = reason === 'authenticator'
      return {
        ...{ account: undefined, status: 401, signals },
        problem: isOurs ? 'passkey.not_allowed' : 'passkey.refused',
      }
    },
  }
}

const limited = (seconds: number): Message => ({
  key: 'sign_in.limited',
  values: { minutes: Math.ceil(seconds / 60) },
})

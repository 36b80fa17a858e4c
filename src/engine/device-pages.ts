/// <reference path="./engine-internals.d.ts" />
import type { Configuration, KoaContextWithOIDC } from 'oidc-provider'
import { AbortedError, ReRenderError } from 'oidc-provider/lib/helpers/re_render_errors.js'
import { type Visitor, visitor } from '../http/client-info.ts'
import { networkOf } from '../net/network.ts'
import { bindingWords } from '../pages/binding-labels.ts'
import { browserWords } from '../pages/browser-labels.ts'
import { oauthErrorWords } from '../pages/error-messages.ts'
import type { Views } from '../pages/views.ts'
import { TooManyUserCodesError } from './device-codes.ts'

type DeviceFlow = NonNullable<NonNullable<Configuration['features']>['deviceFlow']>

export type DevicePages = Required<
  Pick<DeviceFlow, 'deviceInfo' | 'userCodeInputSource' | 'userCodeConfirmSource' | 'successSource'>
>

/** The code in the address that a device shows (`verification_uri_complete`), for the form. */
const suggested = new WeakMap<object, string>()

export function suggestUserCode(ctx: { req: object }, userCode: string): void {
  suggested.set(ctx.req, userCode)
}

const problems: Readonly<Record<string, string>> = {
  NoCodeError: 'Enter the code that your device shows.',
  NotFoundError: 'No device shows this code now. Check it, and type it again.',
  ExpiredError: 'This code has expired. Let your device show a new one.',
  AlreadyUsedError: 'This code was used already. Let your device show a new one.',
}

/** The pages of RFC 8628 section 3.3, which oidc-provider asks its host to draw. */
export function createDevicePages(
  views: Pick<Views, 'deviceCode' | 'deviceConfirm' | 'deviceDone' | 'error'>,
): DevicePages {
  return {
    deviceInfo: (ctx) => ({ ...visitor(ctx) }),

    userCodeInputSource(ctx, _form, out, error) {
      ctx.type = 'html'
      if (error instanceof AbortedError) {
        ctx.body = views.deviceDone({ allowed: false })
        return
      }
      if (error && out && !(error instanceof ReRenderError) && !isOldForm(error)) {
        const { requestId } = ctx.state
        ctx.body = views.error({ ...oauthErrorWords(out as never, error), requestId })
        return
      }
      if (error instanceof TooManyUserCodesError) {
        ctx.set('retry-after', String(error.retryAfter))
      } else if (error) ctx.status = 400
      const problem = error && problemOf(error)
      const userCode = (error as { userCode?: string } | undefined)?.userCode
      ctx.body = views.deviceCode({
        token: tokenOf(ctx),
        userCode: userCode ?? suggested.get(ctx.req) ?? '',
        ...(problem !== undefined && { problem }),
      })
    },

    userCodeConfirmSource(ctx, _form, client, deviceInfo, userCode) {
      const { address, userAgent } = deviceInfo as unknown as Visitor
      const metadata = client as typeof client &
        Record<'binding_method' | 'self_registered', unknown>
      ctx.type = 'html'
      ctx.body = views.deviceConfirm({
        token: tokenOf(ctx),
        userCode,
        client: { name: client.clientName ?? client.clientId },
        binding: bindingWords(metadata.binding_method),
        selfRegistered: metadata.self_registered === true,
        program: browserWords(userAgent),
        address: address || 'an unknown address',
        isElsewhere: networkOf(address) !== networkOf(visitor(ctx).address),
      })
    },

    successSource(ctx) {
      ctx.type = 'html'
      const name = ctx.oidc.client?.clientName ?? ctx.oidc.client?.clientId
      ctx.body = views.deviceDone({ allowed: true, ...(name && { clientName: name }) })
    },
  }
}

/** A form that was sent before, or in another browser: the engine has forgotten its token. */
function isOldForm(error: { error_description?: unknown } & Error): boolean {
  return /device form details|xsrf token invalid/.test(String(error.error_description))
}

function problemOf(error: Error): string {
  if (isOldForm(error)) return 'This page was out of date. Type the code again.'
  if (error instanceof TooManyUserCodesError) {
    const minutes = Math.ceil(error.retryAfter / 60)
    const wait = minutes === 1 ? 'a minute' : `${minutes} minutes`
    return `Too many codes that there are not. Try again in ${wait}.`
  }
  return problems[error.name] ?? 'This did not work. Let your device show a new code.'
}

/** The engine's own token, of a form that this browser's session was given. */
function tokenOf({ oidc }: KoaContextWithOIDC): string {
  const { state } = oidc.session as unknown as { state?: { secret?: string } }
  return state?.secret ?? ''
}

/// <reference path="./engine-internals.d.ts" />
import type { Configuration, KoaContextWithOIDC } from 'oidc-provider'
import { AbortedError, ReRenderError } from 'oidc-provider/lib/helpers/re_render_errors.js'
import { type ClientInfo, clientInfo } from '../http/client-info.ts'
import { networkOf } from '../net/network.ts'
import { bindingLabels } from '../pages/binding-labels.ts'
import { browserLabel } from '../pages/browser-labels.ts'
import { oauthErrorMessage } from '../pages/error-messages.ts'
import type { Message, MessageKey } from '../pages/messages.ts'
import type { Views } from '../pages/views.ts'
import { TooManyUserCodesError } from './device-codes.ts'
import { clientView } from './shown-client.ts'

type DeviceFlow = NonNullable<NonNullable<Configuration['features']>['deviceFlow']>

export type DevicePages = Required<
  Pick<DeviceFlow, 'deviceInfo' | 'userCodeInputSource' | 'userCodeConfirmSource' | 'successSource'>
>

/** The code in the address that a device shows (`verification_uri_complete`), for the form. */
const suggested = new WeakMap<object, string>()

export function suggestUserCode(ctx: { req: object }, userCode: string): void {
  suggested.set(ctx.req, userCode)
}

const problems: Readonly<Record<string, MessageKey>> = {
  NoCodeError: 'device_code.empty',
  NotFoundError: 'device_code.not_found',
  ExpiredError: 'device_code.expired',
  AlreadyUsedError: 'device_code.used',
}

/** The pages of RFC 8628 section 3.3, which oidc-provider asks its host to draw. */
export function createDevicePages(
  views: Pick<Views, 'deviceCode' | 'deviceConfirm' | 'deviceDone' | 'error'>,
): DevicePages {
  return {
    deviceInfo: (ctx) => ({ ...clientInfo(ctx) }),

    userCodeInputSource(ctx, _form, out, error) {
      ctx.type = 'html'
      if (error instanceof AbortedError) {
        ctx.body = views.deviceDone({ allowed: false })
        return
      }
      if (error && out && !(error instanceof ReRenderError) && !isOldForm(error)) {
        const { requestId } = ctx.state
        ctx.body = views.error({ ...oauthErrorMessage(out as never, error), requestId })
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
      const { address, userAgent } = deviceInfo as unknown as ClientInfo
      const metadata = client as typeof client &
        Record<'binding_method' | 'self_registered', unknown>
      ctx.type = 'html'
      ctx.body = views.deviceConfirm({
        token: tokenOf(ctx),
        userCode,
        client: clientView(client),
        binding: bindingLabels(metadata.binding_method),
        selfRegistered: metadata.self_registered === true,
        program: browserLabel(userAgent),
        address: address || { key: 'unknown_address' },
        isElsewhere: networkOf(address) !== networkOf(clientInfo(ctx).address),
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

function problemOf(error: Error): Message | MessageKey {
  if (isOldForm(error)) return 'device_code.old_page'
  if (error instanceof TooManyUserCodesError) {
    const minutes = Math.ceil(error.retryAfter / 60)
    return { key: 'device_code.limited', values: { minutes } }
  }
  return problems[error.name] ?? 'device_code.failed'
}

/** The engine's own token, of a form that this browser's session was given. */
function tokenOf({ oidc }: KoaContextWithOIDC): string {
  const { state } = oidc.session as unknown as { state?: { secret?: string } }
  return state?.secret ?? ''
}

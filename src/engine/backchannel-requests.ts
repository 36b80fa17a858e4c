/**
 * The backchannel (OpenID Connect CIBA Core 1.0, by the rules of FAPI-CIBA): a client asks a person
 * who is not at it, and the person decides at a page of this server. The engine reads and checks the
 * request; here it is bound to the key of its client, stored without secrets, and limited.
 */
import { hash } from 'node:crypto'
import { parseJwt } from '@holdfast/verify/authorization-server'
import type { Context } from 'koa'
import Provider, { errors, type FindAccount, type KoaContextWithOIDC } from 'oidc-provider'
import { readEmail } from '../accounts/email.ts'
import type { AuthorizationDetail } from '../authorization-details/authorization-details.ts'
import { bindingMethodOf, clientBinding } from '../clients/binding-method.ts'
import { findSigner, importClientKey } from '../clients/client-keys.ts'
import { cibaGrant } from '../clients/grant-types.ts'
import type { KeyRing } from '../keys/key-ring.ts'
import { type BackchannelLimits, longestBackchannelS } from '../limits/backchannel-limits.ts'
import { isDisplayName } from '../net/display-name.ts'
import { requestedDetails } from './authorization-details.ts'
import { checkReceiver } from './client-logout.ts'
import { pollInterval } from './device-grant.ts'
import { secretsOf } from './engine-keys.ts'
import type { Extension } from './extension.ts'
import { override } from './override.ts'
import { refusedFor } from './refusal-reason.ts'
import { createSealedState, type SealedState } from './sealed-state.ts'
import { type ShownKeyOptions, shownKey } from './shown-key.ts'

/** Seconds for which a request waits that names no time. */
const usualLifetimeS = 120

/** Characters of a binding message: people compare it on two screens. */
const messageLimit = 60

/** Authentication methods of FAPI-CIBA section 5.2.2. */
const methods = ['private_key_jwt', 'tls_client_auth', 'self_signed_tls_client_auth']

/** What starts the name of an account that does not exist. */
const nobody = 'nobody '

/** Everything that the backchannel adds to the engine. */
export const backchannel: Extension = {
  extend(engine, { edge, proofs, times, keys, backchannelLimits: limits }) {
    const pings = createPingState(keys)
    bindBackchannelRequests(engine, { edge, proofs, now: times.now, limits, pings })
    engine.use(async (ctx: Context, next) => {
      await next()
      if (ctx.oidc?.route === 'discovery') {
        Object.assign(ctx.body as object, { backchannel_user_code_parameter_supported: false })
      }
      const body = ctx.body as { auth_req_id?: string } | undefined
      // CIBA Core section 7.3, where the engine leaves it out.
      if (body?.auth_req_id) ctx.body = { ...body, interval: pollInterval }
    })
  },
  checkClient(metadata) {
    if (!metadata.grant_types?.includes(cibaGrant)) return
    metadata.backchannel_token_delivery_mode ??= 'poll'
    checkReceiver(
      'backchannel_client_notification_endpoint',
      metadata.backchannel_client_notification_endpoint,
    )
    if (!methods.includes(String(metadata.token_endpoint_auth_method))) {
      throw invalid(`needs token_endpoint_auth_method ${methods.join(' or ')}`)
    }
    if (!['dpop', 'mtls'].includes(bindingMethodOf(metadata))) {
      throw invalid('needs binding_method dpop or mtls')
    }
  },
}

/** What a client in ping mode is notified with; it is at rest in no form that a reader could use. */
export const createPingState = ({ view, now }: Pick<KeyRing, 'view' | 'now'>): SealedState =>
  createSealedState('ping', { keys: () => secretsOf(view(), 'form-token'), now })

const invalid = (what: string) =>
  new errors.InvalidClientMetadata(`the grant ${cibaGrant} ${what} (FAPI-CIBA section 5.2.2)`)

/** The engine's feature. */
export function cibaFeature(findByEmail: (email: string) => Promise<{ id: string } | undefined>) {
  return {
    enabled: true as const,
    deliveryModes: ['poll', 'ping'] as ['poll', 'ping'],
    /** An email. Whether there is an account makes no difference to the client. */
    async processLoginHint(_ctx: KoaContextWithOIDC, hint = ''): Promise<string> {
      const email = readEmail(hint)
      const account = email && (await findByEmail(email))
      return account?.id ?? nobody + hash('sha256', email ?? hint, 'base64url')
    },
    async processLoginHintToken(): Promise<never> {
      throw refusedFor(
        'backchannel_request',
        new errors.InvalidRequest('login_hint_token is not supported: send login_hint'),
      )
    },
    /** FAPI-CIBA section 5.2.2: without one nobody knows which request is theirs. */
    async validateBindingMessage(_ctx: KoaContextWithOIDC, message?: string): Promise<void> {
      if (message === undefined) {
        throw refusedFor(
          'backchannel_request',
          new errors.InvalidRequest('binding_message is required'),
        )
      }
      if (isDisplayName(message, messageLimit)) return
      throw refusedFor(
        'backchannel_request',
        new errors.InvalidBindingMessage(
          `binding_message must be 1 to ${messageLimit} visible characters on one line`,
        ),
      )
    },
    /** The same section: requests are signed. The engine has verified what it trusts. */
    async validateRequestContext({ oidc }: KoaContextWithOIDC): Promise<void> {
      if (oidc.trusted?.length) return
      throw refusedFor(
        'backchannel_request',
        new errors.InvalidRequest('the authentication request must be a signed request object'),
      )
    },
    async verifyUserCode(): Promise<void> {},
    async triggerAuthenticationDevice(): Promise<void> {},
  }
}

/** CIBA Core section 7.1.1: claims of a signed request beyond those of every request object. */
export async function checkSignedRequest(
  { oidc }: KoaContextWithOIDC,
  { iat, jti, exp }: { iat?: unknown; jti?: unknown; exp?: unknown },
): Promise<void> {
  if (oidc.route !== 'backchannel_authentication') return
  if (typeof iat !== 'number' || typeof jti !== 'string' || jti === '') {
    throw refusedFor(
      'request_object_time',
      new errors.InvalidRequestObject('iat and jti are required in the authentication request'),
    )
  }
  const { ReplayDetection } = oidc.provider
  const name = `authentication request ${jti}`
  if (!(await ReplayDetection.unique(String(oidc.client?.clientId), name, Number(exp)))) {
    throw refusedFor(
      'request_replayed',
      new errors.InvalidRequestObject('the authentication request was used before'),
    )
  }
}

/** Finds an account that does not exist, for requests of the backchannel: nobody will answer. */
export function withNobody(findAccount: FindAccount): FindAccount {
  return async (ctx, sub, token) => {
    const account = await findAccount(ctx, sub, token)
    if (account || ctx.oidc.route !== 'backchannel_authentication') return account
    const accountId = sub.startsWith(nobody) ? sub : nobody + hash('sha256', sub, 'base64url')
    return { accountId, claims: () => ({ sub: accountId }) }
  }
}

/** Seconds for which a request waits. */
export function backchannelLifetime({ oidc: { params } }: KoaContextWithOIDC): number {
  return Math.min(Number(params?.requested_expiry ?? usualLifetimeS), longestBackchannelS)
}

function bindBackchannelRequests(
  engine: Provider,
  {
    limits,
    pings,
    ...options
  }: ShownKeyOptions & { readonly limits: BackchannelLimits; readonly pings: SealedState },
): void {
  override(
    engine,
    'BackchannelAuthenticationRequest',
    (Base) =>
      class extends Base {
        declare jkt?: string | undefined
        declare 'x5t#S256'?: string | undefined
        /** Of the client's assertion, where the request shows no key of tokens. */
        declare clientKey?: string | undefined
        /** The account, by which its owner finds the request. */
        declare uid?: string | undefined
        declare bindingMessage?: string | undefined
        declare rar?: AuthorizationDetail[] | undefined
        declare ping?: string | undefined
        declare generateTokenId: () => string

        // Its parameters hold a hint of who is asked.
        static override get IN_PAYLOAD(): string[] {
          const members = super.IN_PAYLOAD.filter((name) => name !== 'params')
          return [...members, 'jkt', 'x5t#S256', 'clientKey', 'uid', 'bindingMessage', 'ping']
        }

        override async save(): Promise<string> {
          const ctx = Provider.ctx
          if (!ctx) throw new TypeError('a request of the backchannel is decided elsewhere')
          const person = String(this.accountId)
          const clientId = String(this.clientId)
          const key = await keyOfRequest(ctx, options)
          if ((await limits.admit({ clientId, person })) !== undefined) {
            ctx.app.emit('backchannel.limited', ctx)
            throw refusedFor(
              'backchannel_limited',
              new errors.TemporarilyUnavailable('too many requests of this client'),
            )
          }
          Object.assign(this, key)
          const exists = !person.startsWith(nobody)
          this.accountId = exists ? person : undefined
          this.uid = exists ? person : undefined
          const { binding_message, client_notification_token: token } = ctx.oidc.params ?? {}
          this.bindingMessage = String(binding_message)
          const details = requestedDetails(ctx.oidc.params)
          this.rar = details && [...details]
          // The engine leaves the token out for a client that polls.
          if (exists && token !== undefined) {
            this.jti = this.generateTokenId()
            const ends = options.now() / 1000 + longestBackchannelS
            this.ping = pings.seal(clientId, { auth_req_id: this.jti, token }, ends)
          }
          return super.save()
        }
      },
  )
}

/**
 * What a request is bound to: the key of its tokens. A client with `private_key_jwt` whose tokens are
 * bound by certificate may show that certificate at the token endpoint alone, as FAPI-CIBA has it:
 * then the request is bound to the key of its assertion (docs/divergences.md).
 *
 * @throws an error of the engine where neither is shown.
 */
async function keyOfRequest(
  ctx: KoaContextWithOIDC,
  options: ShownKeyOptions,
): Promise<{ clientKey: string } | Awaited<ReturnType<typeof shownKey>>> {
  const binding = clientBinding(ctx)
  const isCertified = binding !== 'bearer' && binding.method === 'mtls'
  if (!isCertified || options.edge.proofsOf(ctx).certificate) return shownKey(ctx, options)
  const clientKey = assertionKey(ctx)
  return clientKey === undefined ? shownKey(ctx, options) : { clientKey }
}

/** Thumbprint of the key of the assertion, which the engine has verified; undefined without one. */
function assertionKey({ oidc: { body, client } }: KoaContextWithOIDC): string | undefined {
  // The parameters are those of the request object by now.
  const assertion = parseJwt(String(body?.client_assertion))
  const { asymmetricKeyStore: store } = client as unknown as {
    asymmetricKeyStore: Iterable<Readonly<Record<string, unknown>>>
  }
  const keys = Array.from(store, importClientKey).filter((key) => key !== undefined)
  return assertion && findSigner(keys, assertion)?.thumbprint
}

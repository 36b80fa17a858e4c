/**
 * Tickets: a request with an access token and its proof is exchanged, at the API, for a text of
 * seconds that opens one URL once. For WebSocket, EventSource, downloads and images, which send no
 * header fields of their own: no token is ever in a URL.
 *
 * A ticket is sealed, not stored (AES-256-GCM): issuing one writes nothing, and redeeming it is one
 * entry in a replay store.
 */
import {
  createCipheriv,
  createDecipheriv,
  hkdfSync,
  randomBytes as nodeRandomBytes,
} from 'node:crypto'
import type { AccessTokenClaims } from './access-token.ts'
import {
  type BindingMethod,
  type Confirmation,
  confirmCertificate,
  confirmTokenBinding,
} from './confirmation.ts'
import type { Credential } from './credentials.ts'
import { VerifyError } from './errors.ts'
import { decodeBase64url } from './lib/base64url.ts'
import {
  checkNames,
  checkSecrets,
  namesOf,
  optionalFunction,
  optionalMethods,
  positive,
} from './lib/check.ts'
import { deepFreeze } from './lib/deep-freeze.ts'
import { normalizeHttpUri } from './lib/uri.ts'
import { checkOutcome, type ReplayStore, replayStoreOf, storeFailed } from './replay.ts'
import type { Verified, Verifier, VerifyRequest } from './verifier.ts'

export {
  createLeases,
  type Lease,
  type LeaseEnd,
  type LeaseOptions,
  type Leases,
} from './leases.ts'

/** Options of {@link createTickets}. */
export type TicketOptions = Readonly<{
  /**
   * Secrets of at least 32 bytes, the same on all replicas. The first one seals; the others still
   * open, so that secrets can be changed. A function gives those of the moment: the same array
   * until they change.
   */
  secrets: readonly Uint8Array[] | (() => readonly Uint8Array[])
  /** Seconds for which a ticket is good, up to 60. Default 10. */
  lifetime?: number
  /**
   * Where redeemed tickets are remembered: the store of the verifier will do. Default: in the
   * memory of this process.
   */
  replay?: ReplayStore
  /** How many processes redeem tickets. More than one needs a shared replay store. */
  replicas?: number
  /** Chooses the claims that a ticket carries. Default: all of the access token. */
  claims?: (claims: AccessTokenClaims) => AccessTokenClaims
  /** Milliseconds since the epoch. Default `Date.now`. */
  now?: () => number
  randomBytes?: (size: number) => Uint8Array
}>

const ticketOptions = namesOf<TicketOptions>({
  secrets: true,
  lifetime: true,
  replay: true,
  replicas: true,
  claims: true,
  now: true,
  randomBytes: true,
})

/** The request that a ticket is for. */
export type TicketTarget = Readonly<{
  /** Absolute (`https:` or `wss:`), or a path of this resource; its query counts, too. */
  url: string
  /** Default `GET`, the method of WebSocket, EventSource and images. */
  method?: string
}>

/** Made by {@link createTickets}: a verifier that takes tickets in the place of access tokens. */
export type Tickets = Verifier &
  Readonly<{
    /**
     * Seals a ticket for one request, in the name of a request that was verified.
     *
     * @throws {@link VerifyError} `ticket_target` for a URL of another resource, and for what is
     * no URL or method.
     * @throws RangeError when the ticket would be longer than 4,096 characters: see `claims`.
     */
    issue(verified: Verified, target: TicketTarget): string
    /** Seconds for which a ticket is good. */
    readonly lifetime: number
  }>

/** Query parameter that a ticket comes in. */
const parameter = 'ticket'
const maxTicketLength = 4096
const maxUrlLength = 2048
const ivBytes = 12
const tagBytes = 16
const purpose = Buffer.from('holdfast ticket 1')

/** A URL with a ticket must not be stored, nor passed on to the site that a link leads to. */
const responseHeaders = Object.freeze({
  'Cache-Control': 'no-store',
  'Referrer-Policy': 'no-referrer',
})

/** What is sealed. */
type Sealed = Readonly<{
  method: string
  url: string
  /** Seconds since the epoch. */
  expires: number
  scheme: Credential['scheme']
  issuer: string
  format: 'jwt' | 'introspection'
  claims: AccessTokenClaims
  confirmations: readonly Confirmation[]
}>

/**
 * Makes the issuer and the verifier of tickets for the resource of `verifier`.
 *
 * A ticket opens one method and URL (path and query), once, for `lifetime` seconds and never
 * longer than its token. Where the token is bound to a certificate or a Token Binding, the
 * connection that brings the ticket has to show the same key. A token that is bound by DPoP alone
 * has no such key: who intercepts a ticket before it is used can use it, once, for that URL.
 *
 * The result is a {@link Verifier}: every adapter takes it, for the routes that tickets open. It
 * does NOT accept access tokens, and it does NOT ask again whether the token was revoked: for long
 * connections see {@link createLeases}.
 *
 * @example
 * ```ts
 * const tickets = createTickets(verifier, { secrets: [secret] })
 * app.post('/tickets', expressVerify(verifier), express.json(), (req, res) => {
 *   res.json({ ticket: tickets.issue(req.auth, req.body), expires_in: tickets.lifetime })
 * })
 * app.get('/events', expressVerify(tickets), (req, res) => …) // /events?ticket=…
 * ```
 *
 * @throws TypeError for a missing or short secret, and for options that are not known.
 */
export function createTickets(verifier: Verifier, options: TicketOptions): Tickets {
  optionalMethods('verifier', verifier, ['publicUrl', 'checkRequirements', 'refuse'])
  checkNames('options', options, ticketOptions)
  for (const name of ['claims', 'now', 'randomBytes'] as const) {
    optionalFunction(name, options[name])
  }
  const { claims: choose = (claims) => claims, randomBytes = nodeRandomBytes } = options
  const lifetime = positive('lifetime', options.lifetime, 10)
  if (lifetime > 60) throw new TypeError('lifetime must be at most 60 seconds')
  const replay = replayStoreOf(options)
  const milliseconds = options.now ?? Date.now
  const now = () => milliseconds() / 1000
  const keys = createKeys(options.secrets)

  function targetOf({ url, method = 'GET' }: TicketTarget): Pick<Sealed, 'url' | 'method'> {
    const refuse = () => new VerifyError('ticket_target', 'A ticket is for a URL of this resource')
    if (typeof method !== 'string' || !/^[A-Z]{1,16}$/.test(method)) throw refuse()
    if (typeof url !== 'string' || url.length > maxUrlLength) throw refuse()
    const home = verifier.publicUrl('/')
    const absolute = /^\/(?!\/)/.test(url) ? new URL(home).origin + url : url.replace(/^ws/, 'http')
    const bare = normalizeHttpUri(absolute)
    if (bare === undefined || new URL(bare).origin !== new URL(home).origin) throw refuse()
    const { query, tickets } = splitQuery(absolute)
    if (tickets.length > 0) throw refuse()
    return { method, url: bare + query }
  }

  function seal(content: Sealed): string {
    const iv = randomBytes(ivBytes)
    const cipher = createCipheriv('aes-256-gcm', keys()[0] as Uint8Array, iv)
    cipher.setAAD(purpose)
    const parts = [iv, cipher.update(JSON.stringify(content), 'utf8'), cipher.final()]
    return Buffer.concat([...parts, cipher.getAuthTag()]).toString('base64url')
  }

  function open(ticket: string): Sealed | undefined {
    const bytes = decodeBase64url(ticket)
    if (bytes === undefined || bytes.length <= ivBytes + tagBytes) return undefined
    for (const key of keys()) {
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, ivBytes), {
        authTagLength: tagBytes,
      })
      decipher.setAAD(purpose)
      decipher.setAuthTag(bytes.subarray(-tagBytes))
      try {
        const text = decipher.update(bytes.subarray(ivBytes, -tagBytes), undefined, 'utf8')
        return JSON.parse(text + decipher.final('utf8'))
      } catch {}
    }
    return undefined
  }

  /** Everything but whether it was used before. */
  function check(request: VerifyRequest): Readonly<{ ticket: string; content: Sealed }> {
    const { query, tickets } = splitQuery(request.url)
    const [ticket] = tickets
    if (ticket === undefined) throw new VerifyError('ticket_missing', 'Request has no ticket')
    const content = tickets.length === 1 ? open(ticket) : undefined
    if (content === undefined)
      throw new VerifyError('ticket_malformed', 'Ticket is not one of ours')
    if (now() >= content.expires) throw new VerifyError('ticket_expired', 'Ticket has expired')
    const called = normalizeHttpUri(verifier.publicUrl(request.url))
    if (request.method !== content.method || called + query !== content.url) {
      throw new VerifyError('ticket_request', 'Ticket is for another request', {
        cause: {
          expected: `${content.method} ${content.url.replace(/\?.*/s, '')}`,
          actual: called,
        },
      })
    }
    for (const confirmation of content.confirmations) {
      if (confirmation.method === 'mtls') {
        confirmCertificate(confirmation.thumbprint, request.certificate)
      } else if (confirmation.method === 'token-binding') {
        confirmTokenBinding(confirmation.tbh, request.tokenBinding)
      }
    }
    return { ticket, content }
  }

  async function consume(name: string, expires: number): Promise<void> {
    let outcome: Awaited<ReturnType<ReplayStore['consume']>>
    try {
      outcome = await replay.consume(name, expires, now())
    } catch (cause) {
      throw storeFailed(cause)
    }
    checkOutcome(outcome, 'ticket_replayed', 'Ticket')
  }

  return Object.freeze({
    mode: 'enforce' as const,
    metadata: undefined,
    lifetime,
    publicUrl: verifier.publicUrl,
    checkRequirements: verifier.checkRequirements,
    refuse: verifier.refuse,

    issue({ claims, token, scheme }: Verified, target: TicketTarget): string {
      const tokenEnds = claims.exp ?? Number.POSITIVE_INFINITY
      const ticket = seal({
        ...targetOf(target),
        expires: Math.min(now() + lifetime, tokenEnds),
        scheme,
        issuer: token.issuer,
        format: token.format,
        claims: choose(claims),
        confirmations: token.confirmations,
      })
      if (ticket.length > maxTicketLength) {
        throw new RangeError('ticket is too long for a URL: choose fewer claims')
      }
      return ticket
    },

    async verify(request: VerifyRequest): Promise<Verified> {
      try {
        const { ticket, content } = check(request)
        // Last: a ticket is used up only by a request that passes everything else. Its start is
        // the random number of its seal, which names it.
        const name = `ticket.${ticket.slice(0, (ivBytes * 4) / 3)}`
        await consume(name, content.expires)
        return verifiedBy(content)
      } catch (error) {
        if (!(error instanceof VerifyError)) throw error
        throw verifier.refuse(error)
      }
    },
  })
}

/** The request that brings a ticket passes as the one that it was exchanged for. */
function verifiedBy({ scheme, issuer, format, claims, confirmations }: Sealed): Verified {
  const methods: readonly BindingMethod[] = confirmations.map(({ method }) => method)
  const token = deepFreeze({ issuer, format, claims, confirmations, methods })
  return Object.freeze({
    claims: token.claims,
    token,
    scheme,
    location: 'query',
    methods: token.methods,
    proof: undefined,
    responseHeaders,
  })
}

/** The query of a URL without tickets, and these: what is left is compared as it is written. */
function splitQuery(url: string): Readonly<{ query: string; tickets: readonly string[] }> {
  const fields = (/\?([^#]*)/.exec(url)?.[1] ?? '').split('&').filter((field) => field !== '')
  const isTicket = (field: string) => new URLSearchParams(field).has(parameter)
  const rest = fields.filter((field) => !isTicket(field))
  return {
    query: rest.length === 0 ? '' : `?${rest.join('&')}`,
    tickets: fields.filter(isTicket).map((field) => field.slice(field.indexOf('=') + 1)),
  }
}

/** Keys of the secrets of the moment, derived again only when those change. */
function createKeys(given: TicketOptions['secrets']): () => readonly Uint8Array[] {
  const secretsNow = typeof given === 'function' ? given : () => given
  let secrets: readonly Uint8Array[] | undefined
  let keys: readonly Uint8Array[] = []
  const current = () => {
    const present = secretsNow()
    if (present !== secrets) {
      keys = checkSecrets(present).map(
        (secret) => new Uint8Array(hkdfSync('sha256', secret, '', purpose, 32)),
      )
      secrets = present
    }
    return keys
  }
  current()
  return current
}

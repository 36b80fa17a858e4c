/** Puts the mechanisms together: credential, access token, every confirmation, replay. */
import { hash } from 'node:crypto'
import {
  type AccessToken,
  type AccessTokenClaims,
  createAccessTokenVerifier,
  type Trusted,
} from './access-token.ts'
import { type ChallengeParameters, challengesFor } from './challenge.ts'
import {
  type BindingMethod,
  type CertificateFact,
  confirmCertificate,
  confirmTokenBinding,
  type TokenBindingFact,
} from './confirmation.ts'
import {
  type Credential,
  type RequestBody,
  type RequestHeaders,
  readCredential,
  type TokenLocation,
} from './credentials.ts'
import { type DPoPProof, ProofKeys, readDPoPHeader, replayKey, verifyDPoPProof } from './dpop.ts'
import { VerifyError } from './errors.ts'
import type { TokenIdentity } from './events.ts'
import {
  metadataUrl,
  type ProtectedResourceMetadata,
  protectedResourceMetadata,
} from './metadata.ts'
import { checkOptions, type VerifierOptions } from './options.ts'
import { checkOutcome, type ReplayOutcome, storeFailed } from './replay.ts'
import { checkRequirements, findUnmetRequirement, type Requirements } from './requirements.ts'

/** A request, as plain data. */
export type VerifyRequest = Readonly<{
  method: string
  /** The request target as the server received it (`/path?query`), or an absolute URL. */
  url: string
  headers: RequestHeaders
  /** The body, if it has been read; only a form's `access_token` is looked at. */
  body?: RequestBody
  /** The certificate the client has proven in the TLS handshake of this connection. */
  certificate?: CertificateFact
  /** The Token Binding verified for this connection. */
  tokenBinding?: TokenBindingFact
}>

/** A request that may pass. */
export type Verified = Readonly<{
  claims: AccessTokenClaims
  token: AccessToken
  scheme: Credential['scheme']
  location: TokenLocation
  /** What was proven, one for each member of `cnf`; empty for a bearer token. */
  methods: readonly BindingMethod[]
  /** The DPoP proof, if there had to be one. */
  proof: DPoPProof | undefined
  /** Header fields the response should have. */
  responseHeaders: Readonly<Record<string, string>>
}>

/** Made by {@link createVerifier}. */
export type Verifier = Readonly<{
  /**
   * Verifies the access token of a request and every key it is bound to.
   *
   * @throws {@link VerifyError} and nothing else, whatever a client may send.
   */
  verify(request: VerifyRequest): Promise<Verified>
  /**
   * Checks what a route asks for beyond a valid token: scopes, or a recent or stronger
   * authentication of the user (RFC 9470).
   *
   * @throws {@link VerifyError} `insufficient_scope`, `insufficient_user_authentication`
   */
  checkRequirements(verified: Verified, requirements: Requirements): void
  /** Reports the refusal of a request that never came to be verified, and adds the challenges. */
  refuse(error: VerifyError): VerifyError
  /** The URL by which clients know a request target, without its query: what `htu` has to be. */
  publicUrl(target: string): string
  /** What middleware does with refused requests. */
  mode: 'enforce' | 'observe'
  /** The RFC 9728 document and the path it belongs to, when `metadata` was given. */
  metadata: Readonly<{ path: string; document: ProtectedResourceMetadata }> | undefined
}>

const noHeaders: Readonly<Record<string, string>> = Object.freeze({})
const noStore: Readonly<Record<string, string>> = Object.freeze({ 'Cache-Control': 'no-store' })

/**
 * Makes a verifier for one protected resource.
 *
 * With no more than an issuer and an audience, it accepts JWT access tokens of that issuer
 * (RFC 9068) in the `Authorization` header that are bound to a key (RFC 9449, RFC 8705, Token
 * Binding) and come with its proof, each proof once. It does NOT look at scopes or at what the
 * token is used for.
 *
 * @example
 * ```ts
 * const verifier = createVerifier({ issuer: 'https://as.example', audience: 'https://api.example' })
 * const { claims } = await verifier.verify({
 *   method: request.method,
 *   url: request.url,
 *   headers: request.rawHeaders,
 * })
 * ```
 *
 * @throws TypeError when an option is missing, malformed or contradicts another one.
 */
export function createVerifier(options: VerifierOptions): Verifier {
  const settings = checkOptions(options)
  const { issuers, dpop, replay, clockTolerance, now, emit, publicUri, resource } = settings
  const tokens = createAccessTokenVerifier({
    issuers,
    decrypter: settings.decrypter,
    now,
    clockTolerance,
    cacheSeconds: settings.tokenCacheSeconds,
    cacheSize: settings.tokenCacheSize,
  })
  const keys = new ProofKeys()
  const methods = [...new Set(issuers.flatMap((issuer) => issuer.methods))]
  const allowBearer = issuers.some((issuer) => issuer.allowBearer)
  const metadataAt = settings.metadata && resource ? metadataUrl(resource) : undefined
  const challenge = {
    dpopAlgorithms: methods.includes('dpop') ? dpop.algorithms : undefined,
    bearer: allowBearer || methods.some((method) => method !== 'dpop'),
    realm: settings.realm,
    resourceMetadata: metadataAt,
    scope: settings.challengeScopes.join(' ') || undefined,
  }

  /** Everything that follows from the token and from how it was sent. */
  function checkPolicy({ scheme, location }: Credential, { token, policy }: Trusted): void {
    // RFC 9449 section 7.2: anyone who sends a DPoP-bound token in another way is not its client.
    const dpopBound = token.methods.includes('dpop')
    if (dpopBound && scheme !== 'DPoP') {
      emit?.(Object.freeze({ type: 'leaked', location, token: identityOf(token) }))
      throw new VerifyError('dpop_token_leaked', 'DPoP-bound access token sent without DPoP scheme')
    }
    if (!settings.locations.includes(location)) {
      throw new VerifyError('credentials_location', 'Access token is not accepted in this place')
    }
    if (!dpopBound && scheme === 'DPoP') {
      throw new VerifyError('scheme_mismatch', 'Access token is not DPoP-bound')
    }
    if (token.confirmations.length === 0) {
      if (!policy.allowBearer) {
        throw new VerifyError('bearer_refused', 'Access token must be bound to a key')
      }
      if (location === 'query' && !settings.allowUnboundTokenInQuery) {
        throw new VerifyError('bearer_refused', 'Access token in a query must be bound to a key')
      }
    }
    for (const method of token.methods) {
      if (!policy.methods.includes(method)) {
        throw new VerifyError(
          'confirmation_method',
          'Binding method of access token is not accepted',
        )
      }
    }
  }

  async function checkRevocation(token: AccessToken): Promise<void> {
    let revoked: boolean | undefined
    try {
      revoked = await settings.isRevoked?.(token)
    } catch (cause) {
      throw new VerifyError('revocation_unavailable', 'Revocation cannot be checked now', { cause })
    }
    if (revoked !== false) throw new VerifyError('token_revoked', 'Access token was revoked')
  }

  function checkProof(
    request: VerifyRequest,
    { ath, jkt, seconds }: { ath: string; jkt: string; seconds: number },
  ): DPoPProof {
    const proof = readDPoPHeader(request.headers)
    if (proof === undefined) throw new VerifyError('dpop_missing', 'DPoP proof missing')
    const { algorithms, maxAge, nonces } = dpop
    return verifyDPoPProof(proof, {
      method: request.method,
      uri: publicUri(request.url),
      now: seconds,
      algorithms,
      maxAge,
      clockTolerance: dpop.clockTolerance,
      ath,
      jkt,
      keys,
      ...(nonces && { acceptNonce: (nonce) => nonces.accepts(nonce, seconds) }),
    })
  }

  /** A store in memory answers at once; then nobody has to wait for a promise. */
  function useOnce(proof: DPoPProof, seconds: number): void | Promise<void> {
    // The last moment at which the proof would still be accepted.
    const expiresAt = proof.iat + dpop.maxAge + dpop.clockTolerance
    let answer: ReplayOutcome | Promise<ReplayOutcome>
    try {
      answer = replay.consume(replayKey(proof), expiresAt, seconds)
    } catch (cause) {
      throw storeFailed(cause)
    }
    // RFC 9449 section 11.1.
    const check = (outcome: ReplayOutcome) => checkOutcome(outcome, 'dpop_replayed', 'DPoP proof')
    if (typeof answer === 'string') return check(answer)
    return answer.then(check, (cause) => {
      throw storeFailed(cause)
    })
  }

  function responseHeaders(location: TokenLocation, proof: DPoPProof | undefined) {
    if (proof?.nonce !== undefined && dpop.nonces !== undefined) {
      const current = dpop.nonces.current(now())
      // RFC 9449 section 8.2: the next nonce, ahead of the refusal. Not for a cache to repeat.
      if (proof.nonce !== current) return Object.freeze({ ...noStore, 'DPoP-Nonce': current })
    }
    // RFC 6750 section 5.3: what a URL with a token brings must not be stored.
    return location === 'query' ? noStore : noHeaders
  }

  function refusal(
    error: VerifyError,
    credential: Pick<Credential, 'scheme'> | undefined,
    token: AccessToken | undefined,
    parameters: ChallengeParameters = {},
  ): VerifyError {
    const { code, status, message, cause } = error
    const enforced = settings.mode === 'enforce'
    const identity = token && identityOf(token)
    emit?.(
      Object.freeze({ type: 'refused', code, status, enforced, message, cause, token: identity }),
    )
    return new VerifyError(code, message, {
      cause,
      challenges:
        status === 503 ? [] : challengesFor(error, credential?.scheme, challenge, parameters),
      ...(code === 'dpop_nonce' && dpop.nonces && { dpopNonce: dpop.nonces.current(now()) }),
    })
  }

  return Object.freeze({
    mode: settings.mode,

    metadata:
      metadataAt !== undefined && resource !== undefined
        ? Object.freeze({
            path: new URL(metadataAt).pathname,
            document: protectedResourceMetadata(
              {
                resource,
                issuers: issuers.map(({ issuer }) => issuer),
                methods,
                allowBearer,
                locations: settings.locations,
                dpopAlgorithms: dpop.algorithms,
              },
              settings.metadata,
            ),
          })
        : undefined,

    async verify(request: VerifyRequest): Promise<Verified> {
      let credential: Credential | undefined
      let token: AccessToken | undefined
      try {
        credential = readCredential(request)
        const { location, scheme } = credential
        const seconds = now()
        const ath = hash('sha256', credential.token, 'base64url')
        const found = tokens.verify(credential.token, ath, seconds)
        const trusted = found instanceof Promise ? await found : found
        token = trusted.token
        checkPolicy(credential, trusted)
        if (settings.isRevoked !== undefined) await checkRevocation(token)

        let proof: DPoPProof | undefined
        for (const confirmation of token.confirmations) {
          if (confirmation.method === 'dpop') {
            proof = checkProof(request, { ath, jkt: confirmation.jkt, seconds })
          } else if (confirmation.method === 'mtls') {
            confirmCertificate(confirmation.thumbprint, request.certificate)
          } else {
            confirmTokenBinding(confirmation.tbh, request.tokenBinding)
          }
        }
        // Last: a proof is used up only by a request that passes everything else.
        const pending = proof && useOnce(proof, seconds)
        if (pending !== undefined) await pending

        const { claims, methods } = token
        emit?.(Object.freeze({ type: 'accepted', methods, location, token: identityOf(token) }))
        return Object.freeze({
          claims,
          token,
          scheme,
          location,
          methods,
          proof,
          responseHeaders: responseHeaders(location, proof),
        })
      } catch (error) {
        if (!(error instanceof VerifyError)) throw error
        throw refusal(error, credential, token)
      }
    },

    publicUrl: publicUri,

    refuse: (error: VerifyError) => refusal(error, undefined, undefined),

    checkRequirements(verified: Verified, requirements: Requirements): void {
      const { claims, token } = verified
      checkRequirements(requirements)
      const unmet = findUnmetRequirement(claims, requirements, now(), clockTolerance)
      if (unmet !== undefined) throw refusal(unmet.error, verified, token, unmet.parameters)
    },
  })
}

function identityOf({ issuer, claims }: AccessToken): TokenIdentity {
  return Object.freeze({ issuer, clientId: claims.client_id, jti: claims.jti })
}

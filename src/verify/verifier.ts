/** Puts the mechanisms together: credential, access token, every confirmation, replay. */
import { hash } from 'node:crypto'
import {
  type AccessToken,
  type AccessTokenClaims,
  createAccessTokenVerifier,
} from './access-token.ts'
import { challengesFor } from './challenge.ts'
import {
  type BindingMethod,
  type CertificateFact,
  confirmCertificate,
  confirmTokenBinding,
  type TokenBindingFact,
} from './confirmation.ts'
import {
  type Credential,
  headerValues,
  type RequestBody,
  type RequestHeaders,
  readCredential,
  type TokenLocation,
} from './credentials.ts'
import { type DPoPProof, ProofKeys, replayKey, verifyDPoPProof } from './dpop.ts'
import { VerifyError } from './errors.ts'
import { checkOptions, type VerifierOptions } from './options.ts'

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
  location: TokenLocation
  /** What was proven, one for each member of `cnf`; empty for a bearer token. */
  methods: readonly BindingMethod[]
  /** The DPoP proof, if there had to be one. */
  proof: DPoPProof | undefined
}>

/** Made by {@link createVerifier}. */
export type Verifier = Readonly<{
  /**
   * Verifies the access token of a request and every key it is bound to.
   *
   * @throws {@link VerifyError} and nothing else, whatever a client may send.
   */
  verify(request: VerifyRequest): Promise<Verified>
}>

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
  const { methods, allowBearer, dpop, replay, clockTolerance, now } = settings
  const tokens = createAccessTokenVerifier({
    issuers: settings.issuers,
    now,
    clockTolerance,
    cacheSeconds: settings.tokenCacheSeconds,
    cacheSize: settings.tokenCacheSize,
  })
  const keys = new ProofKeys()
  const challenges = {
    dpopAlgorithms: methods.includes('dpop') ? dpop.algorithms : undefined,
    bearer: allowBearer || methods.some((method) => method !== 'dpop'),
    realm: settings.realm,
  }

  /** Everything about the token that is the same for each request that carries it. */
  function checkPolicy(credential: Credential, token: AccessToken): void {
    const { confirmations } = token
    // RFC 9449 section 7.2: whoever sends a DPoP-bound token in another way is not its client.
    const dpopBound = confirmations.some(({ method }) => method === 'dpop')
    if (dpopBound && credential.scheme !== 'DPoP') {
      throw new VerifyError('dpop_token_leaked', 'DPoP-bound access token sent without DPoP scheme')
    }
    if (credential.location !== 'header') throw notAllowed()
    if (!dpopBound && credential.scheme === 'DPoP') {
      throw new VerifyError('scheme_mismatch', 'Access token is not DPoP-bound')
    }
    if (confirmations.length === 0 && !allowBearer) {
      throw new VerifyError('bearer_refused', 'Access token must be bound to a key')
    }
    for (const { method } of confirmations) {
      if (!methods.includes(method)) {
        throw new VerifyError(
          'confirmation_method',
          'Access token is bound by a method not accepted',
        )
      }
    }
  }

  function checkProof(request: VerifyRequest, ath: string, jkt: string): DPoPProof {
    const proofs = headerValues(request.headers, 'dpop')
    const [proof] = proofs
    if (proof === undefined) throw new VerifyError('dpop_missing', 'DPoP proof missing')
    // RFC 9449 section 4.3 step 1.
    if (proofs.length > 1) throw new VerifyError('dpop_multiple', 'More than one DPoP proof')
    return verifyDPoPProof(proof, {
      method: request.method,
      uri: settings.publicOrigin + pathOf(request.url),
      now: now(),
      algorithms: dpop.algorithms,
      maxAge: dpop.maxAge,
      clockTolerance,
      ath,
      jkt,
      keys,
    })
  }

  async function useOnce(proof: DPoPProof): Promise<void> {
    // The last moment at which the proof would still be accepted.
    const expiresAt = proof.iat + dpop.maxAge + clockTolerance
    let outcome: Awaited<ReturnType<typeof replay.consume>>
    try {
      outcome = await replay.consume(replayKey(proof), expiresAt, now())
    } catch (cause) {
      throw new VerifyError('replay_store_unavailable', 'Proofs cannot be checked now', { cause })
    }
    if (outcome === 'full') {
      throw new VerifyError('replay_store_full', 'No room to remember another proof')
    }
    // RFC 9449 section 11.1.
    if (outcome !== 'fresh') throw new VerifyError('dpop_replayed', 'DPoP proof was used before')
  }

  return Object.freeze({
    async verify(request: VerifyRequest): Promise<Verified> {
      let credential: Credential | undefined
      try {
        credential = readCredential(request)
        const ath = hash('sha256', credential.token, 'base64url')
        const token = await tokens.verify(credential.token, ath)
        checkPolicy(credential, token)

        let proof: DPoPProof | undefined
        for (const confirmation of token.confirmations) {
          if (confirmation.method === 'dpop') {
            proof = checkProof(request, ath, confirmation.jkt)
          } else if (confirmation.method === 'mtls') {
            confirmCertificate(confirmation.thumbprint, request.certificate)
          } else {
            confirmTokenBinding(confirmation.tbh, request.tokenBinding)
          }
        }
        // Last: a proof is used up only by a request that passes everything else.
        if (proof !== undefined) await useOnce(proof)

        return Object.freeze({
          claims: token.claims,
          token,
          location: credential.location,
          methods: token.confirmations.map(({ method }) => method),
          proof,
        })
      } catch (error) {
        if (!(error instanceof VerifyError)) throw error
        throw new VerifyError(error.code, error.message, {
          cause: error.cause,
          challenges: challengesFor(error, credential?.scheme, challenges),
        })
      }
    },
  })
}

function notAllowed(): VerifyError {
  return new VerifyError('credentials_location', 'Access token is not accepted in this place')
}

/** The path of a request target; of an absolute one, whatever host it names is ignored. */
function pathOf(target: string): string {
  if (target.startsWith('/')) return target
  const path = target.indexOf('/', target.indexOf('://') + 3)
  return target.includes('://') && path !== -1 ? target.slice(path) : '/'
}

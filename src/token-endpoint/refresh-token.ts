import { createHmac } from 'node:crypto'
import {
  type BoundCredential,
  confirmations,
  isBound,
  type ProofWindow,
} from '../bindings/binding.ts'
import {
  hasUsableGrant,
  isInTime,
  isOfClient,
  isUnused,
  sessionGoesOn,
  withAccount,
} from './checks.ts'
import { refuseReuse } from './family.ts'
import {
  type FoundSource,
  findSource,
  type Grant,
  handedDown,
  issueTo,
  type PersonGrantOptions,
  scopesOf,
} from './grant.ts'
import type { KeyChange, RefreshTokenPlan, TokenPolicy } from './issue.ts'
import { isRefusal, type Refusal, refuse } from './refusal.ts'
import type { Found, StoredGrant, StoredRefreshToken, Successor } from './stored.ts'
import { type DecidedKeys, inheritedKeys, isBoundFor, isCertified } from './token-keys.ts'
import { requestedScopes, type TokenRequest } from './token-request.ts'

const gty = 'refresh_token'

export interface RefreshOptions extends PersonGrantOptions {
  /** Seconds for which a refresh token knows two keys; undefined for never. */
  readonly keyOverlapS: number | undefined
  /** When the proof of a successor may have been made. */
  readonly proofWindow: ProofWindow
  /** Seconds after the first use for which a refresh may be repeated. */
  readonly reuseS: number
}

/**
 * RFC 6749 section 6. By the policy `rotate` each token is good once, and is followed by another (RFC
 * 9700 section 4.14.2); by `keep` it stays, and the answer names none.
 */
export function refreshTokenGrant(options: RefreshOptions): Grant<FoundSource<StoredRefreshToken>> {
  const { keyOverlapS, proofWindow, reuseS, isRepeatable } = options
  return {
    grantType: gty,
    required: ['refresh_token'],
    optional: [
      'scope',
      'authorization_details',
      ...(keyOverlapS === undefined ? [] : ['successor']),
    ],

    find: (request, finders) =>
      findSource<StoredRefreshToken>(request, finders, {
        kind: 'RefreshToken',
        value: request.params.refresh_token,
        scopes: (source) => scopesFor(request, source),
      }),

    decide(request, { credential: found, resource }) {
      const { client, now } = request
      const isKept = client.refreshTokens === 'keep'
      if (!found) return refuse('token_unknown', { detail: 'refresh token not found' })
      const { source } = found
      if (!sessionGoesOn(found)) return refuse('session_ended')
      if (!isOfClient(found, client)) return refuse('client_mismatch')
      if (!isBoundFor(found, client)) {
        return refuse('not_bound', { description: 'the refresh token is not bound to a key' })
      }
      if (!isInTime(found, now)) return refuse('token_expired')
      const renewed = renewedKeys(request, source, { overlapS: keyOverlapS, proofWindow })
      if (isRefusal(renewed)) return renewed
      const inherited = inheritedKeys(found, renewed.bound, request)
      if (isRefusal(inherited)) return inherited
      const { found: shown, keys } = inherited
      if (!hasUsableGrant(shown, { clientId: client.clientId, now })) return refuse('grant_gone')
      const exceeding = exceedingScopes(request, shown, options.policy)
      if (exceeding.length > 0) {
        return refuse('scope_exceeds', {
          description: `refresh token missing requested scope${exceeding.length > 1 ? 's' : ''}`,
          scope: exceeding.join(' '),
        })
      }
      const person = withAccount(shown)
      if (isRefusal(person)) return person
      // A client that comes back in time, by the same key, is treated as the first: the statement that
      // consumes decides. Later it is reuse, and ends the family.
      if (!isUnused(person, isRepeatable ? now - reuseS : undefined)) return replayed(source)
      if (resource && isRefusal(resource)) return resource
      const name = source.gty?.endsWith(gty) ? source.gty : `${source.gty ?? ''} ${gty}`.trim()
      const issue = {
        gty: name,
        family: source.family,
        scopes: scopesFor(request, source),
        resource,
        certified: isCertified(client) || source['x5t#S256'] !== undefined,
        isElsewhere: source.gty?.startsWith('device_code') ?? false,
        isKept,
        refreshToken: () =>
          isKept
            ? undefined
            : nextRefreshToken(request, found, { keys, renewed, gty: name, isRepeatable }),
        keyChanges: renewed.changes,
      }
      return issueTo(request, person, issue, options)
    },

    /*
     * Two refreshes at once, both with a proof by the right key, are two tabs of one client: the
     * loser is refused and the winner keeps its tokens.
     */
    lose: (_request, { credential }) =>
      credential && isBound(credential.source)
        ? refuse('refresh_token_replayed')
        : replayed(credential?.source),

    /*
     * A client that gets no answer to a refresh cannot know whether its token was used. For a moment
     * it may ask again, by the same key, and is given the successor that it should have had: the
     * same one, so that a family has one living token, however often it is asked for.
     */
    async mayRepeat({ credential }, { written }, { artifact }) {
      if (!isRepeatable || !credential || !isBound(credential.source)) return false
      const successor = written.find(({ kind }) => kind === 'RefreshToken')
      const stored = successor && (await artifact(successor))
      if (!stored || stored.consumedAt !== null) return false
      return confirmations.every((name) => stored.payload[name] === successor.payload[name])
    },
  }
}

/** The token that takes the place of the one that is used. */
function nextRefreshToken(
  { client }: TokenRequest,
  found: Found<StoredRefreshToken>,
  {
    keys,
    renewed: { successor },
    gty,
    isRepeatable,
  }: { keys: DecidedKeys; renewed: RenewedKeys; gty: string; isRepeatable: boolean },
): RefreshTokenPlan {
  const { source } = found
  return {
    value: isRepeatable ? successorOf(found) : undefined,
    isRepeatable,
    isKept: false,
    bound: keys,
    payload: {
      ...handedDown(source),
      clientId: client.clientId,
      family: source.family,
      gty,
      rotations: (source.rotations ?? 0) + 1,
      iiat: source.iiat ?? source.iat,
      successor,
    } as RefreshTokenPlan['payload'],
  }
}

/** The scopes of the token that the request wants, or all that it has. */
function scopesFor(request: TokenRequest, source: StoredRefreshToken): ReadonlySet<string> {
  const requested = requestedScopes(request)
  const granted = scopesOf(source)
  return requested.length > 0 ? new Set(requested.filter((scope) => granted.has(scope))) : granted
}

/**
 * Scopes that were not granted with the token (RFC 6749 section 6). Libraries repeat the scope of
 * their first request: what this server left out of it, as unknown or as `offline_access`, is left
 * out again, unless nothing remains.
 */
function exceedingScopes(
  request: TokenRequest,
  { source, grant }: Pick<Found<StoredRefreshToken>, 'source'> & { grant: StoredGrant },
  { claimsByScope }: TokenPolicy,
): readonly string[] {
  const granted = scopesOf(source)
  const ofApis = new Set(Object.values(grant.resources ?? {}).flatMap((scope) => scope.split(' ')))
  const missing = requestedScopes(request).filter((scope) => !granted.has(scope))
  const isKnown = (scope: string) => Object.hasOwn(claimsByScope, scope) || ofApis.has(scope)
  return missing.length === requestedScopes(request).length ? missing : missing.filter(isKnown)
}

function replayed(source: StoredRefreshToken | undefined): Refusal {
  return refuseReuse('refresh_token', source, source?.family)
}

interface RenewedKeys {
  readonly bound: BoundCredential
  readonly successor: Successor | undefined
  readonly changes: readonly KeyChange[]
}

/*
 * A refresh token outlives certificates, and sometimes keys. Bound to one key for ever it would
 * send a person to sign in again at each renewal. Where the operator allows it, the key takes its
 * leave instead: it names its successor in a refresh, and for the overlap both are good, until the
 * successor is used. A certificate that authenticates the client has been named by registration.
 */
function renewedKeys(
  request: TokenRequest,
  source: StoredRefreshToken,
  { overlapS, proofWindow }: { overlapS: number | undefined; proofWindow: ProofWindow },
): RenewedKeys | Refusal {
  const { client, params, proofs, now } = request
  if (params.successor !== undefined && client.refreshTokens === 'keep') {
    const description = 'a refresh token that is kept cannot change its key'
    return refuse('successor_name', { description })
  }
  const { jkt, tbh, 'x5t#S256': x5t } = source
  const asItWas = { bound: { jkt, tbh, 'x5t#S256': x5t } as BoundCredential, changes: [] }
  if (overlapS === undefined || client.binding === 'bearer') {
    return { ...asItWas, successor: overlapS === undefined ? undefined : source.successor }
  }
  const { binding } = client
  const from = source[binding.confirmation]
  const key = binding.presented(proofs)
  const rebinds = key !== undefined && key !== from && mayTakeOver(request, source, key)
  const bound = rebinds ? { ...asItWas.bound, [binding.confirmation]: key } : asItWas.bound
  const kept = rebinds ? undefined : source.successor
  const changes: KeyChange[] = rebinds ? [{ step: 'rebound', from, to: key }] : []
  if (params.successor === undefined) return { bound, successor: kept, changes }
  const refreshToken = params.refresh_token ?? ''
  const named = binding.readSuccessor(params.successor, {
    refreshToken,
    uri: request.uri,
    now,
    proofWindow,
  })
  if ('problem' in named) {
    const reason = binding.method === 'dpop' ? 'successor_proof' : 'successor_name'
    return refuse(reason, { description: named.problem })
  }
  return {
    bound,
    successor: { confirmation: named.key, until: now + overlapS },
    changes: [...changes, { step: 'named', from: bound[binding.confirmation], to: named.key }],
  }
}

function mayTakeOver(
  { client: { binding, authenticatesBy }, now }: TokenRequest,
  { successor }: StoredRefreshToken,
  key: string,
): boolean {
  if (successor?.confirmation === key && now < successor.until) return true
  // RFC 8705 section 7.1: the client has authenticated by this very certificate.
  const byCertificate =
    authenticatesBy === 'tls_client_auth' || authenticatesBy === 'self_signed_tls_client_auth'
  return isCertified({ binding }) && byCertificate
}

/**
 * The value of the token that follows. Only digests of tokens are stored, so that it is not looked up
 * but derived: from the token itself, which the database has not got, and from random bytes in its
 * row, which a thief of the token has not got.
 */
function successorOf({ value, source }: Found<StoredRefreshToken>): string | undefined {
  const { succession: successorSeed } = source
  return successorSeed && createHmac('sha256', successorSeed).update(value).digest('base64url')
}

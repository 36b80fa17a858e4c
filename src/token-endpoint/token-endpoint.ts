/**
 * The way of a token request, without HTTP: who asks → what is shown → what is found → what is
 * decided → what is written → the answer. Until something is written nothing has happened, and what
 * is written is one statement.
 */
import type { ConnectionProofs, Proofs } from '../bindings/binding.ts'
import { longestProofWindowS, type ProofCheck } from '../bindings/dpop.ts'
import { currentCertificate } from '../bindings/mtls.ts'
import type { ArtifactTable } from '../storage/artifact-table.ts'
import type { DevicePollTable } from '../storage/device-poll-table.ts'
import { type ReplayTable, replayEntry } from '../storage/replay-table.ts'
import type { ClientAuthenticationOptions } from './client-authentication.ts'
import { type Committed, commit } from './commit.ts'
import { endFamily } from './family.ts'
import { type Form, missingParameters, takeParameters } from './form.ts'
import type { Finders, Grant } from './grant.ts'
import { type Issue, type Issued, type Maker, makeTokens, type TokenAnswer } from './issue.ts'
import {
  authenticate,
  type Caller,
  type MachineRequest,
  type Outcome,
  type RefusedOutcome,
  type Report,
  recordUsedJtis,
} from './machine-request.ts'
import { type Consequence, isRefusal, type Refusal, refuse } from './refusal.ts'
import { provenKeys, refuseUnbound } from './token-keys.ts'
import type { TokenClient, TokenRequest, UsedJti } from './token-request.ts'

/** RFC 8628 section 3.2: seconds between two requests of a device, unless it is told otherwise. */
export interface PollPolicy {
  readonly table: Pick<DevicePollTable, 'take'>
  readonly pauseS: number
  readonly lifetimeS: number
}

export interface TokenEndpointOptions {
  readonly authentication: ClientAuthenticationOptions
  readonly proofs: ProofCheck
  readonly grants: ReadonlyMap<string, Grant<unknown>>
  readonly finders: Finders
  readonly maker: Maker
  readonly artifacts: Pick<ArtifactTable, 'commit' | 'endFamily' | 'removeGrant'>
  readonly replays: Pick<ReplayTable, 'insert'>
  readonly polls: PollPolicy
}

/** What comes of a request: an answer that was committed, or a refusal. */
export interface TokenOutcome extends Outcome {
  readonly result: { readonly body: Committed<TokenAnswer> } | Refusal
}

/** Serves requests for tokens. */
export function createTokenEndpoint(options: TokenEndpointOptions) {
  return async (incoming: MachineRequest): Promise<TokenOutcome> => {
    const caller = await authenticate(incoming, options.authentication)
    if (!('usedJtis' in caller)) return caller
    const { client } = caller
    const grant = chooseGrant(incoming.form, client, options.grants)
    if (isRefusal(grant)) return end(client, grant, caller.usedJtis, options)
    const read = readRequest(incoming, caller, grant, options.proofs)
    if ('refusal' in read) {
      return { ...(await end(client, read.refusal, caller.usedJtis, options)), nonce: read.nonce }
    }
    const { request, usedJtis, nonce } = read
    const found = await grant.find(request, options.finders)
    const decision = grant.decide(request, found)
    const outcome = isRefusal(decision)
      ? await end(client, decision, usedJtis, options)
      : await issue({ request, grant, found, decision, usedJtis }, options)
    // Strangers make keys as fast as they can send: only those of granted requests are kept.
    if (incoming.dpop && !isRefusal(outcome.result)) options.proofs.remember(incoming.dpop)
    return { client, nonce, proven: provenKeys(request.proofs), ...outcome }
  }
}

export type TokenEndpoint = ReturnType<typeof createTokenEndpoint>

function chooseGrant(
  form: Form,
  client: TokenClient,
  grants: TokenEndpointOptions['grants'],
): Grant<unknown> | Refusal {
  const parameters = takeParameters(form, ['grant_type'])
  if (isRefusal(parameters)) return parameters
  const missing = missingParameters(parameters, ['grant_type'])
  if (missing) return missing
  const grant = grants.get(parameters.params.grant_type ?? '')
  if (!grant) return refuse('grant_type_unknown')
  return client.grantTypes.has(grant.grantType) ? grant : refuse('grant_type_forbidden')
}

interface ReadRequest {
  readonly request: TokenRequest
  readonly usedJtis: readonly UsedJti[]
  readonly nonce: string | undefined
}

/**
 * The request that a grant is made from. A client whose tokens are bound and that shows no key is
 * refused here, before anything is looked up, let alone consumed.
 */
function readRequest(
  { form, dpop, connection, uri, now }: MachineRequest,
  { client, usedJtis, assertionKey }: Caller,
  grant: Grant<unknown>,
  checkProofs: ProofCheck,
): ReadRequest | { readonly refusal: Refusal; readonly nonce?: string | undefined } {
  const parameters = takeParameters(form, [...grant.required, ...grant.optional])
  if (isRefusal(parameters)) return { refusal: parameters }
  const { params, resources } = parameters
  if (params.scope !== undefined && !scopeSyntax.test(params.scope)) {
    return { refusal: refuse('scope_malformed') }
  }
  const { binding } = client
  const shown = { connection, hasDPoP: Boolean(dpop), namesResource: resources.length > 0, now }
  if (binding !== 'bearer' && !binding.hasProof(shown)) return { refusal: refuseUnbound(binding) }
  const missing = missingParameters(parameters, grant.required)
  if (missing) return { refusal: missing }
  const base = { client, params, resources, uri, now, assertionKey }
  if (!dpop)
    return {
      request: { ...base, proofs: withoutDPoP(connection, now) },
      usedJtis,
      nonce: undefined,
    }
  const { algorithms } = client
  const checked = checkProofs.check(dpop, { method: 'POST', uri, now, algorithms })
  const { nonce } = checked
  if ('problem' in checked) {
    const { problem, detail: description } = checked
    return { refusal: refuse(problem, { description }), nonce }
  }
  const { proof } = checked
  const entry = replayEntry(client.clientId, proof.jti, now + 2 * longestProofWindowS)
  // A client may give its assertion and its proof one identifier.
  const isShared = usedJtis.some((other) => other.entry.id === entry.id)
  const shownJtis: UsedJti[] = isShared ? [] : [{ entry, replayed: 'dpop_replayed' }]
  const proofs = { ...withoutDPoP(connection, now), dpop: proof }
  return { request: { ...base, proofs }, usedJtis: [...usedJtis, ...shownJtis], nonce }
}

/** RFC 6749 section 3.3. */
const scopeSyntax = /^[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*$/

/** A certificate outside its validity does not count. */
function withoutDPoP(connection: ConnectionProofs, now: number): Proofs {
  const isCurrent = currentCertificate(connection, now * 1000) !== undefined
  return {
    certificate: isCurrent ? connection.certificate : undefined,
    tokenBinding: connection.tokenBinding,
    dpop: undefined,
  }
}

interface Decided {
  readonly request: TokenRequest
  readonly grant: Grant<unknown>
  readonly found: unknown
  readonly decision: Issue
  readonly usedJtis: readonly UsedJti[]
}

/** Makes the tokens, and writes all of it or nothing. */
async function issue(decided: Decided, options: TokenEndpointOptions): Promise<TokenOutcome> {
  const { request, grant, found, decision, usedJtis } = decided
  const issued = await makeTokens(decision, options.maker, request.now)
  const outcome = await commit({ consumes: decision.consumes, issued, usedJtis }, options)
  if (outcome === 'already consumed') {
    const repeated = await repeat(decided, issued, options)
    if (repeated) return repeated
    const lost = grant.lose?.(request, found) ?? refuse('token_unknown')
    return end(request.client, lost, [], options)
  }
  if ('answer' in outcome) return success(decided, outcome.answer)
  const old = usedJtis[outcome.replayed]
  return { result: refuse(old?.replayed ?? 'dpop_replayed') }
}

/** Answers a repeated use, where its grant lets it: with a new access token and nothing else. */
async function repeat(
  decided: Decided,
  issued: Issued,
  options: TokenEndpointOptions,
): Promise<TokenOutcome | undefined> {
  const { grant, found, decision } = decided
  if (!(await grant.mayRepeat?.(found, issued, options.finders))) return undefined
  const written = issued.written.filter(({ kind }) => kind !== 'RefreshToken')
  const repeated = { consumes: undefined, issued: { ...issued, written }, usedJtis: [] }
  const outcome = await commit(repeated, options)
  if (outcome === 'already consumed' || !('answer' in outcome)) return undefined
  return success({ ...decided, decision: { ...decision, keyChanges: [] } }, outcome.answer)
}

function success(
  { request, grant, decision }: Decided,
  answer: Committed<TokenAnswer>,
): TokenOutcome {
  const { dpop } = request.proofs
  const reports: Report[] = decision.keyChanges.map((change) => ({ event: 'key changed', change }))
  if (dpop) reports.push({ event: 'clock skew', seconds: dpop.iat - request.now })
  reports.push({ event: 'tokens issued', grantType: grant.grantType })
  return { account: decision.account, result: { body: answer }, reports }
}

/** Ends a request that is refused. What it leads to needs jtis that were not used before. */
async function end(
  client: TokenClient,
  refusal: Refusal,
  usedJtis: readonly UsedJti[],
  options: TokenEndpointOptions,
): Promise<RefusedOutcome> {
  const replayed = await recordUsedJtis(usedJtis, options.replays)
  const { consequence } = refusal
  if (!consequence) return { client, result: refusal }
  if (replayed) return { client, result: replayed }
  return { client, ...(await follow(refusal, consequence, options)) }
}

async function follow(
  refusal: Refusal,
  consequence: Consequence,
  { artifacts, polls }: TokenEndpointOptions,
): Promise<RefusedOutcome> {
  switch (consequence.kind) {
    case 'end-family': {
      const { kind: _, ...ended } = consequence
      await endFamily(ended, artifacts)
      return { result: refusal, reports: [{ event: 'grant ended', cause: 'reused', ...ended }] }
    }
    case 'poll': {
      const { table, pauseS: pause, lifetimeS } = polls
      const expiresAt = consequence.now + lifetimeS
      const isInTime = await table.take(consequence.id, { pause, expiresAt })
      return { result: isInTime ? refusal : refuse('slow_down') }
    }
  }
}

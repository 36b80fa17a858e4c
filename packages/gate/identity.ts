/** What an application learns of a client, and how: a signed header, or plain ones. */
import type { KeyObject } from 'node:crypto'
import type { AccessTokenClaims, Verified } from '@holdfast/verify'
import { type GateIdentity, signGateRequest } from '@holdfast/verify/gate'
import type { SessionKey } from './browser/sessions.ts'
import { Refusal } from './refusal.ts'

/** Claims that an application learns unless the configuration names others. */
const usualClaims = [
  ...['iss', 'sub', 'client_id', 'scope', 'exp', 'iat', 'jti', 'sid', 'acr', 'amr', 'auth_time'],
  ...['act', 'authorization_details', 'groups', 'roles', 'entitlements'],
]

/** What an application learns of a person who has signed in, beside those. */
const personClaims = ['name', 'email', 'email_verified', 'preferred_username']

/** The identity of a browser's session. */
export function sessionIdentity(
  claims: Readonly<Record<string, unknown>>,
  boundBy: SessionKey['method'] | undefined,
  names: readonly string[] = [...usualClaims, ...personClaims],
): GateIdentity {
  const own = { claims: claims as AccessTokenClaims, methods: [] }
  return { ...identityOf(own, names), methods: boundBy === undefined ? [] : [boundBy] }
}

/** The identity of a verified request. The token, its audience and its `cnf` stay at the gate. */
export function identityOf(
  { claims, methods }: Pick<Verified, 'claims' | 'methods'>,
  names: readonly string[] = usualClaims,
): GateIdentity {
  const chosen = Object.entries(claims).filter(([name]) => names.includes(name) && name !== 'cnf')
  return { claims: Object.fromEntries(chosen) as AccessTokenClaims, methods }
}

/** A key of the gate, with the name under which it is published. */
export type GateKey = Readonly<{ key: KeyObject; keyId: string; publicJwk: Readonly<object> }>

/** What a signed request is made of. */
export type ToSign = Readonly<{
  method: string
  targetUri: string
  fields: readonly string[]
  audience: string
  identity: GateIdentity | undefined
  digest: Uint8Array | undefined
}>

/** The fields that make a request the gate's own. @throws {@link Refusal} `identity_too_large` */
export function signedFields(
  { method, targetUri, fields, audience, identity, digest }: ToSign,
  { key, keyId }: GateKey,
  { nowMs, lifetimeS }: { nowMs: number; lifetimeS: number },
): string[] {
  // Beside the other fields it must fit into what applications read.
  if (JSON.stringify(identity ?? {}).length > 6000) throw new Refusal('identity_too_large')
  return signGateRequest(
    { method, targetUri, headers: fields },
    { key, keyId, audience, identity, digest, now: nowMs / 1000, lifetime: lifetimeS },
  )
}

/** For applications that know no signatures: only where nobody else can reach them. */
export function plainFields(identity: GateIdentity | undefined): string[] {
  if (identity === undefined) return []
  const { sub, client_id: clientId, scope, iss, name, email, groups } = identity.claims
  const named: readonly (readonly [string, unknown])[] = [
    ['X-Holdfast-Issuer', iss],
    ['X-Holdfast-Subject', sub],
    ['X-Holdfast-Client', clientId],
    ['X-Holdfast-Scope', scope],
    ['X-Holdfast-Name', name],
    ['X-Holdfast-Email', email],
  ]
  const fields = named.flatMap(([field, value]) =>
    typeof value === 'string' && value !== '' ? [field, encodeField(value)] : [],
  )
  if (Array.isArray(groups) && groups.length > 0) {
    // Commas separate groups: in the name of one they are encoded too.
    const items = groups.map((each) => encodeField(String(each)).replaceAll(',', '%2C'))
    fields.push('X-Holdfast-Groups', items.join(','))
  }
  return [...fields, 'X-Holdfast-Methods', identity.methods.join(' ')]
}

/** Everything but visible ASCII and single spaces is percent-encoded: no header can be split. */
function encodeField(value: string): string {
  return value.replaceAll(/[^!-$&-~ ]|^ | $/gu, (character) => encodeURIComponent(character))
}

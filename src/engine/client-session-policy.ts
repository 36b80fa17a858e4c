import { type ClientMetadata, errors, type KoaContextWithOIDC } from 'oidc-provider'
import { z } from 'zod'
import { knownAcrs } from '../accounts/acr.ts'

const seconds = z.int().nonnegative()

const rules = {
  /**
   * How old the last proof of a bound session's key may be, in seconds, before the browser is asked
   * for another one. Less than ten seconds would ask those who have just given it.
   */
  proof_max_age: z.int().min(10).optional(),
  /** May a session without a key be used, once its sign-in is over? */
  unbound: z
    .strictObject({
      /** For how many seconds after the sign-in; 0: not at all. */
      max_age: seconds.optional(),
      /** Without a person in front of it? */
      prompt_none: z.boolean().optional(),
    })
    .optional(),
}

const schema = z.strictObject({
  ...rules,
  /** Rules that hold on top when a request names an authentication context (acr_values). */
  acr: z.record(z.string(), z.strictObject(rules)).optional(),
  /** An authentication context that every sign-in for the client must meet, whatever a request asks. */
  required_acr: z.enum(knownAcrs).optional(),
  /** Whether tokens end with the session, those for offline access as well. */
  ends_tokens: z.boolean().optional(),
  /** Whether the client may have sessions of its own on the keys of ours. */
  federation: z.boolean().optional(),
})

/** What a client asks of the sessions that it is used in: the metadata member `session_policy`. */
export type SessionPolicy = z.output<typeof schema>

declare module 'oidc-provider' {
  interface ClientMetadata {
    session_policy?: SessionPolicy | undefined
  }
}

/** The rules for one request, the strictest of those that apply. */
export interface SessionRules {
  readonly proofMaxAge: number
  readonly unboundMaxAge: number
  readonly unboundPromptNone: boolean
}

/** @throws the engine's `invalid_client_metadata`. */
export function checkSessionPolicy(metadata: Pick<ClientMetadata, 'session_policy'>): void {
  if (metadata.session_policy === undefined) return
  const { error } = schema.safeParse(metadata.session_policy)
  if (!error) return
  const [issue] = error.issues
  const where = ['session_policy', ...(issue?.path ?? [])].join('.')
  throw new errors.InvalidClientMetadata(`${where}: ${issue?.message}`)
}

/** The policy of the client that makes a request. */
export function sessionPolicyOf({ oidc }: KoaContextWithOIDC): SessionPolicy {
  const client = oidc.client as { session_policy?: SessionPolicy } | undefined
  return client?.session_policy ?? {}
}

/** The rules of a client for a request that names these authentication contexts. */
export function sessionRules(policy: SessionPolicy, acrs: readonly string[]): SessionRules {
  const applying = [policy, ...acrs.flatMap((acr) => policy.acr?.[acr] ?? [])]
  const least = (values: (number | undefined)[]) =>
    Math.min(...values.map((value) => value ?? Number.POSITIVE_INFINITY))
  return {
    proofMaxAge: least(applying.map(({ proof_max_age }) => proof_max_age)),
    unboundMaxAge: least(applying.map(({ unbound }) => unbound?.max_age)),
    unboundPromptNone: applying.every(({ unbound }) => unbound?.prompt_none ?? true),
  }
}

import { interactionPolicy, type KoaContextWithOIDC } from 'oidc-provider'
import type { GroupDemands } from '../clients/sign-in-rules.ts'
import { acrRequest, missingAcr, unmetAcr } from './authentication-context.ts'
import type { NamedSession } from './browser-request.ts'
import { sessionPolicyOf, sessionRules } from './client-session-policy.ts'
import { browserSessionOf, seenSession } from './session-model.ts'

const { Check, Prompt } = interactionPolicy

/**
 * Adds to the engine's prompts what clients ask of sessions: a session without a key may be too old
 * for this client and lead to a sign-in; the proof of one with a key may be, and lead to another.
 *
 * @param options `now` in milliseconds since the epoch.
 */
export function withSessionPolicy(
  policy: interactionPolicy.DefaultPolicy,
  { now, groupDemands }: { now: () => number; groupDemands: GroupDemands },
): interactionPolicy.DefaultPolicy {
  const login = policy.get('login')?.checks
  login?.add(
    new Check(
      'unbound_session',
      'the session is not bound to a key, and too old for this client without',
      'login_required',
      (ctx) => isTooOldUnbound(ctx, now()),
    ),
  )
  for (const replaced of ['essential_acrs', 'essential_acr']) login?.remove(replaced)
  login?.add(
    new Check(
      'acr_needs_sign_in',
      'the requested acr could not be obtained without a sign-in',
      'login_required',
      (ctx) => needsSignIn(ctx, groupDemands),
    ),
  )
  const proof = new Prompt(
    { name: 'proof', requestable: false },
    new Check(
      'proof_too_old',
      'the last proof of the key of the session is too old for this client',
      'login_required',
      (ctx) => !isFreshEnough(ctx, { named: seenSession(ctx), now: now() }),
    ),
    new Check(
      'acr_needs_key',
      'the browser has not bound the session to a key yet',
      'login_required',
      (ctx) => needsKey(ctx, groupDemands, 'bound session'),
    ),
    new Check(
      'acr_needs_page_key',
      'neither the browser nor a page has bound the session to a key yet',
      'login_required',
      (ctx) => needsKey(ctx, groupDemands, 'page key'),
    ),
  )
  // After the sign-in, and before consent.
  policy.add(proof, 1)
  return policy
}

function needsSignIn(ctx: KoaContextWithOIDC, groupDemands: GroupDemands): boolean {
  const missing = missingAcr(ctx, groupDemands)
  if (!missing || ctx.oidc.result?.login) return false
  const { binding } = browserSessionOf(ctx.oidc.session) ?? {}
  // Neither a key nor a stronger one is registered for a session that continues.
  if (missing === 'bound session' && binding?.method === 'page-key') throw onlyPageKey()
  return missing === 'sign-in' || !binding
}

function needsKey(
  ctx: KoaContextWithOIDC,
  groupDemands: GroupDemands,
  wanted: 'bound session' | 'page key',
): boolean {
  const missing = missingAcr(ctx, groupDemands)
  if (missing === 'sign-in') throw unmetAcr('the sign-in does not meet the requested acr')
  return missing === wanted
}

/** The key that it has is no key of the browser, and a new sign-in in it would not change that. */
const onlyPageKey = () =>
  unmetAcr('the session is locked to a page key only: sign out, and sign in again')

function isTooOldUnbound(ctx: KoaContextWithOIDC, now: number): boolean {
  const { oidc } = ctx
  const session = browserSessionOf(oidc.session)
  // A user who has just typed a password is that user, in any browser.
  if (!session || session.binding?.method === 'dbsc') return false
  if (oidc.session?.tbh || oidc.result?.login) return false
  const { unboundMaxAge, unboundPromptNone } = rulesOf(ctx)
  if (oidc.prompts.has('none') && !unboundPromptNone) return true
  return now - session.signedInAt.getTime() >= unboundMaxAge * 1000
}

/** Whether the last proof of a session's key is as fresh as the client of a request wants it. */
function isFreshEnough(
  ctx: KoaContextWithOIDC,
  { named, now }: { named: NamedSession | undefined; now: number },
): boolean {
  if (!named?.session.binding) return true
  return now - (named.provenAt ?? 0) <= rulesOf(ctx).proofMaxAge * 1000
}

const rulesOf = (ctx: KoaContextWithOIDC) =>
  sessionRules(sessionPolicyOf(ctx), acrRequest(ctx).values)

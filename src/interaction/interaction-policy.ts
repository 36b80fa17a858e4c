import { interactionPolicy } from 'oidc-provider'

/**
 * oidc-provider's `interactions.policy`: its own, and a session whose account was disabled or
 * removed has to sign in again. Without this the engine goes on with no account and fails.
 */
export function createInteractionPolicy(): interactionPolicy.DefaultPolicy {
  const policy = interactionPolicy.base()
  policy
    .get('login')
    ?.checks.add(
      new interactionPolicy.Check(
        'account_not_found',
        'the account of the session can no longer sign in',
        'login_required',
        ({ oidc }) => Boolean(oidc.session?.accountId && !oidc.account),
      ),
    )
  return policy
}

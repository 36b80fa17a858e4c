import { interactionPolicy, type KoaContextWithOIDC } from 'oidc-provider'
import { skipsConsent } from './first-party.ts'
import { type ShownClient, shownDigest, wasShown } from './shown-client.ts'

/**
 * oidc-provider's `interactions.policy`: its own, and a session whose account was disabled or
 * removed has to sign in again. Without this the engine continues with no account and fails.
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
  const consent = policy.get('consent')
  if (!consent) throw new Error('the engine has no consent prompt')
  consent.checks.add(
    new interactionPolicy.Check(
      'client_changed',
      'the client is no longer what consent was given for',
      'consent_required',
      // A grant that is not stored is for what nobody is asked about, or asks for everything.
      (ctx) =>
        isStored(ctx.oidc.grant) && !skipsConsent(ctx) && !wasShown(ctx.oidc.grant, shownNow(ctx)),
    ),
  )
  // What the page is going to show: it is compared with what it then shows.
  consent.details = (ctx) => ({ shown: shownNow(ctx) })
  return policy
}

function isStored(grant: object | undefined): grant is object {
  return grant !== undefined && 'jti' in grant && grant.jti !== undefined
}

function shownNow({ oidc: { client, params, deviceCode } }: KoaContextWithOIDC): string {
  const redirectUri = deviceCode === undefined ? String(params?.redirect_uri) : undefined
  return shownDigest(client as unknown as ShownClient, redirectUri)
}

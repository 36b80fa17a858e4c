import { hash } from 'node:crypto'
import Provider, { type KoaContextWithOIDC } from 'oidc-provider'
import { type ArtifactTable, artifactKey } from '../storage/artifact-table.ts'
import { lifetimes } from './lifetimes.ts'
import { override } from './override.ts'

/*
 * The family of a token is the chain of one authorization: what was issued from one code, and from
 * the refresh tokens that follow. A client and a browser session have one grant for any number of
 * chains. Where a code or refresh token comes back, the engine ends everything of the grant; here
 * the one chain ends, and the others go on.
 */

interface FamilyMember {
  family?: string | undefined
}

/** For how long an ended family is remembered, in seconds: longer than any token lives. */
const rememberSeconds = lifetimes.RefreshToken + 60 * 60

/** Gives tokens their family, and ends families instead of grants at the token endpoint. */
export function keepFamilies(engine: Provider, artifacts: ArtifactTable): void {
  override(
    engine,
    'RefreshToken',
    (Base) =>
      class extends Base implements FamilyMember {
        declare family?: string | undefined

        static override get IN_PAYLOAD(): string[] {
          return [...super.IN_PAYLOAD, 'family']
        }

        override async save(): Promise<string> {
          this.family ??= presentedFamily(Provider.ctx)
          return super.save()
        }

        static override async revokeByGrantId(grantId: string): Promise<void> {
          if (presentedFamily(Provider.ctx) === undefined) await super.revokeByGrantId(grantId)
        }
      },
  )
  override(
    engine,
    'AccessToken',
    (Base) =>
      class extends Base implements FamilyMember {
        declare family?: string | undefined

        static override get IN_PAYLOAD(): string[] {
          return [...super.IN_PAYLOAD, 'family']
        }

        override async save(): Promise<string> {
          this.family ??= presentedFamily(Provider.ctx)
          return super.save()
        }

        // The engine revokes the access tokens of a grant whenever it revokes anything of it.
        static override async revokeByGrantId(grantId: string): Promise<void> {
          const familyId = presentedFamily(Provider.ctx)
          if (familyId === undefined) await super.revokeByGrantId(grantId)
          else await artifacts.endFamily({ grantId, familyId, rememberSeconds })
        }
      },
  )
  // Codes that wait to be redeemed are of other chains.
  override(
    engine,
    'AuthorizationCode',
    (Base) =>
      class extends Base {
        static override async revokeByGrantId(grantId: string): Promise<void> {
          if (presentedFamily(Provider.ctx) === undefined) await super.revokeByGrantId(grantId)
        }
      },
  )
  override(
    engine,
    'DeviceCode',
    (Base) =>
      class extends Base {
        static override async revokeByGrantId(grantId: string): Promise<void> {
          if (presentedFamily(Provider.ctx) === undefined) await super.revokeByGrantId(grantId)
        }
      },
  )
}

/**
 * The engine's `revokeGrantPolicy`: whether what a person has allowed ends with the tokens. It stays
 * where one chain ends, and where a client revokes an access token.
 */
export function endsGrant(ctx: KoaContextWithOIDC): boolean {
  if (ctx.oidc.route === 'revocation') return ctx.oidc.entities.AccessToken === undefined
  return presentedFamily(ctx) === undefined
}

/** Ends the family of the code or refresh token that a token request came with. */
export async function endPresentedFamily(
  ctx: KoaContextWithOIDC,
  grantId: string,
  artifacts: ArtifactTable,
): Promise<void> {
  const familyId = presentedFamily(ctx)
  if (familyId === undefined) await artifacts.removeGrant(artifactKey('Grant', grantId), grantId)
  else await artifacts.endFamily({ grantId, familyId, rememberSeconds })
}

/**
 * The family of what a token request came with: of a refresh token the stored one, of a code one
 * that is derived from it. Undefined for a refresh token that the previous release has issued.
 */
function presentedFamily(ctx: KoaContextWithOIDC | undefined): string | undefined {
  if (ctx?.oidc.route !== 'token') return undefined
  const { grant_type, code, device_code } = ctx.oidc.params ?? {}
  const { RotatedRefreshToken, RefreshToken } = ctx.oidc.entities
  if (grant_type === 'refresh_token') {
    return ((RotatedRefreshToken ?? RefreshToken) as FamilyMember | undefined)?.family
  }
  const redeemed = code ?? device_code
  if (typeof redeemed !== 'string') return undefined
  return hash('sha256', `family of ${redeemed}`, 'base64url')
}

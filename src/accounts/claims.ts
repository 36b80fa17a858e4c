/**
 * What tokens, UserInfo and introspection say of a person: the one place that decides it. Standard
 * claims come with the scopes of OpenID Connect; administrators add others by mappings.
 */
import type { AccountClaims, FindAccount, KoaContextWithOIDC } from 'oidc-provider'
import type { Account } from '../storage/account-store.ts'
import type { ClaimMapping } from '../storage/claim-mapping-table.ts'

/** Which scope asks for which claims: oidc-provider's `claims` option. */
export const claimsByScope = {
  openid: ['sub'],
  profile: [
    'name',
    'given_name',
    'family_name',
    'preferred_username',
    'picture',
    'zoneinfo',
    'locale',
    'updated_at',
  ],
  email: ['email', 'email_verified'],
  address: ['address'],
  phone: ['phone_number', 'phone_number_verified'],
  groups: ['groups'],
}

/** Everything that an account says of its person, as standard claims. */
export function accountClaims(account: Account): AccountClaims {
  const { id, email, name, emailVerified, phone, updatedAt, createdAt } = account
  const claims = {
    sub: id,
    email,
    // Relying parties link accounts by a verified email: a claim that is not earned lets one person
    // into another's account. It is true only where an operator has said so.
    email_verified: emailVerified === true,
    name,
    given_name: account.givenName,
    family_name: account.familyName,
    // Two names of which people choose one could make a person look like another.
    preferred_username: account.username ?? account.preferredUsername,
    picture: account.picture,
    zoneinfo: account.zoneinfo,
    locale: account.locale,
    updated_at: Math.floor((updatedAt ?? createdAt).getTime() / 1000),
    groups: account.groups,
    address: addressOf(account),
    ...(phone && {
      phone_number: phone,
      phone_number_verified: account.phoneVerified === true,
    }),
  }
  const known = Object.entries(claims).filter(([, value]) => value !== undefined)
  return Object.fromEntries(known) as AccountClaims
}

/** OpenID Connect Core section 5.1.1. */
function addressOf(account: Account): AccountClaims['address'] {
  const members = Object.entries({
    street_address: account.streetAddress,
    locality: account.locality,
    region: account.region,
    postal_code: account.postalCode,
    country: account.country,
  }).filter(([, value]) => value !== undefined)
  return members.length > 0 ? Object.fromEntries(members) : undefined
}

/** For whom the claims are: a client, and the scopes that it was granted. */
export interface ClaimsAudience {
  readonly clientId: string
  readonly scopes: Iterable<string>
}

/**
 * The claims that mappings add. One that names the client takes the place of one that names none;
 * an attribute that the account does not have adds nothing.
 */
export function mappedClaims(
  account: Account,
  mappings: readonly ClaimMapping[],
  { clientId, scopes }: ClaimsAudience,
): Record<string, unknown> {
  if (mappings.length === 0) return {}
  const granted = new Set(scopes)
  const applying = mappings.filter(
    ({ scope, client }) => granted.has(scope) && (client === undefined || client === clientId),
  )
  const generalFirst = [
    ...applying.filter(({ client }) => client === undefined),
    ...applying.filter(({ client }) => client !== undefined),
  ]
  const values = generalFirst.map(
    (mapping) => [mapping.claim, claimValue(mapping, account)] as const,
  )
  return Object.fromEntries(values.filter(([, value]) => value !== undefined))
}

function claimValue({ attribute, value }: ClaimMapping, account: Account): unknown {
  if (attribute === undefined) return value
  const known = { ...account.attributes, ...accountClaims(account) }
  return Object.hasOwn(known, attribute) ? known[attribute] : undefined
}

/** Where the engine's account keeps what mappings add, for {@link addMappedClaims} of the engine. */
export const mapped = Symbol('mapped claims')

export type MappedClaims = (audience: ClaimsAudience) => Record<string, unknown>

/**
 * oidc-provider's `findAccount`. A disabled account is not found, so its codes, refresh tokens and
 * opaque access tokens stop at once; a JWT access token ends with its own `exp`.
 */
export function createFindAccount(
  findActive: (id: string, ctx: KoaContextWithOIDC) => Promise<Account | undefined>,
  findMappings: () => Promise<readonly ClaimMapping[]> = async () => [],
): FindAccount {
  return async (ctx, sub) => {
    const [account, mappings] = await Promise.all([findActive(sub, ctx), findMappings()])
    if (!account) return undefined
    const mapping: MappedClaims = (audience) => mappedClaims(account, mappings, audience)
    const claims = () => ({ ...accountClaims(account), [mapped]: mapping })
    return { accountId: account.id, claims, groups: account.groups }
  }
}

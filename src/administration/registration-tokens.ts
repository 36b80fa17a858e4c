import { randomBytes } from 'node:crypto'
import { z } from 'zod'
import { claimsByScope } from '../accounts/claims.ts'
import { type BindingMethod, bindingMethods } from '../clients/binding-method.ts'
import { scopePattern, standardScopesOf } from '../clients/client-scopes.ts'
import {
  defaultPolicy,
  defaultScopes,
  registrableAuthMethods,
  registrableGrantTypes,
} from '../clients/registration-policy.ts'
import { displayNameRule, displayNameSchema, isDisplayName } from '../net/display-name.ts'
import type {
  RegistrationPolicy,
  RegistrationTable,
  StoredInitialAccessToken,
} from '../storage/registration-table.ts'
import type { ResourceServerTable } from '../storage/resource-server-table.ts'
import type { RecordChange } from './administration.ts'
import { AdministrationError } from './administration-error.ts'
import { isDigest } from './digest.ts'

const day = 24 * 60 * 60
const longest = 365 * day
const most = 10_000

/** A list that is not empty. */
const some = <Each extends z.ZodType>(each: Each) => z.array(each).min(1).max(50)

/** RFC 6749 section 3.3. */
const scope = z.string().regex(scopePattern, 'must be a scope')

const host = z
  .string()
  .regex(/^[a-z\d.-]+$/i, 'must be a host such as app.example.com')
  .transform((text) => text.toLowerCase())

/** What an administrator says of a new initial access token. */
export const newRegistrationToken = z
  .strictObject({
    name: z
      .string()
      .refine((text) => isDisplayName(text, 100), `must be ${displayNameRule(100)}`)
      .meta(displayNameSchema(100)),
    /** Seconds. */
    lifetime: z.int().min(60).max(longest).default(day),
    uses: z.int().min(1).max(most).default(1),
    bearer: z.boolean().default(false),
    conformant: z
      .boolean()
      .default(false)
      .describe(
        'Clients that name no binding get bearer tokens and may leave out PKCE and nonce; this token may be used as a bearer token',
      ),
    jkt: z
      .string()
      .regex(/^[\w-]{42}[AEIMQUYcgkosw048]$/, 'must be a thumbprint (RFC 7638)')
      .describe('RFC 7638 thumbprint of the only key that may use it')
      .optional(),
    grantTypes: some(z.enum(registrableGrantTypes)).default([...defaultPolicy.grantTypes] as never),
    authMethods: some(z.enum(registrableAuthMethods)).default([
      ...defaultPolicy.authMethods,
    ] as never),
    bindingMethods: some(z.enum(bindingMethods as [BindingMethod])).optional(),
    scopes: some(scope).optional(),
    redirectHosts: some(host).optional(),
  })
  .meta({
    // Checked below: a token cannot be both.
    anyOf: [{ properties: { bearer: { const: false } } }, { not: { required: ['jkt'] } }],
  })

export type NewRegistrationToken = z.input<typeof newRegistrationToken>

/** What lets applications register themselves (RFC 7591 section 3). */
export function administerRegistrationTokens(
  table: RegistrationTable,
  resources: Pick<ResourceServerTable, 'list'>,
  recordChange: RecordChange,
) {
  return {
    list: () => table.listInitialTokens(),

    /**
     * The token is in the answer, and known only from it.
     *
     * @throws AdministrationError `invalid_request`
     */
    async add(asked: NewRegistrationToken): Promise<StoredInitialAccessToken & { token: string }> {
      const { name, lifetime, uses, jkt = null, conformant, ...choices } = read(asked)
      const bearer = choices.bearer || (conformant && jkt === null)
      const chosen = choices.bindingMethods ?? [...defaultPolicy.bindingMethods]
      const named = choices.bindingMethods === undefined && conformant
      const bindingMethods = named ? [...chosen, 'bearer' as const] : chosen
      if (conformant && !bindingMethods.includes('bearer')) {
        throw new AdministrationError(
          'invalid_request',
          'A conformant token needs the binding bearer: add it to the bindings.',
        )
      }
      if (bearer && jkt !== null) {
        throw new AdministrationError(
          'invalid_request',
          'A bearer token is bound to no key: choose one.',
        )
      }
      const scopes = choices.scopes ?? defaultScopes(conformant)
      await checkScopes(scopes, resources)
      const policy: RegistrationPolicy = {
        grantTypes: choices.grantTypes,
        authMethods: choices.authMethods,
        bindingMethods,
        scopes,
        ...(conformant && { conformant }),
        redirectHosts: choices.redirectHosts ?? null,
      }
      const token = randomBytes(32).toString('base64url')
      const stored = await table.insertInitialToken(token, {
        name,
        policy,
        bearer,
        jkt,
        uses,
        lifetimeS: lifetime,
      })
      recordChange(
        'registration_token.added',
        {},
        {
          id: stored.id,
          name,
          uses,
          bearer,
          ...(conformant && { conformant }),
        },
      )
      return { ...stored, token }
    },

    /** Clients that were registered with it stay. */
    async remove(id: string): Promise<void> {
      const name = isDigest(id) ? await table.removeInitialToken(id) : undefined
      if (name === undefined) {
        throw new AdministrationError('not_found', `There is no registration token ${id}.`)
      }
      recordChange('registration_token.removed', {}, { id, name })
    },
  }
}

/** With an unknown scope, clients would register for what they can never have. */
async function checkScopes(
  scopes: readonly string[],
  resources: Pick<ResourceServerTable, 'list'>,
): Promise<void> {
  const standard = standardScopesOf(claimsByScope)
  const others = scopes.filter((each) => !standard.has(each))
  if (others.length === 0) return
  const known = new Set((await resources.list()).flatMap((api) => api.scopes))
  const unknown = others.find((each) => !known.has(each))
  if (unknown === undefined) return
  throw new AdministrationError(
    'invalid_request',
    `${unknown} is not a scope of this server or of a registered API. Register the API first: ` +
      `holdfast resources add URI --scope ${unknown}`,
  )
}

function read(asked: NewRegistrationToken): z.output<typeof newRegistrationToken> {
  const { data, error } = newRegistrationToken.safeParse(asked)
  if (data) return data
  const [issue] = error.issues
  const where = issue?.path.join('.') || 'The registration token'
  throw new AdministrationError('invalid_request', `${where}: ${issue?.message}.`, { cause: error })
}

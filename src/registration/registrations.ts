import { randomBytes, randomUUID } from 'node:crypto'
import type { ClientMetadata } from 'oidc-provider'
import {
  type MetadataValidator,
  type PreparedClient,
  prepareClient,
  RegistrationError,
  type RequestedMetadata,
} from '../clients/client-registration.ts'
import { joinScopes, splitScopes } from '../clients/client-scopes.ts'
import { matchesSecret } from '../clients/client-secret.ts'
import { openClient, openPolicy } from '../clients/open-clients.ts'
import { applyPolicy } from '../clients/registration-policy.ts'
import type { ClientTable } from '../storage/client-table.ts'
import type {
  RegistrationTable,
  StoredInitialAccessToken,
  StoredRegistration,
} from '../storage/registration-table.ts'

/** What a client asks for: JSON of any shape. */
export type RegistrationRequest = Readonly<Record<string, unknown>>

/** RFC 7591 section 3.2.1: the metadata as it was registered, by the names of the wire. */
export type ClientInformation = Readonly<Record<string, unknown>>

/** What a client must not send back (RFC 7592 section 2.2). */
const provisioned = [
  'registration_access_token',
  'registration_client_uri',
  'client_secret_expires_at',
  'client_id_issued_at',
]

/** How often a change is tried again that met another one, which has succeeded each time. */
const attempts = 50

export type Registrations = ReturnType<typeof createRegistrations>

/** Dynamic client registration (RFC 7591) and its management (RFC 7592), without their HTTP. */
export function createRegistrations({
  table,
  clients,
  validator,
  standardScopes,
  now,
}: {
  table: RegistrationTable
  clients: Pick<ClientTable, 'remove' | 'replace'>
  validator: MetadataValidator
  /** The scopes of this server itself. */
  standardScopes: ReadonlySet<string>
  /** Milliseconds since the epoch. */
  now: () => number
}) {
  function describe({ metadata, secret }: PreparedClient): ClientInformation {
    const {
      client_secret: _,
      self_registered: __,
      open_client: ___,
      ...shown
    } = new validator.Client(metadata).metadata()
    return {
      ...joinScopes(shown),
      // Section 3.2.1: 0 for one that does not expire. What is stored of a secret is shown to nobody.
      ...(secret !== undefined && { client_secret: secret, client_secret_expires_at: 0 }),
    }
  }

  function prepare(
    requested: RequestedMetadata,
    identity: Pick<ClientMetadata, 'client_id' | 'client_id_issued_at'>,
    storedSecret?: string,
  ): PreparedClient {
    const split = splitScopes(requested, standardScopes)
    const metadata = { ...split, ...identity, self_registered: true } as const
    return prepareClient(metadata, validator, storedSecret)
  }

  return {
    /**
     * Registers a client. The secret and the registration access token are in the answer, and
     * known only from it.
     *
     * @param jkt the key that the registration access token is bound to; null for a bearer token.
     * @returns undefined when the initial access token was used up meanwhile.
     * @throws {@link RegistrationError}
     */
    async register(
      request: RegistrationRequest,
      initial: Pick<StoredInitialAccessToken, 'policy'> & { readonly token: string },
      jkt: string | null,
    ): Promise<{ information: ClientInformation; token: string } | undefined> {
      const prepared = prepare(applyPolicy(initial.policy, request), {
        client_id: randomUUID(),
        client_id_issued_at: Math.floor(now() / 1000),
      })
      const token = randomBytes(32).toString('base64url')
      const registered = await table.register({
        initialToken: initial.token,
        registrationToken: token,
        jkt,
        metadata: prepared.metadata,
      })
      return registered ? { information: describe(prepared), token } : undefined
    },

    /**
     * Registers a client that shows no initial access token. Nobody can change it later: it gets no
     * registration access token.
     *
     * @returns undefined when too many clients wait for a user to sign in to them.
     * @throws {@link RegistrationError}
     */
    async registerOpen(request: RegistrationRequest): Promise<ClientInformation | undefined> {
      const asked = openClient('registration', request)
      const issuedAt = Math.floor(now() / 1000)
      const identity = { client_id: randomUUID(), client_id_issued_at: issuedAt }
      const prepared = prepareClient({ ...asked, ...identity }, validator)
      const isRegistered = await table.registerOpen({
        metadata: prepared.metadata,
        policy: openPolicy,
        unusedToken: randomBytes(32).toString('base64url'),
      })
      return isRegistered ? describe(prepared) : undefined
    },

    read: ({ metadata }: StoredRegistration): ClientInformation =>
      describe({ metadata, secret: undefined }),

    /**
     * Replaces the metadata of a client as a whole: what is left out is no longer there. The secret
     * stays, unless the client authenticates in another way from now on, or gives it up by null: then
     * another one is made, and is in the answer.
     *
     * @returns undefined when the client was removed meanwhile.
     * @throws {@link RegistrationError}
     */
    async update(
      request: RegistrationRequest,
      { metadata: { client_id } }: StoredRegistration,
      token: string,
    ): Promise<ClientInformation | undefined> {
      for (let attempt = 0; attempt < attempts; attempt += 1) {
        const stored = await table.find(client_id, token)
        if (!stored) return undefined
        const { metadata: before, policy } = stored
        checkIdentity(request, before)
        const prepared = prepare(
          applyPolicy(policy, request),
          { client_id, client_id_issued_at: before.client_id_issued_at },
          request.client_secret === null ? undefined : before.client_secret,
        )
        if (await clients.replace(before, prepared.metadata)) return describe(prepared)
      }
      throw new Error('the client is changed by too many requests at once')
    },

    async remove({ metadata }: StoredRegistration): Promise<void> {
      await clients.remove(metadata.client_id)
    },
  }
}

/** RFC 7592 section 2.2. */
function checkIdentity(request: RegistrationRequest, { client_id, client_secret }: ClientMetadata) {
  const sent = provisioned.find((name) => request[name] !== undefined)
  if (sent) throw invalid(`a change must not have ${sent}`)
  if (request.client_id !== client_id) throw invalid('client_id must be that of the client')
  const { client_secret: secret } = request
  // Null stands for what is to be there no more. It does not take a client's word for who it is: the
  // key of its registration access token was proven.
  if (secret === undefined || secret === null) return
  // A secret is made here, and never chosen by the client.
  if (typeof secret !== 'string' || !matchesSecret(secret, client_secret)) {
    throw invalid('client_secret must be that of the client, null for a new one, or left out')
  }
}

function invalid(what: string): RegistrationError {
  return new RegistrationError('invalid_client_metadata', `The client cannot be changed: ${what}.`)
}

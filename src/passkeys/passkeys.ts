/**
 * Passkeys: WebAuthn Level 3 credentials that the authenticator can list by itself, each use of
 * which verifies the person. A challenge is used up by the statement that signs someone in or adds
 * a passkey; until then a page that shows one has written nothing.
 */
import {
  type AuthenticatorTransportFuture,
  generateRegistrationOptions,
  type PublicKeyCredentialCreationOptionsJSON,
  type VerifiedRegistrationResponse,
  verifyAuthenticationResponse,
  verifyRegistrationResponse,
} from '@simplewebauthn/server'
import { lifetimes } from '../config/lifetimes.ts'
import { displayNameRule, isDisplayName } from '../net/display-name.ts'
import type { Account, OwnChange } from '../storage/account-store.ts'
import type { FoundPasskey, Passkey, PasskeyTable } from '../storage/passkey-table.ts'
import { type ReplayEntry, replayEntry } from '../storage/replay-table.ts'
import {
  type AttestationPolicy,
  type AttestationRefusal,
  attestationRefusal,
  withoutStatement,
} from './attestation.ts'
import type { Challenges } from './challenge.ts'
import {
  type Assertion,
  type Attestation,
  readAssertion,
  readAttestation,
  readClientData,
} from './response.ts'
import {
  acceptedPasskeysSignal,
  type PasskeySignals,
  unknownPasskeySignal,
  userDetailsSignal,
} from './signals.ts'

/** The relying party, as browsers know it. */
export interface RelyingParty {
  /** A host name: that of the issuer, a domain above it, or one that names our origin as related. */
  readonly id: string
  readonly origin: string
  /** The models of authenticators that may be used; undefined where all may. */
  readonly attestation: AttestationPolicy | undefined
}

/** Why a response of a browser was refused, for the operator; people see one sentence for all. */
export type PasskeyRefusal =
  /** No JSON of such a response, or made in a frame of another site. */
  | 'malformed'
  /** Not made for this page, or too late. */
  | 'challenge'
  | 'unknown'
  /** Its account is disabled, or it was removed this moment. */
  | 'gone'
  /** Origin, RP ID, user verification, signature: what the library checks. */
  | 'response'
  /** Of another account than the page is for. */
  | 'account'
  /** Of a model that is not listed, or not certified to be. */
  | 'authenticator'
  | 'replayed'
  /** The counter of the authenticator did not rise: there may be a copy of it. */
  | 'counter'

export type PasskeyAuthentication =
  | { readonly account: Account; readonly passkey: Passkey }
  | {
      readonly account: undefined
      readonly reason: PasskeyRefusal
      /** Whose passkey it is, where that is known by its signature. */
      readonly of: string | undefined
      /** For the browser that has shown it. */
      readonly signals: PasskeySignals | undefined
    }

export type PasskeyRegistration =
  | { readonly id: string; readonly aaguid: string }
  | {
      readonly id: undefined
      readonly reason: 'malformed' | 'challenge' | 'response' | 'not_added'
    }
  | {
      readonly id: undefined
      readonly reason: 'authenticator'
      readonly attestation: AttestationRefusal
    }

/** What a page gives to its script, to ask the browser for an assertion. */
export interface RequestOptions {
  readonly challenge: string
  readonly rpId: string
  /** Credential ids; of none the browser shows all that it has for us. */
  readonly allow: readonly string[]
}

export type Passkeys = ReturnType<typeof createPasskeys>

/** The most characters of the name that a person gives a passkey. */
export const maxPasskeyNameCharacters = 60

/** The name of a passkey in its one form; undefined for what must not be shown as a name. */
export function readPasskeyName(typed: string): string | undefined {
  const text = typed.trim().normalize('NFC')
  return isDisplayName(text, maxPasskeyNameCharacters) ? text : undefined
}

export const passkeyNameRule = displayNameRule(maxPasskeyNameCharacters)

/** An assertion is asked for by pages of an interaction; a passkey by a page for just that. */
const requestLifetimeS = lifetimes.Interaction
const creationLifetimeS = 10 * 60

/** COSE algorithms: Ed25519, ES256 and RS256, which Windows Hello needs. */
const algorithms = [-8, -7, -257]

export function createPasskeys({
  table,
  challenges,
  party,
  now,
}: {
  table: Pick<PasskeyTable, 'find' | 'use' | 'listOf' | 'add' | 'addByLink'>
  challenges: Challenges
  party: RelyingParty
  /** Milliseconds since the epoch. */
  now: () => number
}) {
  /** A challenge of a response, as the entry that uses it up. */
  function challengeOf(clientDataJSON: string, purpose: string) {
    const challenge = readClientData(clientDataJSON)?.challenge
    if (challenge === undefined) return undefined
    const expiresAt = challenges.endOf(purpose, challenge)
    return {
      challenge,
      entry: expiresAt === undefined ? undefined : entryOf(challenge, expiresAt),
    }
  }

  /** Whether a passkey is of a model that may be used now: the list may have changed since. */
  const isAllowed = ({ attested, aaguid }: Passkey) =>
    !party.attestation || (attested && party.attestation.aaguids.includes(aaguid))

  function policyRefusal({ response }: Attestation): AttestationRefusal | 'malformed' | undefined {
    if (!party.attestation) return undefined
    try {
      return attestationRefusal(response.attestationObject, party.attestation, now())
    } catch {
      return 'malformed'
    }
  }

  return {
    isAllowed,

    /** What a page of an account has its browser know, of all passkeys of it or of its name alone. */
    signalsOf(account: Account, own?: readonly Passkey[]): PasskeySignals {
      const accepted = own && acceptedPasskeysSignal(party.id, account, own)
      return { ...accepted, ...userDetailsSignal(party.id, account) }
    },

    /** For the page on which an account has ended. */
    endSignals: (account: Account): PasskeySignals => acceptedPasskeysSignal(party.id, account, []),

    requestOptions(purpose: string, allow: readonly Passkey[] = []): RequestOptions {
      const ids = allow.map(({ credentialId }) => credentialId)
      return { challenge: challenges.make(purpose, requestLifetimeS), rpId: party.id, allow: ids }
    },

    /**
     * Authenticates a person by what the browser answered to {@link requestOptions}. Not checked is
     * how often that is tried.
     *
     * @param purpose the same that the options were made for.
     * @param accountId the only account whose passkeys count here; by default those of all do.
     */
    async authenticate(
      text: string,
      purpose: string,
      accountId?: string,
    ): Promise<PasskeyAuthentication> {
      const assertion = readAssertion(text)
      const read = assertion && challengeOf(assertion.response.clientDataJSON, purpose)
      if (!assertion || !read) return refused('malformed')
      if (!read.entry) return refused('challenge')
      const found = await table.find(assertion.id)
      if (!found) return refused('unknown', undefined, unknownPasskeySignal(party.id, assertion.id))
      if (found === 'disabled') return refused('gone')
      const checked = await checkAssertion(assertion, { found, party, challenge: read.challenge })
      if (!checked) return refused('response')
      const { account, passkey } = found
      if (accountId !== undefined && account.id !== accountId) return refused('account', account.id)
      // The signature was right: its owner may learn what is wrong.
      if (!isAllowed(passkey)) return refused('authenticator', account.id)
      const outcome = await table.use(passkey.id, { ...checked, challenge: read.entry })
      if (outcome === 'used') return { account, passkey }
      return refused(outcome, account.id)
    },

    async creationOptions(
      account: Account,
      purpose: string,
    ): Promise<PublicKeyCredentialCreationOptionsJSON> {
      // One that does not count any more must not keep the same authenticator from being added again.
      const known = (await table.listOf(account.id)).filter(isAllowed)
      return generateRegistrationOptions({
        rpName: 'Holdfast',
        rpID: party.id,
        // Random, and no name: a finder of the authenticator learns nothing of its owner.
        userID: new TextEncoder().encode(account.id),
        userName: account.email,
        userDisplayName: account.name ?? account.email,
        challenge: Buffer.from(challenges.make(purpose, creationLifetimeS), 'base64url'),
        attestationType: party.attestation ? 'direct' : 'none',
        excludeCredentials: known.map(({ credentialId, transports }) => ({
          id: credentialId,
          transports: [...transports] as AuthenticatorTransportFuture[],
        })),
        authenticatorSelection: { residentKey: 'required', userVerification: 'required' },
        supportedAlgorithmIDs: algorithms,
      })
    },

    /**
     * Adds the passkey that the browser made by {@link creationOptions}. Whether the person may add
     * one is not checked: give those options only to those who may.
     *
     * @param link the digest of a one-time link that is used up with it.
     */
    async register(
      text: string,
      purpose: string,
      { name, by, link }: { name: string; by: OwnChange; link?: Buffer },
    ): Promise<PasskeyRegistration> {
      const attestation = readAttestation(text)
      const read = attestation && challengeOf(attestation.response.clientDataJSON, purpose)
      if (!attestation || !read) return { id: undefined, reason: 'malformed' }
      if (!read.entry) return { id: undefined, reason: 'challenge' }
      const refusal = policyRefusal(attestation)
      if (refusal === 'malformed') return { id: undefined, reason: refusal }
      if (refusal) return { id: undefined, reason: 'authenticator', attestation: refusal }
      const made = await checkAttestation(attestation, { party, challenge: read.challenge })
      if (!made) return { id: undefined, reason: 'response' }
      const { aaguid, credential, credentialDeviceType, credentialBackedUp } = made
      const passkey = {
        accountId: by.accountId,
        credentialId: credential.id,
        publicKey: credential.publicKey,
        signCount: credential.counter,
        transports: attestation.response.transports,
        backupEligible: credentialDeviceType === 'multiDevice',
        backedUp: credentialBackedUp,
        aaguid,
        attested: party.attestation !== undefined,
        name,
      }
      const id = await (link
        ? table.addByLink(passkey, read.entry, { ...by, link })
        : table.add(passkey, read.entry, by))
      return id === undefined ? { id, reason: 'not_added' } : { id, aaguid }
    },
  }
}

function refused(
  reason: PasskeyRefusal,
  of?: string,
  signals?: PasskeySignals,
): PasskeyAuthentication {
  return { account: undefined, reason, of, signals }
}

const entryOf = (challenge: string, expiresAt: number): ReplayEntry =>
  replayEntry('passkey', challenge, expiresAt)

interface Expected {
  readonly party: RelyingParty
  readonly challenge: string
}

/** Checks everything about an assertion that needs no other statement. */
async function checkAssertion(
  assertion: Assertion,
  { found, party, challenge }: Expected & { found: FoundPasskey },
): Promise<{ signCount: number; backedUp: boolean } | undefined> {
  const { account, passkey, publicKey } = found
  const { userHandle } = assertion.response
  if (Buffer.from(userHandle, 'base64url').toString() !== account.id) return undefined
  const { verified, authenticationInfo } = await orRefused(() =>
    verifyAuthenticationResponse({
      response: assertion,
      expectedChallenge: challenge,
      expectedOrigin: party.origin,
      expectedRPID: party.id,
      requireUserVerification: true,
      // The counter is compared by the statement that uses the challenge.
      credential: { id: passkey.credentialId, publicKey, counter: 0 },
    }),
  )
  if (!verified || !authenticationInfo) return undefined
  const { newCounter, credentialBackedUp, credentialDeviceType } = authenticationInfo
  // It is said once for all when a credential is made (WebAuthn Level 3 section 7.2).
  if ((credentialDeviceType === 'multiDevice') !== passkey.backupEligible) return undefined
  return { signCount: newCounter, backedUp: credentialBackedUp }
}

async function checkAttestation(
  attestation: Attestation,
  { party, challenge }: Expected,
): Promise<NonNullable<VerifiedRegistrationResponse['registrationInfo']> | undefined> {
  const { response, ...rest } = attestation
  const transports = response.transports as AuthenticatorTransportFuture[]
  const given = response.attestationObject
  const { verified, registrationInfo } = await orRefused(async () => {
    const attestationObject = party.attestation ? given : withoutStatement(given)
    return verifyRegistrationResponse({
      response: { ...rest, response: { ...response, attestationObject, transports } },
      expectedChallenge: challenge,
      expectedOrigin: party.origin,
      expectedRPID: party.id,
      requireUserVerification: true,
      supportedAlgorithmIDs: algorithms,
    })
  })
  return verified ? registrationInfo : undefined
}

/** The library throws whatever it finds wrong, and whatever breaks on the way. */
async function orRefused<T extends { verified: boolean }>(
  work: () => Promise<T>,
): Promise<T | { verified: false; authenticationInfo?: undefined; registrationInfo?: undefined }> {
  try {
    return await work()
  } catch {
    return { verified: false }
  }
}

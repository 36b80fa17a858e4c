/**
 * What browsers may do with passkeys that they have for us (WebAuthn Level 3 section 5.1.10): by
 * the names of the methods that a page calls, with their options. None of it is secret, and none is
 * about a passkey of someone else than the page is for.
 */
import type { Account } from '../storage/account-store.ts'
import type { Passkey } from '../storage/passkey-table.ts'

export interface PasskeySignals {
  /** This server does not know the passkey that the browser has just shown. */
  readonly signalUnknownCredential?: { readonly rpId: string; readonly credentialId: string }
  /** All that there are; the others may go. */
  readonly signalAllAcceptedCredentials?: {
    readonly rpId: string
    /** base64url, as the other id. */
    readonly userId: string
    readonly allAcceptedCredentialIds: readonly string[]
  }
  readonly signalCurrentUserDetails?: {
    readonly rpId: string
    readonly userId: string
    readonly name: string
    readonly displayName: string
  }
}

const userIdOf = ({ id }: Pick<Account, 'id'>) => Buffer.from(id).toString('base64url')

export function unknownPasskeySignal(rpId: string, credentialId: string): PasskeySignals {
  return { signalUnknownCredential: { rpId, credentialId } }
}

/** @param passkeys all of the account: browsers may remove any other. */
export function acceptedPasskeysSignal(
  rpId: string,
  account: Pick<Account, 'id'>,
  passkeys: readonly Pick<Passkey, 'credentialId'>[],
): PasskeySignals {
  return {
    signalAllAcceptedCredentials: {
      rpId,
      userId: userIdOf(account),
      allAcceptedCredentialIds: passkeys.map(({ credentialId }) => credentialId),
    },
  }
}

export function userDetailsSignal(
  rpId: string,
  account: Pick<Account, 'id' | 'email' | 'name'>,
): PasskeySignals {
  const { email: name } = account
  return {
    signalCurrentUserDetails: {
      ...{ rpId, name, displayName: account.name ?? name },
      userId: userIdOf(account),
    },
  }
}

/** Pages of an account on which something is changed. */
import type { Passkey } from '../storage/passkey-table.ts'
import type { Message, MessageKey } from './messages.ts'
import type { PasskeyRequest } from './views.ts'

/** How the person may authenticate for a change. */
export interface AuthenticationView {
  passkey: PasskeyRequest | undefined
  password: boolean
  /** Whether a code is needed beside the password. */
  code: boolean
}

/** Asks the person to authenticate before a change is made. */
export interface ConfirmPage extends AuthenticationView {
  token: string
  /** Where the form goes, below the path of this server. */
  action: string
  heading: Message
  lead: Message
  /** The page that led here, below the path of this server; by default that of ways to sign in. */
  back?: string
  /** Of the account, for password managers. */
  email: string
  /** A text that the change is about. */
  field?: {
    name: string
    label: MessageKey
    value: string
    maxLength: number
    isNewPassword?: true
  }
  problem?: MessageKey | Message
}

/** Has the browser make a passkey. */
export interface NewPasskeyPage {
  token: string
  /** `PublicKeyCredentialCreationOptionsJSON` */
  creation: object
  /** A name that the person may change. */
  name: string
  maxNameLength: number
}

/** Where a person sets how to sign in, by a one-time link. */
export interface AccountLinkPage {
  /** Of the link. */
  token: string
  email: string
  /** `PublicKeyCredentialCreationOptionsJSON`; undefined where browsers make no passkeys. */
  creation: object | undefined
  /** Of the passkey. */
  name: string
  /** Whether a password can be set. */
  password: boolean
  problem?: MessageKey | Message
}

/** For someone who cannot sign in: asks for the address, or says what to do. */
export interface ForgottenPage {
  email: string
  /** `no_mail`: this server sends none. */
  state: 'ask' | 'sent' | 'no_mail'
  problem?: MessageKey | Message
}

/** A change of an email, from its request to its end. */
export type EmailChangePage = {
  /** The email that the account has, or had before the change. */
  readonly present: string
} & (
  | { readonly state: 'no_mail' }
  | { readonly state: 'sent' | 'taken' | 'done'; readonly email: string }
  /** By the token of its link. */
  | { readonly state: 'confirm'; readonly email: string; readonly token: string }
)

/** Where people make an account for themselves, up to the link in which they set how to sign in. */
export type SignUpPage =
  | {
      readonly state: 'ask'
      readonly email: string
      /** Of an invitation. */
      readonly code: string
      readonly needsCode: boolean
      /** Whose addresses may have an account, where no code is needed. */
      readonly domains: readonly string[]
      /** The uid of the sign-in that they come from, or nothing. */
      readonly interaction: string
      readonly problem?: MessageKey | Message
    }
  | {
      readonly state: 'confirm'
      readonly email: string
      /** Of the link. */
      readonly token: string
      readonly name: string
      readonly problem?: MessageKey
    }
  | { readonly state: 'sent' | 'used_up' | 'has_account'; readonly email: string }

export interface AccountLinkDonePage {
  credential: 'password' | 'passkey'
  /** Where to sign in, below the path of this server; by default at My security. */
  signIn?: string | undefined
}

/** Has the person put a secret into a code app. */
export interface NewCodeAppPage {
  token: string
  secret: string
  uri: string
  /** That the person has authenticated for this page. */
  proof: string
  /** The address as SVG. */
  qr: string
  problem?: MessageKey
}

/** Recovery codes, which are shown once. */
export interface RecoveryCodesPage {
  codes: readonly string[]
}

export interface PasskeyLine {
  id: string
  name: string
  since: Date
  lastUsed: Date | null
  backup: MessageKey
  /** Whether the operator allows its model. */
  isAllowed: boolean
}

export function passkeyLine(passkey: Passkey, isAllowed: boolean): PasskeyLine {
  const { id, name, createdAt, lastUsedAt, backedUp, backupEligible } = passkey
  const possible = backupEligible ? 'passkeys.not_backed_up' : 'passkeys.single_device'
  const backup = backedUp ? 'passkeys.backed_up' : possible
  return { id, name, since: createdAt, lastUsed: lastUsedAt, backup, isAllowed }
}

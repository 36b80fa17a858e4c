import { Eta } from 'eta'
import type { PasskeySignals } from '../passkeys/signals.ts'
import type {
  AccountLinkDonePage,
  AccountLinkPage,
  ConfirmPage,
  EmailChangePage,
  ForgottenPage,
  NewCodeAppPage,
  NewPasskeyPage,
  RecoveryCodesPage,
  SignUpPage,
} from './account-pages.ts'
import type { AssetUrls } from './assets.ts'
import type { BindingLabels } from './binding-labels.ts'
import type { ErrorMessage } from './error-messages.ts'
import { english, type Message, type MessageKey, type Messages } from './messages.ts'
import type {
  AccountDataPage,
  AccountDeletedPage,
  ActivityPage,
  ApplicationsPage,
  ProfilePage,
  SessionsPage,
  SignInMethodsPage,
} from './security-page.ts'

/** A message of ours, or a text that someone else chose. */
export type MessageLabel = Message | string

export interface ConsentLine {
  label: MessageLabel
  /** The name on the wire, where the label cannot stand alone. */
  code?: string
  /** Of a member of authorization details: what the application has sent. */
  value?: MessageLabel
}

export interface ConsentSection {
  /** The resource server that understands the scopes; absent for the account itself. */
  resource?: string
  /** What authorization details ask for, by the API that understands them. */
  lead?: string
  lines: ConsentLine[]
}

/** A page of an application about itself. */
export interface ClientPage {
  readonly label: MessageKey
  readonly uri: string
  readonly host: string
}

export interface ClientView {
  name: string
  pages?: readonly ClientPage[]
  /** The digest of its image. */
  logo?: string
}

/** What people are shown of a client that nobody here has let in. */
export interface OpenClientView {
  /** Of the document that is its client_id; undefined for one that has registered itself. */
  documentHost: string | undefined
  redirectHosts: readonly string[]
  /** Whether any program of the person's own machine can receive what it is sent. */
  isLocalOnly: boolean
}

export interface FormView {
  uid: string
  token: string
}

export interface SignInPage {
  form: FormView
  client: ClientView
  email: string
  /** Whether a username may be typed in place of an email. */
  usernames: boolean
  /** For the script of the page; undefined where passkeys do not work or do not count. */
  passkey: PasskeyRequest | undefined
  /** Whether a password counts as well. */
  password: boolean
  /** For the script of the page; undefined where pages bind no sessions. */
  pageKey: PageKeyRequest | undefined
  signals: PasskeySignals | undefined
  /** Whether people may make an account for themselves. */
  signUp: boolean
  problem?: MessageKey | Message
}

/** Asks for a code after the password. */
export interface SignInCodePage {
  form: FormView
  /** Whose password was right, and that it was. */
  account: string
  proof: string
  pageKey: PageKeyRequest | undefined
  problem?: MessageKey | Message
}

/** What the script registers a key by, and a key that it keeps. */
export interface PageKeyRequest {
  readonly challenge: string
  readonly keep: string
}

/** What the script asks a browser for. */
export interface PasskeyRequest {
  readonly challenge: string
  readonly rpId: string
  readonly allow: readonly string[]
}

export interface ConsentPage {
  form: FormView
  client: ClientView
  email: string
  binding: BindingLabels
  /** Nobody here has looked at what the client says of itself. */
  selfRegistered: boolean
  /** Undefined for a client that an administrator has registered or invited. */
  open: OpenClientView | undefined
  /** Whether the client has changed since the person allowed it. */
  changed: boolean
  asked: ConsentSection[]
  allowed: ConsentSection[]
  /** Where the person is sent next; undefined where another device of theirs continues. */
  redirect: MessageLabel | undefined
}

export interface DeviceCodePage {
  token: string
  userCode: string
  problem?: MessageKey | Message
}

export interface DeviceConfirmPage {
  token: string
  userCode: string
  client: ClientView
  binding: BindingLabels
  selfRegistered: boolean
  /** What has asked for the code, and from where. */
  program: MessageLabel
  address: MessageLabel
  /** Whether that is another network than the reader's. */
  isElsewhere: boolean
}

export interface DeviceDonePage {
  allowed: boolean
  clientName?: string
}

export interface ErrorPage extends ErrorMessage {
  requestId: string
}

export interface SignOutPage {
  /** oidc-provider's own form with its token, as HTML. */
  form: string
  formId: string
  clientName?: string
}

export interface SignedOutPage {
  /** They chose to leave one client only. */
  stillSignedIn: boolean
  clientName?: string
  /** What applications have us open in the background, so that they end their sessions too. */
  frames?: readonly string[]
  /** Where the person is sent a moment later. */
  next?: string
}

/** A request of the backchannel (CIBA) that waits for the reader. */
export interface ApprovalLine {
  id: string
  client: ClientView
  /** What the application shows as well. */
  message: string
  asked: ConsentSection[]
  binding: BindingLabels
}

export interface ApprovalsPage {
  email: string
  token: string
  requests: ApprovalLine[]
}

export interface Views {
  approvals(page: ApprovalsPage): string
  signIn(page: SignInPage): string
  consent(page: ConsentPage): string
  deviceCode(page: DeviceCodePage): string
  deviceConfirm(page: DeviceConfirmPage): string
  deviceDone(page: DeviceDonePage): string
  error(page: ErrorPage): string
  signOut(page: SignOutPage): string
  signedOut(page: SignedOutPage): string
  /** Opens itself again at once or after some seconds, or another page of ours. */
  interstitial(to?: string, afterS?: number): string
  profile(page: ProfilePage): string
  signInMethods(page: SignInMethodsPage): string
  sessions(page: SessionsPage): string
  applications(page: ApplicationsPage): string
  activity(page: ActivityPage): string
  accountData(page: AccountDataPage): string
  accountDeleted(page: AccountDeletedPage): string
  confirm(page: ConfirmPage): string
  newPasskey(page: NewPasskeyPage): string
  newCodeApp(page: NewCodeAppPage): string
  recoveryCodes(page: RecoveryCodesPage): string
  signInCode(page: SignInCodePage): string
  accountLink(page: AccountLinkPage): string
  forgotten(page: ForgottenPage): string
  emailChange(page: EmailChangePage): string
  signUp(page: SignUpPage): string
  accountLinkDone(page: AccountLinkDonePage): string
}

export interface ViewsOptions {
  assets: AssetUrls
  /** The public path of this server, which all addresses on its pages begin with. */
  base?: string
  messages?: Messages
}

export function createViews({ assets, base = '', messages = english }: ViewsOptions): Views {
  const eta = new Eta({ views: `${import.meta.dirname}/views`, cache: true, autoEscape: true })
  const shown = (label: MessageLabel) => (typeof label === 'string' ? label : messages.text(label))
  const view =
    <Page extends object>(name: string) =>
    (page: Page) =>
      eta.render(name, { assets, base, ...messages, shown, ...page })
  return {
    approvals: view<ApprovalsPage>('approvals'),
    signIn: view<SignInPage>('sign-in'),
    consent: view<ConsentPage>('consent'),
    deviceCode: view<DeviceCodePage>('device-code'),
    deviceConfirm: view<DeviceConfirmPage>('device-confirm'),
    deviceDone: view<DeviceDonePage>('device-done'),
    error: view<ErrorPage>('error'),
    signOut: view<SignOutPage>('sign-out'),
    signedOut: view<SignedOutPage>('signed-out'),
    profile: view<ProfilePage>('account-profile'),
    signInMethods: view<SignInMethodsPage>('account-sign-in'),
    sessions: view<SessionsPage>('account-sessions'),
    applications: view<ApplicationsPage>('account-applications'),
    activity: view<ActivityPage>('account-activity'),
    accountData: view<AccountDataPage>('account-data'),
    accountDeleted: view<AccountDeletedPage>('account-deleted'),
    confirm: view<ConfirmPage>('confirm'),
    newPasskey: view<NewPasskeyPage>('new-passkey'),
    newCodeApp: view<NewCodeAppPage>('new-code-app'),
    recoveryCodes: view<RecoveryCodesPage>('recovery-codes'),
    signInCode: view<SignInCodePage>('sign-in-code'),
    accountLink: view<AccountLinkPage>('account-link'),
    forgotten: view<ForgottenPage>('forgotten'),
    emailChange: view<EmailChangePage>('email-change'),
    signUp: view<SignUpPage>('sign-up'),
    accountLinkDone: view<AccountLinkDonePage>('account-link-done'),
    interstitial: (to = '', afterS = 0) => view('interstitial')({ to, afterS }),
  }
}

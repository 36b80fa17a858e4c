/** Decides whether a request passes, and what its application may learn of who asks. */
import type { VerifyError } from '@holdfast/verify'
import type { GateIdentity } from '@holdfast/verify/gate'
import type { Application } from './application.ts'
import { type Admission, admit as admitBrowser, isInGroups } from './browser/admission.ts'
import type { Answer } from './browser/answers.ts'
import { serveBrowser } from './browser/browsers.ts'
import type { ReadText } from './browser/kept-forms.ts'
import { gatePath } from './browser/requests.ts'
import type { Side } from './browser/side.ts'
import type { Secrets } from './browser/upstream-tokens.ts'
import type { Entered } from './edge.ts'
import type { GateEventListener, PolicyRefusal } from './events.ts'
import { valuesOf } from './headers.ts'
import { identityOf, sessionIdentity } from './identity.ts'
import type { Rule } from './policy.ts'
import { Refusal } from './refusal.ts'
import { type Holder, holderOf } from './streams.ts'

/** Where the gate publishes the keys that it signs with, at the origin of each application. */
export const keySetPath = '/.well-known/holdfast-gate/jwks.json'

/** Where browsers look for sessions of DBSC that sites share. */
const bindingsPath = '/.well-known/device-bound-sessions'

/** How a request is to be admitted. */
export type Asking = Readonly<{
  isUpgrade: boolean
  readText: ReadText
  report: GateEventListener
  /** Whether a proxy asks, which would take a page of the gate for a yes. */
  isAsked?: boolean
}>

type BoundRule = Extract<Rule, { access: 'bound' }>

/** What the gate knows of who asks. */
type Known = Readonly<{
  identity: GateIdentity | undefined
  /** Of the browser's session, for an application that gets its access token. */
  secrets: Secrets | undefined
  answerFields: readonly string[]
  /** With which a stream ends; undefined for one that anyone may open. */
  holder: Holder | undefined
}>

const anonymous: Known = Object.freeze({
  identity: undefined,
  secrets: undefined,
  holder: undefined,
  answerFields: [],
})

/** A request that continues to its application. */
export type Passed = Readonly<{ kind: 'pass'; application: Application }> & Known

/** What was decided about a request. */
export type Admitted =
  | Passed
  | Readonly<{ kind: 'key_set'; application: Application }>
  | Readonly<{ kind: 'answer'; application: Application; answer: Answer }>
  | Readonly<{ kind: 'keep'; application: Application; side: Side }>

/**
 * Decides about a request before its body is looked at: the application by the host, the gate's own
 * pages, the rule of the path, and then the session of a browser or an access token.
 *
 * @throws {@link Refusal} or `VerifyError` for a request that does not pass.
 */
export async function admit(
  entered: Entered,
  applications: ReadonlyMap<string, Application>,
  { isUpgrade, readText, report, isAsked = false }: Asking,
): Promise<Admitted> {
  const application = applications.get(entered.host)
  if (application === undefined) throw new Refusal('unknown_host')
  const { side } = application
  if (isAsked && isOwnPath(application, entered.target.path)) throw new Refusal('not_routed')
  const own = side && !isUpgrade && (await serveBrowser(side, entered, readText))
  if (own) return { kind: 'answer', application, answer: own }
  const { path } = entered.target
  if (path === keySetPath && /^(?:GET|HEAD)$/.test(entered.method)) {
    return { kind: 'key_set', application }
  }
  const rule = application.policy(entered.method, path)
  if (rule.access === 'public') return { kind: 'pass', application, ...anonymous }
  // A request with a token is one of an API, whatever cookies come with it.
  if (side && valuesOf(entered.fields, 'authorization').length === 0) {
    const admission = await admitBrowser(side, entered, { rule, isUpgrade })
    return admittedBrowser({ application, side, admission })
  }
  return admitToken(application, entered, { rule, report })
}

/** Whether the gate itself answers at a path: to a browser, or with its keys. */
function isOwnPath({ side }: Application, path: string): boolean {
  const isPage = path === gatePath || path.startsWith(`${gatePath}/`)
  return path === keySetPath || (side !== undefined && (isPage || path === bindingsPath))
}

/** Verifies the access token of a request, and what its route asks for. */
async function admitToken(
  application: Application,
  entered: Entered,
  { rule, report }: Readonly<{ rule: BoundRule; report: GateEventListener }>,
): Promise<Passed> {
  const { verifier, config } = application
  const { method, target, fields, certificate, tokenBinding } = entered
  const verified = await verifier.verify({
    method,
    url: target.path + target.query,
    headers: fields,
    ...(certificate && { certificate }),
    ...(tokenBinding && {
      tokenBinding: { providedId: Buffer.from(tokenBinding.provided.id, 'base64url') },
    }),
  })
  try {
    verifier.checkRequirements(verified, rule.requirements)
    if (!isInGroups(verified.claims, rule.groups)) throw new Refusal('groups')
  } catch (error) {
    const code = (error as VerifyError | Refusal).code as PolicyRefusal
    const { sub } = verified.claims
    const facts = { requestId: entered.requestId, route: rule.route, sub, jkt: verified.proof?.jkt }
    report({ type: 'policy_refused', application: config.origin, ...facts, code })
    throw error
  }
  return {
    ...{ kind: 'pass', application, secrets: undefined },
    identity: identityOf(verified, config.claims),
    holder: holderOf(verified, config.origin),
    answerFields: Object.entries(verified.responseHeaders ?? {}).flat(),
  }
}

function admittedBrowser({
  application,
  side,
  admission,
}: Readonly<{ application: Application; side: Side; admission: Admission }>): Admitted {
  if (admission.kind === 'keep') return { kind: 'keep', application, side }
  if (admission.kind === 'answer') return { ...admission, application }
  const { session, boundBy, secrets, holder } = admission
  const identity = sessionIdentity(session.claims, boundBy, application.config.claims)
  return { kind: 'pass', application, identity, secrets, holder, answerFields: [] }
}

import { styleText } from 'node:util'
import type { RunningServer } from '../server.ts'
import type { FirstSteps } from './first-steps.ts'
import { asFacts } from './table.ts'

/** What a server that has started says of itself. */
export interface WelcomeFacts extends Pick<RunningServer, 'issuer' | 'authorityFile'> {
  readonly firstSteps: FirstSteps
}

/** The first lines that a person sees. */
export function welcome({ issuer, authorityFile, firstSteps }: WelcomeFacts): string {
  const { account, hasAccounts, clientId } = firstSteps
  const facts: [string, string][] = [
    ['Issuer', styleText('bold', issuer)],
    ['Metadata', `${issuer}/.well-known/openid-configuration`],
  ]
  if (authorityFile) facts.push(['Trust', `NODE_EXTRA_CA_CERTS=${authorityFile}`])
  if (account) {
    facts.push(['Account', account.email])
    facts.push(['Password', `${styleText('bold', account.password)}  (shown this once)`])
  }
  if (!hasAccounts) facts.push(['Accounts', 'none: "holdfast accounts add EMAIL" adds one'])
  if (clientId) {
    facts.push(['Client', `${clientId}  (public, DPoP, redirects to http://127.0.0.1:*/callback)`])
  }
  return `${asFacts(styleText('green', 'Holdfast is ready.'), facts)}\n\nCtrl-C stops it.`
}

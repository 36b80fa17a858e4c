import type { ClientMetadata } from 'oidc-provider'
import type { RequestedMetadata } from '../../src/clients/client-registration.ts'
import { deviceGrant } from '../../src/clients/grant-types.ts'
import type { Page } from './browser.ts'
import { type Answer, type Person, type PostOptions, post } from './flow.ts'
import { email, password, type TestServer } from './server.ts'

export { deviceGrant }

/** What a server for these tests is started with: all of them are one network. */
export const deviceEnvironment = {
  HOLDFAST_DEVICE_FLOW: 'on',
  HOLDFAST_DEVICE_LIMIT: '100000',
  HOLDFAST_USER_CODE_LIMIT: '100000',
}

/** A public client without a browser. */
export const television: RequestedMetadata = {
  client_name: 'Living room television',
  redirect_uris: [],
  grant_types: [deviceGrant, 'refresh_token'],
  response_types: [],
}

type Server = Pick<TestServer, 'issuer'>

/** RFC 8628 section 3.1. */
export function askForCode(
  server: Server,
  { client_id }: Pick<ClientMetadata, 'client_id'>,
  options: PostOptions = {},
  parameters: Record<string, string> = {},
): Promise<Answer> {
  const asked = { client_id, scope: 'openid', ...parameters }
  return post(server, '/device_authorization', asked, options)
}

/** RFC 8628 section 3.4. */
export function redeem(
  server: Server,
  { client_id }: Pick<ClientMetadata, 'client_id'>,
  deviceCode: string,
  options: PostOptions = {},
): Promise<Answer> {
  const parameters = { grant_type: deviceGrant, client_id, device_code: deviceCode }
  return post(server, '/token', parameters, options)
}

/** Types a user code into the form. */
export async function typeCode(
  server: Server,
  { browser }: Person,
  userCode: string,
): Promise<Page> {
  const page = await browser.visit(`${server.issuer}/device`)
  return browser.submit(page, 'Continue', { user_code: userCode })
}

/** Goes on from the page that shows a code to compare, to the end. */
export async function letIn(
  { browser }: Person,
  confirm: Page,
  credentials: { email: string; password: string } = { email, password },
): Promise<Page> {
  let page = await browser.submit(confirm, 'Continue', { confirm: 'yes' })
  if (page.html.includes('>Sign in<')) page = await browser.submit(page, 'Sign in', credentials)
  if (page.html.includes('>Allow<')) page = await browser.submit(page, 'Allow')
  return page
}

/** A person with a user code, from the form to the end. */
export async function approve(server: Server, person: Person, userCode: string): Promise<Page> {
  return letIn(person, await typeCode(server, person, userCode))
}

// `npm run docs:images`: takes the screenshots of docs/images in Chromium, each page on a phone and
// at a desk, light and dark. Look at every one of them: nothing else does.
import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { Secret, TOTP } from 'otpauth'
import { createAccountLinks } from '../../src/accounts/account-links.ts'
import { createAccounts } from '../../src/accounts/accounts.ts'
import { makePrintedCode, printedCodeDigest } from '../../src/accounts/one-time-codes.ts'
import { linkAddress } from '../../src/http/routes.ts'
import { cheapCost } from '../support/accounts.ts'
import { launchBoundChromium } from '../support/bound-chromium.ts'
import { certificateOf } from '../support/chromium-program.ts'
import { authorizationUrl, begin, signIn } from '../support/journey.ts'
import { root } from '../support/markdown.ts'
import { startNodes } from '../support/nodes.ts'
import { startRelyingParty } from '../support/relying-party.ts'
import { password } from '../support/server.ts'
import { linkOf, startSmtp } from '../support/smtp.ts'
import { trust } from '../support/trust.ts'
import { addVirtualAuthenticator } from '../support/virtual-authenticator.ts'

const folder = path.join(root, 'docs/images')
const email = 'grace@example.com'
const looks = {
  phone: { width: 360, height: 640 },
  desktop: { width: 720, height: 480 },
} as const

await using opened = new AsyncDisposableStack()
const smtp = opened.use(await startSmtp())
const app = await startRelyingParty()
opened.defer(() => app.close())
const nodes = opened.use(
  await startNodes({
    HOLDFAST_ACCOUNT_SELF_SERVICE: 'name,email,locale,export,delete',
    HOLDFAST_SMTP_URL: `smtp://127.0.0.1:${smtp.port}`,
    HOLDFAST_MAIL_FROM: 'no-reply@example.com',
    HOLDFAST_SIGN_UP: 'invitation',
  }),
)
await trust(nodes)
const { server } = nodes
const { issuer, storage } = server
const certificates = await Promise.all([
  certificateOf(nodes.port, 'localhost'),
  certificateOf(Number(app.address.split(':')[1]), 'rp.example'),
])
const hosts = { 'rp.example': app.address, 'app.example': app.address }
const browser = await launchBoundChromium(certificates, hosts)
opened.defer(() => browser.close())
await createAccounts({ store: storage.accounts, cost: cheapCost }).add({
  ...{ email, name: 'Grace Hopper', emailVerified: true, locale: 'en-GB', groups: ['crew'] },
})
await storage.resourceServers.insert({
  identifier: 'https://orders.example.com',
  name: 'Orders',
  scopes: ['orders:read'],
  scopeLabels: { 'orders:read': 'See your orders' },
})
const { client_id } = await server.addClient({
  application_type: 'web',
  client_name: 'Harbour Orders',
  redirect_uris: ['https://rp.example/callback'],
})
const request = {
  client_id,
  redirect_uri: 'https://rp.example/callback',
  scope: 'openid profile email orders:read',
  resource: 'https://orders.example.com',
}

const context = await browser.newContext({ reducedMotion: 'reduce', locale: 'en-GB' })
const page = await context.newPage()
const { cdp, authenticatorId } = await addVirtualAuthenticator(page)

for (const name of readdirSync(folder)) {
  if (/\.(png|webp)$/.test(name)) rmSync(path.join(folder, name))
}
mkdirSync(folder, { recursive: true })

/** Takes a page in each look. */
async function look(name: string): Promise<void> {
  for (const [device, viewport] of Object.entries(looks)) {
    await page.setViewportSize(viewport)
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme })
      const height = Number(await page.evaluate('document.documentElement.scrollHeight'))
      const clip = { x: 0, y: 0, width: viewport.width, height, scale: 1 }
      const { data } = await cdp.send('Page.captureScreenshot', {
        ...{ format: 'webp', quality: 25, clip },
        captureBeyondViewport: true,
      })
      const file = path.join(folder, `${name}-${device}-${colorScheme}.webp`)
      writeFileSync(file, Buffer.from(data, 'base64'))
    }
  }
}

const simulate = (enabled: boolean) =>
  cdp.send('WebAuthn.setAutomaticPresenceSimulation', { authenticatorId, enabled })

const press = (name: string) => page.getByRole('button', { name }).click({ noWaitAfter: true })

// A person makes an account by an invitation.
const code = makePrintedCode()
await storage.signUps.insertInvitation(printedCodeDigest(code) as Buffer, {
  ...{ name: 'Crew', groups: ['crew'], uses: 1, lifetimeS: 3600 },
})
const newEmail = 'lin@example.com'
await page.goto(`${issuer}/sign-up?code=${code}`)
await page.getByLabel('Email').fill(newEmail)
await look('sign-up')
await press('Continue')
await page.getByText('Look at your mail').waitFor()
await look('sign-up-sent')
await page.goto(linkOf(await smtp.mailTo(newEmail)))
await page.getByLabel('Your name').fill('Lin Clark')
await look('sign-up-confirm')

// The first sign-in of a person: from the link to an application.
const links = createAccountLinks({
  table: storage.accountLinks,
  store: storage.accounts,
  address: linkAddress(issuer),
})
const { link } = await links.invite(email)
await page.goto(link)
await look('link')
await press('Create the passkey')
await page.getByText('Your passkey was added').waitFor()
await look('link-done')
// A passkey that is at hand would be shown at once, where the email is typed.
await simulate(false)
await page.goto(authorizationUrl(issuer, request))
await look('sign-in')
await simulate(true)
await press('Use a passkey')
await page.getByRole('button', { name: 'Allow' }).waitFor()
await look('consent')
await press('Allow')
await page.waitForURL(/welcome/)

// Other ways to sign in.
await page.goto(`${issuer}/security/passkeys/add`)
await look('confirm')
await press('Continue with a passkey')
await page.getByLabel('Name').waitFor()
await look('new-passkey')
await page.goto(`${issuer}/security/password`)
await page.getByLabel('New password').fill(password)
await look('password')
await press('Continue with a passkey')
await page.waitForURL(/sign-in$/)
await page.goto(`${issuer}/security/profile/email`)
const anotherEmail = 'grace@example.org'
await page.getByLabel('New email').fill(anotherEmail)
await look('email')
await press('Continue with a passkey')
await page.getByText('Look at your mail').waitFor()
await look('email-sent')
await page.goto(linkOf(await smtp.mailTo(anotherEmail)))
await look('email-confirm')
await press('Confirm this address')
await page.getByText('Your email was changed').waitFor()
await look('email-done')
await createAccounts({ store: storage.accounts }).change(anotherEmail, {
  email,
  emailVerified: true,
})
await page.goto(`${issuer}/security/code-app`)
await press('Continue with a passkey')
await page.getByLabel('Then type the code').waitFor()
await look('code-app')
const secret = (await page.locator('input[name=secret]').getAttribute('value')) ?? ''
await page
  .getByLabel('Then type the code')
  .fill(new TOTP({ secret: Secret.fromBase32(secret) }).generate())
await press('Finish')
await page.getByText('I have kept them').waitFor()
await look('recovery-codes')

// Somebody else knows the email, and another browser is signed in.
for (const typed of ['a guess', 'another guess']) {
  const login = await begin({ origin: issuer }, request)
  await signIn(login, { email, password: typed })
}
for (const [name, ready] of [
  ['profile', 'Grace Hopper'],
  ['sign-in', 'Passkeys'],
  ['sessions', 'this browser'],
  ['applications', 'Harbour Orders'],
  ['activity', 'Failed sign-ins'],
  ['data', 'Delete your account'],
] as const) {
  await page.goto(`${issuer}/security/${name}`)
  await page.getByText(ready).first().waitFor()
  await look(`account-${name}`)
}
await page.goto(`${issuer}/security/data/delete`)
await look('delete')
await simulate(false)
await page.goto(authorizationUrl(issuer, { ...request, prompt: 'login' }))
await page.getByLabel('Email').fill(email)
await page.getByLabel('Password').fill(password)
await press('Sign in')
await page.getByLabel('Code').waitFor()
await look('sign-in-code')
await page.getByLabel('Code').fill('000000')
await press('Sign in')
await page.getByRole('alert').waitFor()
await look('sign-in-code-error')

const files = readdirSync(folder).filter((name) => name.endsWith('.webp'))
const bytes = files.reduce((sum, name) => sum + statSync(path.join(folder, name)).size, 0)
process.stdout.write(`${files.length} images, ${bytes} bytes\n`)

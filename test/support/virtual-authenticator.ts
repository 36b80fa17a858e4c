import type { CDPSession, Page } from 'playwright-core'

/** An authenticator built into the device, whose user has just shown a face or a finger. */
const platform = {
  protocol: 'ctap2',
  transport: 'internal',
  hasResidentKey: true,
  hasUserVerification: true,
  isUserVerified: true,
} as const

/** Gives a page Chromium's virtual authenticator: by default one that confirms everything at once. */
export async function addVirtualAuthenticator(
  page: Page,
  options: object = { automaticPresenceSimulation: true },
): Promise<{ cdp: CDPSession; authenticatorId: string }> {
  const cdp = await page.context().newCDPSession(page)
  await cdp.send('WebAuthn.enable')
  const { authenticatorId } = await cdp.send('WebAuthn.addVirtualAuthenticator', {
    options: { ...platform, ...options },
  })
  return { cdp, authenticatorId }
}

import { existsSync } from 'node:fs'
import { type Browser, chromium } from 'playwright-core'

export const CHROMIUM = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
].find((path) => existsSync(path))

/** `hosts` maps names such as "rp.example" to a loopback address and port. */
export function launchChromium(hosts: Record<string, string> = {}): Promise<Browser> {
  return chromium.launch({
    ...(CHROMIUM === undefined ? {} : { executablePath: CHROMIUM }),
    args: chromiumArguments(hosts),
  })
}

export function chromiumArguments(hosts: Record<string, string>): string[] {
  const rules = Object.entries(hosts).map(([name, address]) => `MAP ${name} ${address}`)
  return [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    `--host-resolver-rules=${rules.join(',')}`,
  ]
}

import { type Browser, chromium } from 'playwright-core'
import { CHROMIUM, chromiumArguments } from './chromium-program.ts'

export { CHROMIUM }

/** `hosts` maps names such as "rp.example" to a loopback address and port. */
export function launchChromium(hosts: Record<string, string> = {}): Promise<Browser> {
  return chromium.launch({
    ...(CHROMIUM === undefined ? {} : { executablePath: CHROMIUM }),
    args: chromiumArguments(hosts),
  })
}

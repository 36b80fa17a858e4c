import { type Browser, chromium } from 'playwright-core'
import { chromiumArguments, chromiumPath } from './chromium-program.ts'

export { chromiumPath }

/** `hosts` maps names such as "rp.example" to a loopback address and port. */
export function launchChromium(hosts: Record<string, string> = {}): Promise<Browser> {
  return chromium.launch({
    ...(chromiumPath === undefined ? {} : { executablePath: chromiumPath }),
    args: chromiumArguments(hosts),
  })
}

import type { BrowserContextOptions } from 'playwright-core'

/** What every page is looked at in. */
export const looks: Record<string, BrowserContextOptions> = {
  light: { colorScheme: 'light', viewport: { width: 1100, height: 800 } },
  dark: { colorScheme: 'dark', viewport: { width: 1100, height: 800 } },
  phone: { colorScheme: 'light', viewport: { width: 320, height: 640 }, deviceScaleFactor: 2 },
  'phone-dark': {
    colorScheme: 'dark',
    viewport: { width: 320, height: 640 },
    deviceScaleFactor: 2,
  },
}

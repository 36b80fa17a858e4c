import { english, type Message } from './messages.ts'

const browsers: readonly [pattern: RegExp, name: string][] = [
  [/Edg\//, 'Edge'],
  [/OPR\//, 'Opera'],
  [/Firefox\//, 'Firefox'],
  [/(?:Headless)?Chrom(?:e|ium)\//, 'Chrome'],
  [/Safari\//, 'Safari'],
]

const systems: readonly [pattern: RegExp, name: string][] = [
  [/iPhone|iPad/, 'iOS'],
  [/Android/, 'Android'],
  [/Windows/, 'Windows'],
  [/Macintosh/, 'macOS'],
  [/CrOS/, 'ChromeOS'],
  [/Linux/, 'Linux'],
]

/** The browser and system that a `User-Agent` claims. Any program can claim any browser. */
export function browserLabel(userAgent: string): Message | string {
  const nameOf = (known: typeof browsers) => known.find(([pattern]) => pattern.test(userAgent))?.[1]
  const [browser, system] = [nameOf(browsers), nameOf(systems)]
  if (!browser) return { key: 'browser.unknown' }
  return system ? { key: 'browser.on_system', values: { browser, system } } : browser
}

/** The same as text, to begin a name with that the person may change. */
export function browserName(userAgent: string): string {
  const label = browserLabel(userAgent)
  return typeof label === 'string' ? label : english.text(label)
}

/** Checks of options. Each names the option it refuses. */
import { isObject } from './json.ts'
import { supportedAlgorithms } from './signature.ts'

/** The names of an options type, each of them: a name that is missing or too many does not compile. */
export function namesOf<Options extends object>(
  names: Readonly<Record<keyof Options, true>>,
): ReadonlySet<string> {
  return new Set(Object.keys(names))
}

/**
 * An options object with names that are known only: of a misspelt one the default would count, and
 * nobody would notice that a check is off.
 */
export function checkNames(name: string, options: unknown, known: ReadonlySet<string>): void {
  if (!isObject(options)) throw new TypeError(`${name} must be an object`)
  for (const each of Object.keys(options)) {
    if (!known.has(each)) throw new TypeError(`${name}: ${JSON.stringify(each)} is not known`)
  }
}

/** A switch: `true` or `false`, and no text that only looks like one. */
export function flag(name: string, value: unknown, fallback = false): boolean {
  const given = value ?? fallback
  if (typeof given !== 'boolean') throw new TypeError(`${name} must be true or false`)
  return given
}

/** A function, where there is one. */
export function optionalFunction(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'function') {
    throw new TypeError(`${name} must be a function`)
  }
}

/** An object with these methods, where there is one. */
export function optionalMethods(name: string, value: unknown, methods: readonly string[]): void {
  if (value === undefined) return
  const object = typeof value === 'object' && value !== null ? value : {}
  for (const method of methods) {
    if (typeof Reflect.get(object, method) !== 'function') {
      throw new TypeError(`${name} must have a method ${method}`)
    }
  }
}

/** A list of algorithms this library knows; all of them when left out. */
export function checkAlgorithms(
  name: string,
  algorithms: readonly string[] | undefined,
): readonly string[] {
  if (algorithms === undefined) return supportedAlgorithms
  if (!Array.isArray(algorithms)) throw new TypeError(`${name} must be an array`)
  for (const algorithm of algorithms) {
    if (!supportedAlgorithms.includes(algorithm)) {
      throw new TypeError(`${name}: ${JSON.stringify(algorithm)} is not supported`)
    }
  }
  if (algorithms.length === 0) throw new TypeError(`${name} must not be empty`)
  return Object.freeze([...algorithms])
}

/** Keys and metadata over plain HTTP could be anyone's; loopback is for development and tests. */
export function checkUrl(name: string, text: unknown): void {
  const url = typeof text === 'string' && URL.canParse(text) ? new URL(text) : undefined
  const loopback = url && /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/.test(url.hostname)
  if (url?.protocol !== 'https:' && !(loopback && url?.protocol === 'http:')) {
    throw new TypeError(`${name} must be an https URL`)
  }
}

/** A text, or several, as a list. */
export function textList(name: string, value: unknown): readonly string[] {
  const list: readonly unknown[] = Array.isArray(value) ? value : [value]
  if (list.length === 0 || !list.every((item) => typeof item === 'string' && item !== '')) {
    throw new TypeError(`${name} must be a non-empty string or an array of them`)
  }
  return Object.freeze([...list]) as readonly string[]
}

/** A number greater than zero. */
export function positive(name: string, value: number | undefined, fallback: number): number {
  const number = duration(name, value, fallback)
  if (number === 0) throw new TypeError(`${name} must be greater than zero`)
  return number
}

/** A number that is not negative. */
export function duration(name: string, value: number | undefined, fallback: number): number {
  const number = value ?? fallback
  if (!Number.isFinite(number) || number < 0) {
    throw new TypeError(`${name} must be a number that is not negative`)
  }
  return number
}

/** Secrets that nobody can guess. */
export function checkSecrets(secrets: readonly Uint8Array[]): readonly Uint8Array[] {
  if (secrets.length === 0 || secrets.some((secret) => secret.length < 32)) {
    throw new TypeError('secrets: at least one, of at least 32 bytes each')
  }
  return secrets
}

/** What to do with headers of peers that are no proxy of ours. */
export function checkUntrusted(untrusted: unknown): void {
  if (untrusted !== 'refuse' && untrusted !== 'ignore') {
    throw new TypeError('untrusted must be refuse or ignore')
  }
}

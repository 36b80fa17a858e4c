/** Checks of options. Each names the option it refuses. */
import { supportedAlgorithms } from './signature.ts'

/** A list of algorithms this library knows; all of them when left out. */
export function checkAlgorithms(
  name: string,
  algorithms: readonly string[] | undefined,
): readonly string[] {
  if (algorithms === undefined) return supportedAlgorithms
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
  if (typeof number !== 'number' || !Number.isFinite(number) || number < 0) {
    throw new TypeError(`${name} must be a number that is not negative`)
  }
  return number
}

import { parseJson } from './json.ts'

/** The part of `fetch` this library uses. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>

/** No key set, metadata document or introspection answer is longer, in bytes. */
const maxBytes = 1_048_576
const timeoutMilliseconds = 5000

/** A response that was read to its end, within the bounds. */
export type Fetched = Readonly<{ status: number; contentType: string; bytes: Buffer }>

/**
 * Fetches a document from an issuer: no redirects, five seconds, one mebibyte.
 *
 * A redirect could lead a request with credentials, or the trust in an issuer's host, elsewhere.
 */
export async function fetchBytes(
  fetch: Fetch,
  url: string,
  init: RequestInit = {},
): Promise<Fetched> {
  const signal = AbortSignal.timeout(timeoutMilliseconds)
  const response = await fetch(url, { ...init, redirect: 'error', signal })
  const chunks: Uint8Array[] = []
  let length = 0
  if (response.body !== null) {
    const reader = response.body.getReader()
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      length += read.value.byteLength
      if (length > maxBytes) {
        await reader.cancel()
        throw new Error(`response is larger than ${maxBytes} bytes`)
      }
      chunks.push(read.value)
    }
  }
  return {
    status: response.status,
    contentType: response.headers.get('content-type') ?? '',
    bytes: Buffer.concat(chunks),
  }
}

/** Fetches a JSON value; any status but 200 is an error. */
export async function fetchJson(fetch: Fetch, url: string): Promise<unknown> {
  const { status, bytes } = await fetchBytes(fetch, url, {
    headers: { accept: 'application/json' },
  })
  if (status !== 200) throw new Error(`status ${status}`)
  const value = parseJson(bytes)
  if (value === undefined) throw new Error('response is not JSON, too deep, or has a member twice')
  return value
}

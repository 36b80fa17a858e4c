import { Agent, fetch as undiciFetch } from 'undici'

/** A `fetch` whose connections show a client certificate. PEM throughout. */
export function certificateFetch(connect: {
  cert: string
  key: string
  ca: string
}): typeof globalThis.fetch & AsyncDisposable {
  const dispatcher = new Agent({ connect })
  const fetch = (url: string | URL, init: object = {}) =>
    undiciFetch(url, { ...init, dispatcher }) as unknown as Promise<Response>
  return Object.assign(fetch as typeof globalThis.fetch, {
    [Symbol.asyncDispose]: () => dispatcher.close(),
  })
}

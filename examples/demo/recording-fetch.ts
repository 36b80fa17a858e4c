/** A `fetch`, and the last response that came by it. */
export function recordingFetch(fetch: typeof globalThis.fetch) {
  let last = Response.error()
  return {
    lastResponse: () => last,
    fetch: async (...request: Parameters<typeof fetch>) => {
      last = await fetch(...request)
      return last
    },
  }
}

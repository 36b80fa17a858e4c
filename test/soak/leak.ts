/*
 * Loaded into the nodes of a soak that is to fail: of each request so many bytes are never given
 * back, as `leak.ts?bytes=1000` says.
 */
import diagnostics from 'node:diagnostics_channel'

const bytes = Number(new URL(import.meta.url).searchParams.get('bytes'))
const leaked: number[][] = []
// A number in an array takes eight bytes.
diagnostics.subscribe('http.server.request.start', () => {
  leaked.push(Array(Math.ceil(bytes / 8)).fill(0))
})
